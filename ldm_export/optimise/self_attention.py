"""Finds attention of an image to itself, whose number of tokens another pass may change."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from ldm_export.optimise.matching import constant, dims, find_parameters

_ATTENTION = ("Softmax", "MultiHeadAttention")
_OF_A_SIZE = ("Shape", "Size", "Expand", "LayerNormalization")  # that depend on how many tokens there are, or on which


@dataclass(frozen=True)
class SelfAttention:
    """Attention of an image to itself, between a norm and a residual: y = x + attention(norm(x)).

    norm: the node that makes what attention reads of x (B, H·W, C). nodes: those after it that make `attended`, which
    `residual` adds to x. grid: the value (B, H, W, C) whose places the tokens are.
    """

    norm: ir.Node
    nodes: tuple[ir.Node, ...]
    attended: ir.Value
    residual: ir.Node
    grid: ir.Value

    @property
    def x(self) -> ir.Value:
        value = self.norm.inputs[0]
        assert value is not None
        return value

    def tokens(self, sizes: Mapping[str, int]) -> int:
        """Count the tokens of an image. sizes: of every axis of the graph's inputs."""
        assert self.x.shape is not None
        count = self.x.shape.evaluate(sizes)[1]
        assert isinstance(count, int)
        return count


def self_attentions(model: ir.Model) -> list[SelfAttention]:
    """Return the attentions of an image to itself, in the graph's order, fused or not, with rounded weights or not.

    Those to a text are none, and neither are those of a text, nor what holds a number of tokens.
    """
    parameters = find_parameters(model.graph)
    norms = [node for node in model.graph if (node.op_type, node.domain) == ("LayerNormalization", "")]
    return [found for norm in norms if (found := _match(norm, parameters)) is not None]


def _match(norm: ir.Node, parameters: Collection[ir.Value]) -> SelfAttention | None:
    x, sizes = norm.inputs[0], dims(norm.inputs[0])
    if x is None or sizes is None or len(sizes) != 3 or not isinstance(sizes[1], str):
        return None
    residuals = [node for node in x.consumers() if node.op_type == "Add"]
    if len(residuals) != 1:
        return None
    nodes = _between(norm.outputs[0], residuals[0], parameters)
    if nodes is None or not any(node.op_type in _ATTENTION for node in nodes):
        return None
    attended, grid = next(value for value in residuals[0].inputs if value is not x), _grid(x)
    if attended is None or attended.producer() not in nodes or grid is None:
        return None
    return SelfAttention(norm, tuple(nodes), attended, residuals[0], grid)


def _between(start: ir.Value, end: ir.Node, parameters: Collection[ir.Value]) -> list[ir.Node] | None:
    """Return the nodes on the way from a value to a node; None if they read or make anything else."""
    found: dict[ir.Node, None] = {}
    made, left = {start}, [start]
    while left:
        value = left.pop()
        if value.is_graph_output():
            return None
        for node in value.consumers():
            if node is not end and node not in found:
                found[node] = None
                made.update(node.outputs)
                left += node.outputs
    read = {value for node in found for value in node.inputs if value is not None}
    is_closed = all(value in made or value in parameters for value in read)
    return list(found) if is_closed and all(map(_takes_any_tokens, found)) else None


def _takes_any_tokens(node: ir.Node) -> bool:
    if node.op_type != "Reshape":
        return node.op_type not in _OF_A_SIZE
    target = constant(node.inputs[1])
    return target is not None and target[:2].tolist() == [0, 0]  # images and tokens stay as they are


def _grid(x: ir.Value) -> ir.Value | None:
    """Return the value (B, H, W, C) that the nearest Reshape above x made tokens (B, H·W, C) of."""
    made = [x]
    seen: set[ir.Node] = set()
    while made:
        node = made.pop(0).producer()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.op_type == "Reshape" and _flattens(node, x):
            return node.inputs[0]
        made += [value for value in node.inputs if value is not None]
    return None


def _flattens(reshape: ir.Node, x: ir.Value) -> bool:
    before, after, of_x = dims(reshape.inputs[0]), dims(reshape.outputs[0]), dims(x)
    if before is None or after is None or of_x is None or (len(before), len(after)) != (4, 3):
        return False  # attention's heads are joined from (B, H·W, heads, d): the tokens are there before, too
    return before[0] == after[0] and before[3] == after[2] and after[1] == of_x[1] != before[1]
