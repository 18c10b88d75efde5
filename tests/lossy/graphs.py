"""Small graphs of layers, ranges of what they read, and the same quantised arithmetic in whole numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import openvino

from ldm_export.lossy.layers import Layer
from ldm_export.lossy.quantise import Scheme
from ldm_export.lossy.ranges import ValueRange
from tests.optimise.graphs import normal, parse, run

CONVOLUTION = """g (float[B, 8, H, W] x) => (float[B, 5, H, W] y) {
    y = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w, b)
}"""
PRODUCT = "g (float[B, T, 8] x) => (float[B, T, 5] y) { y = MatMul(x, m) }"
WEIGHTS = {"w": normal(5, 8, 3, 3, seed=1), "b": normal(5, seed=2), "m": normal(8, 5, seed=3)}
TWO = """g (float[B, 8, H, W] x) => (float[B, 8, H, W] y) {
    first = Conv<kernel_shape = [1, 1]>(x, u)
    bent = Relu(first)
    y = Conv<kernel_shape = [1, 1]>(bent, v)
}"""
TWO_WEIGHTS = {"u": normal(8, 8, 1, 1, seed=9), "v": normal(8, 8, 1, 1, seed=10)}
ORT = Scheme(outputs=True)
OPENVINO = Scheme()
SMOOTH = Scheme(alpha=0.5)


def parsed(text: str, weights: Mapping[str, np.ndarray]) -> ir.Model:
    """A graph in ONNX's text format whose nodes are called after their outputs."""
    model = parse(text, weights)
    for node in model.graph:
        node.name = f"{node.outputs[0].name}/{node.op_type}"
    return model


def convolution(**weights: np.ndarray) -> ir.Model:
    return parsed(CONVOLUTION, {"w": WEIGHTS["w"], "b": WEIGHTS["b"], **weights})


def product(**weights: np.ndarray) -> ir.Model:
    return parsed(PRODUCT, {"m": WEIGHTS["m"], **weights})


def image(*, seed: int = 4, channels: int = 8) -> np.ndarray:
    """As an activation function leaves it: most values small, none far below zero."""
    return np.maximum(normal(2, channels, 6, 7, seed=seed), np.float32(-0.25))


def range_of(value: np.ndarray, axis: int = 1) -> ValueRange:
    """The range of one value, all of it sampled."""
    rows = np.moveaxis(value, axis, -1).reshape(-1, value.shape[axis])
    return ValueRange(rows.min(axis=0), rows.max(axis=0), rows)


def convolved(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """3x3 convolution with one pixel of zeros around, summed in the type that comes in."""
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # (B, I, H, W, 3, 3)
    return np.einsum("bihwyx,oiyx->bohw", windows, weight)


def by_whole_numbers(
    layer: Layer, data: Mapping[str, np.ndarray], x: np.ndarray, bias: np.ndarray | None
) -> np.ndarray:
    """What a layer makes of x by the numbers that were stored: sums of products of integers, then one scale."""
    key = layer.stored.name
    value = x * data[f"{key}/smoothing"] if f"{key}/smoothing" in data else x
    scale, zero = data[f"{key}/input_scale"], int(data[f"{key}/input_zero"])
    levels = np.clip(np.rint(value / scale) + zero, 0, 255).astype(np.int64) - zero
    whole = data[f"{key}/int8"].astype(np.int64)
    if not layer.is_convolution:
        return (levels @ whole) * (scale.astype(np.float64) * data[f"{key}/scale"])
    steps = (scale.astype(np.float64) * data[f"{key}/scale"])[:, None, None]
    return convolved(levels, whole) * steps + (0 if bias is None else bias[:, None, None])


def session(
    model: ir.Model | Path, path: Path | None = None, *, optimised: bool = True
) -> onnxruntime.InferenceSession:
    """ONNX Runtime's session of a graph in memory or in a file; `path`: where its optimised graph is written."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if path is not None:
        options.optimized_model_filepath = str(path)
    return onnxruntime.InferenceSession(_source(model), options)


def operators_of(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


def compiled(model: ir.Model | Path) -> Any:
    """OpenVINO's compiled form of a graph in memory or in a file, in float32 but for what is quantised.

    Left to itself it rounds what products with narrow weights read to eight bits, by a scale of each run's own.
    """
    core = openvino.Core()
    read = core.read_model(_source(model))
    options = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    return core.compile_model(read, "CPU", options)


def _source(model: ir.Model | Path) -> bytes | str:
    return str(model) if isinstance(model, Path) else ir.to_proto(model).SerializeToString()


def types_of(compiled: Any) -> dict[str, str]:
    """Name of an operator that OpenVINO runs -> the type that it computes in."""
    return {
        node.get_friendly_name(): str(node.get_rt_info()["runtimePrecision"].astype(str))
        for node in compiled.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) in ("Convolution", "FullyConnected", "MatMul")
    }


def relative_rms(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(got - expected, dtype=np.float64)) / np.mean(np.square(expected))))


def tokens() -> np.ndarray:
    return normal(2, 3, 8, seed=5)


def ranges_of_convolution(x: np.ndarray) -> dict[str, ValueRange]:
    (y,) = run(convolution(), {"x": x})
    return {"x": range_of(x), "y": range_of(y)}


def two() -> ir.Model:
    return parsed(TWO, TWO_WEIGHTS)


def ranges_of_two(x: np.ndarray) -> dict[str, ValueRange]:
    text = TWO.replace("=> (", "=> (float[B, 8, H, W] first, float[B, 8, H, W] bent, ")
    values = run(parse(text, TWO_WEIGHTS), {"x": x})
    return {"x": range_of(x)} | {
        name: range_of(each) for name, each in zip(("first", "bent", "y"), values, strict=True)
    }


def on_openvino(model: ir.Model, x: np.ndarray) -> np.ndarray:
    return compiled(model)({"x": x})[0]


def on_ort(model: ir.Model, x: np.ndarray) -> np.ndarray:
    return session(model).run(None, {"x": x})[0]
