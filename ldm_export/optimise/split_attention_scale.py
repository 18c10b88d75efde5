"""Gives queries and keys half of attention's scale each, inside their projections: for precisions of small range.

The exporter's translation multiplies the queries alone, after their projection, so that both are at full size before.
A power of two moves into the weights, by a product in the graph, and changes no bit in float32; the rest of the scale,
between 0.7 and 1.5, stays where it was.
"""

import math
from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from ldm_export.optimise.matching import (
    find_parameters,
    make_constant,
    multiply_input,
    operands,
    producer,
    product_places,
    redirect,
    scalar,
    used_once,
)

_Place = tuple[ir.Node, int]  # a node, and which of its inputs


def split_attention_scale(model: ir.Model) -> tuple[ir.Model, int]:
    """Rewrite softmax((q·scale)·kᵀ [+ mask]) with the scale in the projections of q and k; return how many were."""
    parameters = find_parameters(model.graph)
    count = 0
    for node in list(model.graph):
        if node.op_type == "Softmax" and node.domain == "":
            count += _split(node, parameters)
    return model, count


def _split(softmax: ir.Node, parameters: Collection[ir.Value]) -> bool:
    scores = softmax.inputs[0]
    masked = producer(scores, "Add")
    product = producer(scores, "MatMul")
    if masked is not None:
        product = next((node for value in masked.inputs if (node := producer(value, "MatMul")) is not None), None)
    scaled = None if product is None else producer(product.inputs[0], "Mul")
    if product is None or scaled is None or not used_once(scaled.outputs[0]):
        return False
    for query, number in operands(scaled):
        scale = scalar(number)
        if scale is not None and scale > 0:
            return _move(scaled, query, product.inputs[1], scale, parameters)
    return False


def _move(
    scaled: ir.Node, query: ir.Value, key: ir.Value | None, scale: float, parameters: Collection[ir.Value]
) -> bool:
    """Move the power of two out of the product `scaled` = query·scale."""
    exponent = round(math.log2(scale))
    of_query, of_key = _projection(query, parameters), _projection(key, parameters)
    if exponent == 0 or not of_query or not of_key or of_query == of_key:
        return False
    share = exponent // 2
    for places, power in ((of_query, exponent - share), (of_key, share)):
        for node, index in places:
            multiply_input(node, index, 2.0**power)
    rest = scale / 2.0**exponent
    if rest == 1:
        redirect(scaled.outputs[0], query)
        assert scaled.graph is not None
        scaled.graph.remove(scaled, safe=True)
    else:
        number = make_constant(np.array(rest, np.float32), scaled)
        scaled.replace_input_with(1 - list(scaled.inputs).index(query), number)
    return True


def _projection(value: ir.Value | None, parameters: Collection[ir.Value]) -> list[_Place]:
    """Return where weight and bias of the product behind `value` are read; nothing if others read it too."""
    biases: list[_Place] = []
    while value is not None and _read_once(value):
        node = value.producer()
        places = None if node is None else product_places(node, parameters)
        if node is None:
            return []
        if places is not None:
            return [*biases, (node, places[1]), *([(node, 2)] if len(node.inputs) > 2 else [])]
        added = [index for index, each in enumerate(node.inputs) if each in parameters]
        if node.op_type == "Add" and len(added) == 1:
            biases.append((node, added[0]))
            value = node.inputs[1 - added[0]]
        else:
            value = node.inputs[0] if node.op_type in ("Reshape", "Transpose") else None
    return []


def _read_once(value: ir.Value) -> bool:
    """Tell whether one node alone reads the numbers of `value`."""
    readers = [node for node, _ in value.uses() if node.op_type != "Shape"]
    return len(readers) == 1 and not value.is_graph_output()
