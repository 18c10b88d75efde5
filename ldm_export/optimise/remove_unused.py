"""Removes nodes whose results nobody reads, and initialisers that nobody uses."""

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass


def remove_unused(model: ir.Model) -> tuple[ir.Model, int]:
    """Eliminate dead code by onnx_ir; inputs and outputs of the graph stay."""
    before = len(model.graph) + len(model.graph.initializers)
    RemoveUnusedNodesPass()(model)
    return model, before - len(model.graph) - len(model.graph.initializers)
