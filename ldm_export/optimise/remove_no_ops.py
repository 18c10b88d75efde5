"""Removes operators that hand on their input unchanged."""

import numpy as np
import onnx_ir as ir

from ldm_export.optimise.matching import constant, dims, producer, redirect, same_shape, scalar

_RESHAPES = ("Reshape", "Squeeze", "Unsqueeze")


def remove_no_ops(model: ir.Model) -> tuple[ir.Model, int]:
    """Remove Identity, Cast to the same type, ·1, /1, +0, -0, Concat of one, and reshapes that change nothing."""
    count = 0
    for node in model.graph:
        source = _unchanged(node)
        if source is not None and redirect(node.outputs[0], source):
            model.graph.remove(node, safe=True)
            count += 1
    return model, count


def _unchanged(node: ir.Node) -> ir.Value | None:
    """Return the earlier value that equals the node's output, or None."""
    if node.domain != "" or not node.inputs:
        return None
    x, out = node.inputs[0], node.outputs[0]
    assert x is not None
    match node.op_type:
        case "Identity":
            return x
        case "Concat" if len(node.inputs) == 1:
            return x
        case "Cast" if x.dtype is not None and x.dtype == node.attributes.get_int("to"):
            return x
        case "CastLike" if x.dtype is not None and node.inputs[1] is not None and x.dtype == node.inputs[1].dtype:
            return x
        case "Expand" if same_shape(x, out):
            return x
        case "Transpose" if node.attributes.get_ints("perm", ()) == tuple(range(len(x.shape or ()))):
            return x
        case "Pad" if _pads_nothing(node):
            return x
        case "Mul" | "Div" | "Add" | "Sub":
            return _neutral(node)
        case "Reshape" | "Squeeze" | "Unsqueeze":
            return _same_before_reshapes(x, out)
    return None


def _pads_nothing(node: ir.Node) -> bool:
    pads = constant(node.inputs[1])
    return pads is not None and not np.any(pads)


def _neutral(node: ir.Node) -> ir.Value | None:
    """Return x for x·1, 1·x, x/1, x+0, 0+x, x-0, where the number does not change x's shape."""
    neutral = 1.0 if node.op_type in ("Mul", "Div") else 0.0
    first, second = node.inputs
    pairs = [(first, second)] + ([(second, first)] if node.op_type in ("Mul", "Add") else [])
    for x, number in pairs:
        assert x is not None
        if scalar(number) == neutral and same_shape(x, node.outputs[0]):
            return x
    return None


def _same_before_reshapes(x: ir.Value, out: ir.Value) -> ir.Value | None:
    """Look before any number of reshapes: they keep the order of elements, so an equal shape is an equal value."""
    value: ir.Value | None = x
    while value is not None:
        if dims(value) is not None and dims(value) == dims(out):
            return value
        before = next((node for kind in _RESHAPES if (node := producer(value, kind)) is not None), None)
        value = None if before is None else before.inputs[0]
    return None
