"""Takes the arithmetic on sizes out of the graph where the shapes noted in it hold the result."""

import numpy as np
import onnx_ir as ir

from ldm_export.optimise.matching import constant, dims, make_constant, redirect


def simplify_shapes(model: ir.Model) -> tuple[ir.Model, int]:
    """Make targets of Reshape constant (0 keeps an axis, -1 is the rest); replace Shape of known sizes or inputs.

    What is noted must be true for all sizes: equal names mean equal sizes, as the tracer guarantees.
    """
    axes = _input_axes(model.graph)
    count = 0
    for node in model.graph:
        if node.domain == "" and node.op_type == "Reshape":
            count += _fix_target(node)
        elif node.domain == "" and node.op_type == "Shape":
            count += _read_from_input(node, axes)
    return model, count


def _fix_target(node: ir.Node) -> bool:
    x, out = node.inputs[0], node.outputs[0]
    before, after = dims(x), dims(out)
    if before is None or after is None or constant(node.inputs[1]) is not None:
        return False
    target = [
        size if isinstance(size, int) else 0 if i < len(before) and before[i] == size else -1
        for i, size in enumerate(after)
    ]
    if target.count(-1) > 1 or 0 in (*before, *after):
        return False  # two unknown sizes, or a tensor without elements, whose zero would mean "keep"
    node.replace_input_with(1, make_constant(np.array(target, np.int64), node))
    node.attributes.pop("allowzero", None)
    return True


def _read_from_input(node: ir.Node, axes: dict[str, tuple[ir.Value, int]]) -> bool:
    x = node.inputs[0]
    assert x is not None
    sizes = dims(x)
    if sizes is None:
        return False
    rank = len(sizes)
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", rank)
    selected = sizes[slice(start, end)]
    graph = node.graph
    assert graph is not None
    if all(isinstance(size, int) for size in selected):
        if not redirect(node.outputs[0], make_constant(np.array(selected, np.int64), node)):
            return False
        graph.remove(node, safe=True)
        return True
    if len(selected) != 1 or not isinstance(selected[0], str) or selected[0] not in axes:
        return False
    source, axis = axes[selected[0]]
    if x is source and (start, end) == (axis, axis + 1):
        return False
    node.replace_input_with(0, source)
    node.attributes["start"], node.attributes["end"] = (
        ir.AttrInt64("start", axis),
        ir.AttrInt64("end", axis + 1),
    )
    return True


def _input_axes(graph: ir.Graph) -> dict[str, tuple[ir.Value, int]]:
    """Return name of an axis -> the first input that has it, and where."""
    axes: dict[str, tuple[ir.Value, int]] = {}
    for value in graph.inputs:
        for index, size in enumerate(dims(value) or ()):
            if isinstance(size, str):
                axes.setdefault(size, (value, index))
    return axes
