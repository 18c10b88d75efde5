"""Fuses GELU, its sigmoid approximation and SiLU to ONNX Runtime's operators, each one pass over memory."""

import math

import onnx_ir as ir

from ldm_export.optimise.matching import (
    MICROSOFT,
    is_weight,
    operands,
    producer,
    replace,
    same_shape,
    scalar,
    used_once,
)

_CLOSE = 1e-6  # relative; the numbers are float32


def fuse_activations(model: ir.Model) -> tuple[ir.Model, int]:
    """Fuse x·(1 + erf(x/√2))/2 to Gelu or BiasGelu, and x·sigmoid(a·x) to QuickGelu with alpha a (1 is SiLU)."""
    count = 0
    for node in model.graph:
        if node.op_type == "Mul" and node.domain == "":
            count += _fuse_gelu(node) or _fuse_sigmoid(node)
    if count:
        model.opset_imports[MICROSOFT] = 1
    return model, count


def _fuse_gelu(last: ir.Node) -> bool:
    """Fuse Mul(Mul(x, Add(Erf(Div(x, √2)), 1)), ½)."""
    for product, half in operands(last):
        inner = producer(product, "Mul")
        if inner is None or scalar(half) != 0.5 or not used_once(product):
            continue
        for x, bell in operands(inner):
            if used_once(bell) and _is_one_plus_erf(bell, x):
                _replace_gelu(last, x)
                return True
    return False


def _is_one_plus_erf(value: ir.Value, x: ir.Value) -> bool:
    add = producer(value, "Add")
    if add is None:
        return False
    for erf_out, one in operands(add):
        erf = producer(erf_out, "Erf")
        div = None if erf is None else producer(erf.inputs[0], "Div")
        if div is not None and scalar(one) == 1.0 and div.inputs[0] is x:
            root = scalar(div.inputs[1])
            return root is not None and math.isclose(root, math.sqrt(2.0), rel_tol=_CLOSE)
    return False


def _replace_gelu(last: ir.Node, x: ir.Value) -> None:
    """Put Gelu in the place of `last`, or BiasGelu where only GELU itself (in two places) reads x = summand + bias."""
    add = producer(x, "Add")
    if add is not None and len(x.uses()) == 2 and not x.is_graph_output():
        for summand, bias in operands(add):
            if is_weight(bias) and bias.shape is not None and len(bias.shape) == 1 and same_shape(summand, x):
                replace(last, "BiasGelu", [summand, bias], {}, domain=MICROSOFT)
                return
    replace(last, "Gelu", [x], {}, domain=MICROSOFT)


def _fuse_sigmoid(last: ir.Node) -> bool:
    for x, gate in operands(last):
        sigmoid = producer(gate, "Sigmoid")
        if sigmoid is None or not used_once(gate):
            continue
        alpha = _factor_of(sigmoid.inputs[0], x)
        if alpha is not None:
            replace(last, "QuickGelu", [x], {"alpha": alpha}, domain=MICROSOFT)
            return True
    return False


def _factor_of(value: ir.Value | None, x: ir.Value) -> float | None:
    """Return a where value = a·x."""
    if value is x:
        return 1.0
    scaled = producer(value, "Mul")
    if scaled is None:
        return None
    return next((scalar(number) for source, number in operands(scaled) if source is x), None)
