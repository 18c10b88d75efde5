"""Cuts a UNet in two graphs, one that keeps what most of it makes and one that reads that again (deep-feature caching).

From one evaluation to the next the deep part of a UNet, all but its finest resolution, makes nearly the same features
(DeepCache, Ma et al. 2023, arXiv:2312.00858). Each residual block of the last up block reads two things: what is below
it, and a skip from the finest resolution of the way down. The cut is through the first of them. What is above it and
the skips are computed from the latents each time; that below is kept for a few evaluations.
"""

import re

import onnx_ir as ir

from ldm_export.errors import ExportError
from ldm_export.optimise.matching import dims
from ldm_export.optimise.remove_unused import remove_unused

KEPT = "kept_features"  # what the deep graph makes beside the component's outputs, and the shallow one reads

_JOIN = re.compile(r"up_blocks\.(\d+)/Concat(_\d+)?")  # as the exporter calls a node outside of the block's own modules
_DIMS = 4  # (B, C, h, w)


def cut_depths(model: ir.Model) -> int:
    """Return how many residual blocks the last up block has: the depths to cut at are 1 to this; 0: it has none."""
    return len(_joins(model.graph))


def deep_and_shallow(model: ir.Model, depth: int) -> tuple[ir.Model, ir.Model]:
    """Return the graph with one more output, and the graph that reads this in place of what makes it.

    depth: the residual blocks of the last up block that the shallow graph computes, from 1, the last alone, to all of
    them. The output and input is `KEPT`, float32 (B, C, h, w). The shallow graph has the inputs that it reads, and no
    other nodes and weights than it needs; those that stay keep their names, so that both graphs read the weights file
    of `model`, which is left as it is. Deep features of the same evaluation give its very outputs.

    Raises:
        ExportError: the graph is no UNet with an up block, has fewer residual blocks there, or the sizes of what would
        be kept are not those of its inputs.
    """
    _check_depth(model, depth)
    deep, shallow = model.clone(), model.clone()
    value = _place(deep, depth)[1]
    _require_sizes(deep.graph, value)
    value.name = KEPT
    deep.graph.outputs.append(value)
    join, old = _place(shallow, depth)
    kept = ir.Value(name=KEPT, type=old.type, shape=old.shape)
    old.name = f"{KEPT}/computed"
    ir.convenience.replace_all_uses_with(old, kept)
    assert join.inputs[0] is kept
    remove_unused(shallow)
    _keep_inputs(shallow.graph, kept)
    return deep, shallow


def _joins(graph: ir.Graph) -> list[ir.Node]:
    """Return the nodes of the last up block that join what is below a residual block and a skip, in their order."""
    blocks: dict[int, list[ir.Node]] = {}
    for node in graph:
        named = _JOIN.fullmatch(str(node.name))
        if named and (node.op_type, node.domain) == ("Concat", "") and _rank(node.outputs[0]) == _DIMS:
            blocks.setdefault(int(named[1]), []).append(node)
    return blocks[max(blocks)] if blocks else []


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)


def _check_depth(model: ir.Model, depth: int) -> None:
    deepest = cut_depths(model)
    if deepest == 0:
        raise ExportError("this denoiser has no up block to cut at; deep features are kept of UNets alone")
    if not 1 <= depth <= deepest:
        raise ExportError(
            f"the depth to cut at is {depth}, but the last up block has {deepest} residual blocks; expected 1 to "
            f"{deepest}"
        )


def _place(model: ir.Model, depth: int) -> tuple[ir.Node, ir.Value]:
    """Return the node that reads what is kept, and what is kept."""
    join = _joins(model.graph)[-depth]
    value = join.inputs[0]
    assert value is not None
    return join, value


def _require_sizes(graph: ir.Graph, value: ir.Value) -> None:
    """Require (B, C, h, w) with C a number and the others those of an input: a package has no names for other sizes."""
    sizes = dims(value)
    known = {size for each in graph.inputs for size in dims(each) or () if isinstance(size, str)}
    is_named = sizes is not None and all(isinstance(size, int) or size in known for size in sizes)
    if not is_named or value.dtype != ir.DataType.FLOAT or not isinstance((sizes or ("",) * _DIMS)[1], int):
        found = "unknown sizes" if sizes is None else f"the sizes ({', '.join(map(str, sizes))})"
        raise ExportError(
            f"what would be kept has {found} in {value.dtype}; expected FLOAT and the sizes of the latents; export the "
            "component again"
        )


def _keep_inputs(graph: ir.Graph, kept: ir.Value) -> None:
    """Leave the inputs that are read, and add what was kept."""
    graph.inputs.append(kept)
    for value in [value for value in graph.inputs if not value.uses()]:
        graph.inputs.remove(value)
