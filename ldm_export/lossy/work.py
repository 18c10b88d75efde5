"""The work of a graph: multiply-accumulates of its convolutions and matrix products, by the shapes noted in it."""

import math
from collections.abc import Mapping

import onnx_ir as ir

from ldm_export.errors import ExportError

_PRODUCTS = ("Conv", "MatMul", "Gemm")


def multiply_accumulates(model: ir.Model, sizes: Mapping[str, int]) -> int:
    """Count those of one evaluation of a canonical graph. sizes: of every axis of its inputs.

    Raises ExportError where a shape is not noted.
    """
    return sum(_of_product(node, sizes) for node in model.graph if node.op_type in _PRODUCTS and node.domain == "")


def _of_product(node: ir.Node, sizes: Mapping[str, int]) -> int:
    made = _numbers(node, node.outputs[0], sizes)
    if node.op_type == "Conv":  # weight (out, in, rows, columns)
        return math.prod(made) * math.prod(_numbers(node, node.inputs[1], sizes)[1:])
    return math.prod(made) * _numbers(node, node.inputs[0], sizes)[-1]


def _numbers(node: ir.Node, value: ir.Value | None, sizes: Mapping[str, int]) -> list[int]:
    dims = () if value is None or value.shape is None else value.shape
    found = [dim if isinstance(dim, int) else dim.evaluate(sizes) for dim in dims]
    numbers = [each for each in found if isinstance(each, int)]
    if not found or len(numbers) != len(found):
        raise ExportError(f"the shapes at {node.name} are not noted in the graph; export the component again")
    return numbers
