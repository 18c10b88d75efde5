"""Computes equal things once: nodes of the same type, inputs and attributes become one."""

import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass

CONSTANT_ELEMENTS = 1024  # larger Constant nodes are not compared


def share_duplicates(model: ir.Model) -> tuple[ir.Model, int]:
    """Eliminate common subexpressions (Cocke 1970) by onnx_ir; random operators are left alone."""
    before = len(model.graph)
    CommonSubexpressionEliminationPass(size_limit=CONSTANT_ELEMENTS)(model)
    return model, before - len(model.graph)
