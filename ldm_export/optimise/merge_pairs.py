"""Makes one operator of two in a row: Transpose, Unsqueeze, Concat, and Pad before Conv."""

import numpy as np
import onnx_ir as ir

from ldm_export.optimise.matching import constant, make_sizes, producer, scalar, used_once


def merge_pairs(model: ir.Model) -> tuple[ir.Model, int]:
    """Let the second operator of a pair do the first one's work; `remove_unused` takes the first."""
    count = sum(_merge(node) for node in model.graph if node.domain == "" and node.inputs)
    return model, count


def _merge(node: ir.Node) -> bool:
    match node.op_type:
        case "Transpose":
            return _merge_transposes(node)
        case "Unsqueeze":
            return _merge_unsqueezes(node)
        case "Concat":
            return _merge_concats(node)
        case "Conv":
            return _merge_pad(node)
    return False


def _merge_transposes(node: ir.Node) -> bool:
    """Merge Transpose(Transpose(x, p), q) = Transpose(x, p[q])."""
    inner = producer(node.inputs[0], "Transpose")
    if inner is None:
        return False
    first, second = inner.attributes.get_ints("perm"), node.attributes.get_ints("perm")
    if first is None or second is None:
        return False
    node.replace_input_with(0, inner.inputs[0])
    node.attributes["perm"] = ir.AttrInt64s("perm", [first[axis] for axis in second])
    return True


def _merge_unsqueezes(node: ir.Node) -> bool:
    """Merge Unsqueeze(Unsqueeze(x, a), b): the axes b, and those of a where they are once b's are there."""
    inner = producer(node.inputs[0], "Unsqueeze")
    if inner is None:
        return False
    first, second = constant(inner.inputs[1]), constant(node.inputs[1])
    if first is None or second is None or min(*first, *second) < 0:
        return False
    axes = set(second.tolist())
    places = [place for place in range(max(first) + len(axes) + 1) if place not in axes]
    axes |= {places[axis] for axis in first}
    node.replace_input_with(0, inner.inputs[0])
    node.replace_input_with(1, make_sizes(node, *sorted(axes)))
    return True


def _merge_concats(node: ir.Node) -> bool:
    """Merge Concat(a, Concat(b, c)) = Concat(a, b, c) along one axis, where nobody else reads the inner one."""
    axis = node.attributes.get_int("axis")
    parts: list[ir.Value | None] = []
    for value in node.inputs:
        inner = producer(value, "Concat")
        is_part = inner is not None and inner.attributes.get_int("axis") == axis and used_once(inner.outputs[0])
        parts += inner.inputs if inner is not None and is_part else [value]
    if len(parts) == len(node.inputs):
        return False
    node.resize_inputs(len(parts))
    for index, value in enumerate(parts):
        node.replace_input_with(index, value)
    return True


def _merge_pad(conv: ir.Node) -> bool:
    """Merge Conv(Pad(x)) = Conv(x) with larger pads, where zeros are put around the image and nowhere else."""
    pad = producer(conv.inputs[0], "Pad")
    if pad is None or not used_once(pad.outputs[0]) or not _puts_zeros(pad):
        return False
    pads = constant(pad.inputs[1])
    if pads is None or np.any(pads < 0) or conv.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return False
    before, after = np.split(pads, 2)
    if np.any(before[:2]) or np.any(after[:2]):  # batch and channels
        return False
    more = np.concatenate([before[2:], after[2:]])
    known = conv.attributes.get_ints("pads", (0,) * len(more))
    conv.attributes["pads"] = ir.AttrInt64s("pads", (more + known).tolist())
    conv.replace_input_with(0, pad.inputs[0])
    return True


def _puts_zeros(pad: ir.Node) -> bool:
    """Tell whether a Pad is one of zeros over all axes."""
    number = pad.inputs[2] if len(pad.inputs) > 2 else None
    axes = pad.inputs[3] if len(pad.inputs) > 3 else None
    zeros = number is None or scalar(number) == 0.0
    return pad.attributes.get_string("mode", "constant") == "constant" and zeros and axes is None
