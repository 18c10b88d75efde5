"""Fuses LayerNormalization with the residual sum before it to com.microsoft.SkipLayerNormalization."""

import onnx_ir as ir

from ldm_export.optimise.matching import (
    MICROSOFT,
    dims,
    last_axis,
    operands,
    producer,
    replace,
    same_shape,
    used_once,
)

SUM = 3  # the operator's output that is the sum itself


def fuse_layer_norm(model: ir.Model) -> tuple[ir.Model, int]:
    """LayerNormalization(x [+ bias] + skip) -> SkipLayerNormalization, which gives the sum too if it is read.

    The kernel adds equal shapes only, so a sum that broadcasts is left alone.
    """
    count = 0
    for node in model.graph:
        if node.op_type == "LayerNormalization" and node.domain == "":
            count += _fuse(node)
    if count:
        model.opset_imports[MICROSOFT] = 1
    return model, count


def _fuse(norm: ir.Node) -> bool:
    total = norm.inputs[0]
    add = producer(total, "Add")
    if add is None or len(norm.inputs) != 3 or not last_axis(norm, -1, total) or norm.inputs[2] is None:
        return False
    x, skip = add.inputs
    assert x is not None and skip is not None and total is not None
    if (
        len(dims(total) or ()) != 3
        or not same_shape(x, skip)
        or total.is_graph_output()
        or not _is_first(norm, total)
    ):
        return False
    x, skip, bias = _with_bias(x, skip)
    replace(
        norm,
        "SkipLayerNormalization",
        [x, skip, norm.inputs[1], norm.inputs[2], bias],
        {"epsilon": norm.attributes.get_float("epsilon", 1e-5)},
        domain=MICROSOFT,
        outputs={} if used_once(total) else {SUM: total},
    )
    return True


def _is_first(norm: ir.Node, total: ir.Value) -> bool:
    """Whether no other reader of the sum stands before the norm, where the fused operator will make it."""
    graph = norm.graph
    assert graph is not None
    readers = set(total.consumers())
    return next(node for node in graph if node in readers) is norm


def _with_bias(x: ir.Value, skip: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value | None]:
    """A bias per channel that was added to either summand just before, nothing else reading that."""
    for first, second in ((x, skip), (skip, x)):
        add = producer(first, "Add")
        if add is None or not used_once(first):
            continue
        for summand, bias in operands(add):
            if bias.is_initializer() and len(dims(bias) or ()) == 1 and same_shape(summand, first):
                return summand, second, bias
    return x, skip, None
