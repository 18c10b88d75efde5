"""Measures one attention of an image to itself with merged tokens beside the exact one: `--help` tells the options.

The layer has the shapes of Stable Diffusion 1.5's finest: 320 channels, 8 heads, two images (guidance). It is what
`build --budget … --lossy merging` rewrites: norm, projections, attention, residual. Times are of the processor, which
other programs disturb little; a ratio is the median of those to the exact layer within a round.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # an installation holds no benchmarks

from ldm_export.export.graph_file import write_graph  # noqa: E402
from ldm_export.lossy.work import multiply_accumulates  # noqa: E402
from ldm_export.optimise.fuse_attention import fuse_attention  # noqa: E402
from ldm_export.optimise.merge_tokens import merge_tokens  # noqa: E402
from ldm_export.optimise.remove_unused import remove_unused  # noqa: E402
from ldm_export.tables import text_table  # noqa: E402
from ldm_runtime.engines.ort.session import OrtEngine  # noqa: E402

CHANNELS, HEADS, BATCH = 320, 8, 2
LAYER = f"""<ir_version: 10, opset_import: ["" : 18]>
g (float[B, H, W, {CHANNELS}] image) => (float[B, tokens, {CHANNELS}] y) {{
    flat = Constant<value = int64[3] {{0, -1, {CHANNELS}}}>()
    split = Constant<value = int64[4] {{0, 0, {HEADS}, {CHANNELS // HEADS}}}>()
    join = Constant<value = int64[3] {{0, 0, {CHANNELS}}}>()
    scale = Constant<value = float {{{(CHANNELS // HEADS) ** -0.5}}}>()
    x = Reshape(image, flat)
    normed = LayerNormalization<axis = -1, epsilon = 1e-5>(x, norm, shift)
    q = MatMul(normed, query)
    k = MatMul(normed, key)
    v = MatMul(normed, value)
    q4 = Reshape(q, split)
    qh = Transpose<perm = [0, 2, 1, 3]>(q4)
    qs = Mul(qh, scale)
    k4 = Reshape(k, split)
    kh = Transpose<perm = [0, 2, 3, 1]>(k4)
    v4 = Reshape(v, split)
    vh = Transpose<perm = [0, 2, 1, 3]>(v4)
    scores = MatMul(qs, kh)
    p = Softmax<axis = -1>(scores)
    o = MatMul(p, vh)
    oh = Transpose<perm = [0, 2, 1, 3]>(o)
    o3 = Reshape(oh, join)
    projected = MatMul(o3, out)
    attended = Add(projected, bias)
    y = Add(attended, x)
}}"""

Run = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default="32,48,64,96", help="of the grid of tokens (default: %(default)s)")
    parser.add_argument("--ratios", default="0.25,0.5,0.7", help="of the tokens to merge (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="in which all take turns (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--engines", default="ort,openvino", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, help="a JSON file for all times")
    options = parser.parse_args()
    ratios = [0.0, *map(float, options.ratios.split(","))]
    results = []
    for side in map(int, options.sides.split(",")):
        for engine in options.engines.split(","):
            results += measure(engine, side, ratios, options.rounds, options.threads)
    print(
        "\n".join(
            text_table(
                ("tokens", "engine", "merged", "work", "ms", "of exact"), [_cells(row) for row in results], "><>>>>"
            )
        )
    )
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


def measure(engine: str, side: int, ratios: list[float], rounds: int, threads: int) -> list[dict[str, Any]]:
    """Return the processor's times of all ratios on one grid; the first is the exact layer."""
    image = _image(side)
    sizes = {"B": BATCH, "H": side, "W": side}
    with tempfile.TemporaryDirectory() as folder:
        works, runs = [], []
        for ratio in ratios:
            works.append(multiply_accumulates(_layer(ratio), sizes))
            runs.append(OPENED[engine](_layer(ratio), Path(folder) / f"{ratio}.onnx", image, threads))
        seconds: list[list[float]] = [[] for _ in ratios]
        for turn in range(-1, rounds):
            for run, own in zip(runs, seconds, strict=True):
                started = time.process_time()
                run()
                if turn >= 0:
                    own.append(time.process_time() - started)
    return [
        {
            "engine": engine,
            "tokens": side * side,
            "ratio": ratio,
            "work": work / works[0],
            "seconds": own,
            "of_exact": median(mine / exact for mine, exact in zip(own, seconds[0], strict=True)),
        }
        for ratio, work, own in zip(ratios, works, seconds, strict=True)
    ]


def _layer(ratio: float) -> ir.Model:
    """Make the layer with random weights; its tokens are noted as the exporter notes them."""
    draw = np.random.default_rng(0)
    model = onnx.parser.parse_model(LAYER)
    for name in ("query", "key", "value", "out"):
        weight = draw.standard_normal((CHANNELS, CHANNELS), np.float32) * CHANNELS**-0.5
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    for name in ("norm", "shift", "bias"):
        model.graph.initializer.append(onnx.numpy_helper.from_array(draw.random(CHANNELS, np.float32), name))
    made = ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True))
    for value in (value for node in made.graph for value in node.outputs):
        if value.shape is not None:
            sizes = [dim if isinstance(dim, int) else str(dim.value) for dim in value.shape]
            value.shape = ir.Shape(
                [size if size in ("B", "H", "W") or isinstance(size, int) else "H*W" for size in sizes]
            )
    return merge_tokens(made, ratio)[0] if ratio else made


def _image(side: int) -> np.ndarray:
    """Make features that neighbours have nearly in common, (B, H, W, C)."""
    draw = np.random.default_rng(1)
    coarse = draw.standard_normal((BATCH, -(-side // 4), -(-side // 4), CHANNELS), np.float32)
    image = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :side, :side]
    return image + draw.standard_normal(image.shape, np.float32) / 4


def _ort(model: ir.Model, path: Path, image: np.ndarray, threads: int) -> Run:
    model, count = fuse_attention(model)
    assert count == 1
    write_graph(remove_unused(model)[0], path)
    engine = OrtEngine(path, threads=threads)
    return lambda: engine.run({"image": image})


def _openvino(model: ir.Model, path: Path, image: np.ndarray, threads: int) -> Run:
    import openvino

    write_graph(model, path)
    read = openvino.Core().read_model(path)
    read.reshape(image.shape)
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.compile_model(read, "CPU", settings).create_infer_request()
    return lambda: request.infer({"image": image})


OPENED: dict[str, Callable[[ir.Model, Path, np.ndarray, int], Run]] = {"ort": _ort, "openvino": _openvino}


def _cells(row: dict[str, Any]) -> list[str]:
    milliseconds = f"{1000 * median(row['seconds']):.1f}"
    ratio = "exact" if row["ratio"] == 0 else f"{row['ratio']:.0%}"
    return [str(row["tokens"]), row["engine"], ratio, f"{row['work']:.2f}", milliseconds, f"{row['of_exact']:.2f}"]


if __name__ == "__main__":
    main()
