"""The passes in the order in which they run, and the loop that runs them on a file."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.optimise.apply_winograd import winograd_for
from ldm_export.optimise.fold_constants import fold_constants
from ldm_export.optimise.fuse_activations import fuse_activations
from ldm_export.optimise.fuse_attention import fuse_attention
from ldm_export.optimise.merge_pairs import merge_pairs
from ldm_export.optimise.remove_no_ops import remove_no_ops
from ldm_export.optimise.remove_unused import remove_unused
from ldm_export.optimise.run_onnxsim import run_onnxsim
from ldm_export.optimise.share_duplicates import share_duplicates
from ldm_export.optimise.simplify_shapes import simplify_shapes
from ldm_export.optimise.split_upsampling import split_upsampling

Pass = Callable[[ir.Model], tuple[ir.Model, int]]

# Standard ONNX to standard ONNX, for every engine.
CANONICAL_PASSES: tuple[Pass, ...] = (
    remove_no_ops,
    simplify_shapes,
    fold_constants,
    merge_pairs,
    share_duplicates,
    remove_unused,
)

# Passes that a build recipe may name; they run after the canonical passes and with them.
OPTIONAL_PASSES: dict[str, Pass] = {"onnxsim": run_onnxsim}

MAX_ROUNDS = 10


def ort_cpu_passes(multiples: Mapping[str, int]) -> tuple[Pass, ...]:
    """Return the passes from canonical ONNX to the operators that ONNX Runtime has for CPUs, for it alone.

    LayerNormalization is one operator already; SkipLayerNormalization, which adds the residual too, is left out on
    purpose: at the shapes of SD 1.5 its CPU kernel took 3 to 5 times as long as Add and LayerNormalization (ONNX
    Runtime 1.32). multiples: axes that are always whole multiples of a number, by name.
    """
    return (
        fuse_attention,
        fuse_activations,
        split_upsampling,
        winograd_for(multiples),
        share_duplicates,
        remove_unused,
    )


@dataclass(frozen=True)
class PassReport:
    """The changes of one pass in all its rounds together."""

    name: str
    modified: int
    operators_before: dict[str, int]  # operator -> how many, when the pass first ran
    operators_after: dict[str, int]  # when it last ran


def optimise(path: Path, out: Path, passes: Sequence[Pass]) -> list[PassReport]:
    """Run `passes` over a graph in rounds until none finds anything; write it to `out`, in the same folder.

    Weights stay in the data file and keep their names. Running it again changes nothing.

    Raises:
        ExportError: `path` is not readable as ONNX, or the result is not valid.
    """
    assert path.parent == out.parent  # both graphs point into one data file beside them
    model = read_graph(path)
    reports = run_passes(model, passes)
    write_graph(model, out)
    return reports


def run_passes(model: ir.Model, passes: Sequence[Pass]) -> list[PassReport]:
    """Run `passes` as `optimise` does, on a graph in memory, which is changed in place."""
    first: dict[str, dict[str, int]] = {}
    last: dict[str, dict[str, int]] = {}
    modified: Counter[str] = Counter()
    for _ in range(MAX_ROUNDS):
        changes = 0
        for each in passes:
            name = each.__name__
            first.setdefault(name, count_operators(model))
            model, count = each(model)
            last[name] = count_operators(model)
            modified[name] += count
            changes += count
        if changes == 0:
            return [PassReport(name, modified[name], first[name], last[name]) for name in first]
    raise AssertionError(f"the passes were not done after {MAX_ROUNDS} rounds")


def count_operators(model: ir.Model) -> dict[str, int]:
    """Count the nodes of each operator, most frequent first; those of other domains with the domain's name."""
    counts = Counter(f"{node.domain}.{node.op_type}".removeprefix(".") for node in model.graph)
    return dict(counts.most_common())
