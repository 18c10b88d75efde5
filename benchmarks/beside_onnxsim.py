"""Our passes beside onnxsim on the built-in model: nodes, bytes and time of every graph, in runs that take turns.

    python benchmarks/beside_onnxsim.py [--rounds 15] [--threads 1]

Three forms of each canonical graph are compared: ours, ours with the pass `onnxsim` of a build recipe (which leaves
the weights alone), and what onnxsim makes of ours when it may fold the weights too. Times are medians of processor
time, which other programs disturb little; a ratio is the median of the ratios to ours within a round.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

try:
    import onnx
    import onnx_ir as ir
    import onnxruntime
    import onnxsim

    from ldm_export.export.graph_file import read_graph
    from ldm_export.optimise.pipeline import CANONICAL_PASSES, OPTIONAL_PASSES, run_passes
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed; install it with: pip install '.[cpu,export,onnxsim]'")

from ldm_export.tables import markdown_table
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import builtin_package

SIZES = {"batch": 2, "height": 16, "width": 16, "image_height": 128, "image_width": 128}
TOKENS = 32  # one window of the built-in text encoder


def forms_of(path: Path) -> dict[str, onnx.ModelProto]:
    """Return the forms of a graph by name, weights included."""
    forms = {}
    for name, passes in (("ours", CANONICAL_PASSES), ("pass", (*CANONICAL_PASSES, *OPTIONAL_PASSES.values()))):
        model = read_graph(path)
        run_passes(model, passes)
        forms[name] = ir.to_proto(model)
        onnx.load_external_data_for_model(forms[name], str(path.parent))
    forms["folded"], _ = onnxsim.simplify(forms["ours"])
    return forms


def open_session(model: onnx.ModelProto, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def make_feeds(session: Any) -> dict[str, np.ndarray]:
    """Make seeded inputs; an axis of tokens has TOKENS."""
    rng = np.random.default_rng(0)
    feeds = {}
    for each in session.get_inputs():
        shape = [size if isinstance(size, int) else SIZES.get(size, TOKENS) for size in each.shape]
        is_ids = each.type == "tensor(int64)"
        feeds[each.name] = rng.integers(0, 400, shape) if is_ids else rng.standard_normal(shape, np.float32)
    return feeds


def measure(sessions: Mapping[str, Any], rounds: int) -> dict[str, list[float]]:
    """Measure the processor's seconds in each round, by form."""
    feeds = make_feeds(sessions["ours"])
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for index in range(rounds + 2):
        for name in sorted(sessions, reverse=index % 2 == 1):
            start = time.process_time()
            sessions[name].run(None, feeds)
            seconds[name].append(time.process_time() - start)
    return {name: each[2:] for name, each in seconds.items()}  # the first two warm up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    package = builtin_package()
    rows = []
    for component in open_package(package, check="size").manifest.components:
        forms = forms_of(package / component / "model.onnx")
        seconds = measure(
            {name: open_session(form, arguments.threads) for name, form in forms.items()}, arguments.rounds
        )
        for name, form in forms.items():
            constants = sum(node.op_type == "Constant" for node in form.graph.node)
            ratios = [own / ours for own, ours in zip(seconds[name], seconds["ours"], strict=True)]
            counts = [str(len(form.graph.node) - constants), str(constants), f"{form.ByteSize() / 1e6:.2f}"]
            times = [f"{1e3 * statistics.median(seconds[name]):.2f}", f"{statistics.median(ratios):.3f}"]
            rows.append([component, name, *counts, *times])
    print(markdown_table(["graph", "form", "nodes", "Constants", "megabytes", "CPU ms", "to ours"], rows, "<<>>>>>"))


if __name__ == "__main__":
    main()
