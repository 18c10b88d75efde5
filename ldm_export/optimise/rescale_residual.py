"""Lets the residual stream carry a fraction of its values, which its norms do not see: for precisions of small range.

A norm of x/s with epsilon/s² is that of x with epsilon. So all that writes the stream (convolutions and matrix
products, by weight and bias) is divided by s, and all that reads it (norms by their epsilon, other products by their
weight) takes that into account. With s a power of two the float32 graph computes the same numbers. SDXL-VAE-FP16-Fix
has it in its weights (https://huggingface.co/madebyollin/sdxl-vae-fp16-fix); here these stay as they are stored.
"""

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from ldm_export.optimise.matching import find_parameters, multiply_input, product_places, scalar
from ldm_export.precision.reduce import MOVES

MARK = "ldm-export.rescaled"  # in the model's own notes: a second pass finds it there

_NORMS = ("InstanceNormalization", "GroupNormalization", "LayerNormalization")
_EPSILON = 1e-5  # the default of all three
_SUMS = ("Add", "Sub", "Concat")
_READS_FIRST = (*MOVES, "Resize", "AveragePool")  # their other inputs are sizes


def residual_streams(model: ir.Model) -> list[frozenset[str]]:
    """Return the names of the values that one scale can carry, stream by stream, in the graph's order.

    A stream is written by products with weights alone, and read by these and by norms.
    """
    return [frozenset(str(value.name) for value in stream) for stream in _streams(model.graph)]


def rescale_residual(model: ir.Model, scale: float, carried: Collection[str] | None = None) -> tuple[ir.Model, int]:
    """Carry streams at 1/scale; return how many. A graph is rescaled once: a second time changes nothing.

    scale: a power of two, at least 1. carried: values of the streams that are meant; None is all of them.
    """
    assert scale >= 1 and np.log2(scale).is_integer()
    if scale == 1 or MARK in model.metadata_props:
        return model, 0
    streams = [
        stream for stream in _streams(model.graph) if carried is None or any(value.name in carried for value in stream)
    ]
    if streams:
        model.metadata_props[MARK] = f"{scale:g}"
    scales = {value: scale for stream in streams for value in stream}
    parameters = find_parameters(model.graph)
    for node in list(model.graph):
        if not parameters.issuperset(node.outputs):
            _rescale(node, scales, parameters)
    return model, len(streams)


def _rescale(node: ir.Node, scales: Mapping[ir.Value, float], parameters: Collection[ir.Value]) -> None:
    """Let one node read and write what is carried at 1/scale."""
    read, written = (
        [1.0 if value is None else scales.get(value, 1.0) for value in values] for values in (node.inputs, node.outputs)
    )
    places = product_places(node, parameters)
    if places is not None:
        data, weight = places
        multiply_input(node, weight, read[data] / written[0])
        if len(node.inputs) > 2:
            multiply_input(node, 2, 1 / written[0])
    elif node.op_type in _NORMS and read[0] != 1:
        epsilon = node.attributes.get_float("epsilon", _EPSILON) / read[0] ** 2
        node.attributes.add(ir.Attr("epsilon", ir.AttributeType.FLOAT, epsilon))
    elif node.op_type in _SUMS:
        for index, value in enumerate(node.inputs):
            if value in parameters:
                multiply_input(node, index, 1 / written[0])


def _streams(graph: ir.Graph) -> list[list[ir.Value]]:
    """Join the values that must have one scale, node by node; what anything else reads or writes is no stream."""
    parameters = find_parameters(graph)
    joined = _Joined()
    fixed: set[ir.Value] = {*graph.inputs, *graph.outputs}
    for node in graph:
        groups = _equal(node, parameters)
        for group in groups:
            joined.add(group)
        free = {value for group in groups for value in group}
        fixed |= {value for value in (*node.inputs, *node.outputs) if value is not None} - free - parameters
    return joined.without(fixed)


def _equal(node: ir.Node, parameters: Collection[ir.Value]) -> list[list[ir.Value]]:
    """Return the values of a node that may be carried at a scale; those of a group have the same one."""
    inputs, outputs = list(node.inputs), list(node.outputs)
    computed = [value for value in inputs if value is not None and value not in parameters]
    if node.domain != "" or not computed:
        return []
    places = product_places(node, parameters)
    if places is not None:
        read = inputs[places[0]]
        return [[read], outputs] if read is not None else []
    if node.op_type in (*_NORMS, "Shape", "Size"):
        return [computed] if computed == inputs[:1] else []
    if node.op_type in _SUMS or (node.op_type == "Mul" and len(computed) == 1):
        return [[*computed, *outputs]]
    reads_first = node.op_type in _READS_FIRST or (node.op_type == "Div" and len(computed) == 1) or _pads_zeros(node)
    return [[computed[0], *outputs]] if reads_first and computed[0] is inputs[0] else []


def _pads_zeros(node: ir.Node) -> bool:
    if node.op_type != "Pad" or node.attributes.get_string("mode", "constant") != "constant":
        return node.op_type == "Pad"
    return len(node.inputs) < 3 or node.inputs[2] is None or scalar(node.inputs[2]) == 0


class _Joined:
    """Groups of values, joined where they overlap."""

    def __init__(self) -> None:
        self._parents: dict[ir.Value, ir.Value] = {}

    def add(self, group: list[ir.Value]) -> None:
        for value in group:
            self._parents.setdefault(value, value)
            self._parents[self._root(value)] = self._root(group[0])

    def without(self, fixed: Collection[ir.Value]) -> list[list[ir.Value]]:
        """Return the groups that hold none of `fixed`, in the order in which they were added."""
        excluded = {self._root(value) for value in fixed if value in self._parents}
        groups: dict[ir.Value, list[ir.Value]] = {}
        for value in self._parents:
            groups.setdefault(self._root(value), []).append(value)
        return [group for root, group in groups.items() if root not in excluded]

    def _root(self, value: ir.Value) -> ir.Value:
        while (parent := self._parents[value]) is not value:
            value = parent
        return value
