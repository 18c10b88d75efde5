"""Small graphs written as text, and what every pass is held to: same results, an honest count, no rest."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from ldm_export.optimise.pipeline import Pass
from ldm_export.optimise.remove_unused import remove_unused

HEADER = '<ir_version: 10, opset_import: ["" : 18]>\n'


def parse(text: str, weights: Mapping[str, np.ndarray] | None = None) -> ir.Model:
    """A graph in ONNX's text format, with the shapes that inference finds; `weights` would be long as text."""
    model = onnx.parser.parse_model(HEADER + text)
    for name, array in ({} if weights is None else weights).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.checker.check_model(model)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True))


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs, computed by ONNX Runtime without optimisations of its own."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    return session.run(None, feeds)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def operators(model: ir.Model) -> list[str]:
    """Types of all nodes but constants, in order."""
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


def applied(
    each: Pass,
    text: str,
    feeds: dict[str, np.ndarray],
    *,
    modified: int,
    weights: Mapping[str, np.ndarray] | None = None,
) -> ir.Model:
    """Run one pass: it changes `modified` things, no result beyond rounding, and nothing the second time."""
    wanted = run(parse(text, weights), feeds)
    model, count = each(parse(text, weights))
    assert count == modified
    model, _ = remove_unused(model)
    for got, expected in zip(run(model, feeds), wanted, strict=True):
        assert got.shape == expected.shape and got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)
    again, count = each(model)
    assert count == 0
    return again
