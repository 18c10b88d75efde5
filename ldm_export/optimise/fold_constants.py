"""Computes what depends on constants alone, unless the result would make the file much larger."""

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from ldm_export.optimise.matching import constant, make_constant, redirect

# A result may always be this large (1,024 numbers), beyond it no larger than what it is computed from.
FREE_BYTES = 4096
_RANDOM = ("RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout")


def fold_constants(model: ir.Model) -> tuple[ir.Model, int]:
    """Replace nodes whose inputs are all Constant nodes by their value, from ONNX's reference evaluator.

    Weights are no constants here: they stay in their file under their names. float32 is computed in float64
    and rounded once per node, so that the result is the same on every machine.
    """
    count = 0
    for node in model.graph:
        folded = _value_of(node, model.opset_imports)
        if folded is None:
            continue
        if redirect(node.outputs[0], make_constant(folded, node)):
            model.graph.remove(node, safe=True)
            count += 1
    return model, count


def _value_of(node: ir.Node, opsets: dict[str, int]) -> np.ndarray | None:
    if node.domain != "" or len(node.outputs) != 1 or node.op_type in _RANDOM or _has_graph(node):
        return None
    inputs = [value for value in node.inputs if value is not None]
    if node.op_type == "CastLike":
        return _cast_like(node)
    arrays = [array for value in inputs if (array := constant(value)) is not None]
    if not arrays or len(arrays) < len(inputs):
        return None
    feeds = {str(value.name): _widened(array) for value, array in zip(inputs, arrays, strict=True)}
    evaluator = ReferenceEvaluator(ir.serde.serialize_node(node), opsets=opsets)
    (result,) = evaluator.run(None, feeds)
    result = np.asarray(result)
    if result.dtype == np.float64 and all(array.dtype != np.float64 for array in arrays):
        result = result.astype(np.float32)
    allowed = max(FREE_BYTES, sum(array.nbytes for array in arrays))
    return result if result.nbytes <= allowed else None


def _widened(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _cast_like(node: ir.Node) -> np.ndarray | None:
    """Fold a CastLike, which reads only the type of its second input."""
    array, like = constant(node.inputs[0]), node.inputs[1]
    if array is None or like is None or like.dtype is None:
        return None
    return array.astype(like.dtype.numpy())


def _has_graph(node: ir.Node) -> bool:
    return any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values())
