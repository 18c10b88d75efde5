"""Splits a convolution of a picture doubled in size into four smaller ones of the picture itself.

The nine weights of a 3x3 kernel over nearest-neighbour 2x hit four places of the small picture. Which weights share a
place depends on the parity of row and column: four kernels of 2x2, whose results interleave (sub-pixel convolution, Shi
et al. 2016, arXiv:1609.05158). 16 products in place of 36 for each four pixels; only the order of sums changes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ldm_export.optimise.matching import constant, dims, is_weight, make_constant, producer, replace, used_once

# Along one side: parity of the output -> for both places of the small picture the weights of the kernel that hit it.
_TAPS = (((0,), (1, 2)), ((0, 1), (2,)))


def split_upsampling(model: ir.Model) -> tuple[ir.Model, int]:
    """Conv 3x3 of Resize nearest 2x -> four Conv 2x2 with sums of its weights, Concat, DepthToSpace."""
    count = 0
    for node in model.graph:
        if node.op_type == "Conv" and node.domain == "" and _is_plain_3x3(node):
            resize = producer(node.inputs[0], "Resize")
            if resize is not None and used_once(resize.outputs[0]) and _doubles(resize):
                _split(node, resize.inputs[0])
                count += 1
    return model, count


def _is_plain_3x3(node: ir.Node) -> bool:
    """Stride 1, one group, one pixel of zeros around, and a weight whose sizes are known."""
    get = node.attributes.get_ints
    weight = node.inputs[1]
    sizes = dims(weight)
    return (
        weight is not None
        and is_weight(weight)
        and sizes is not None
        and all(isinstance(size, int) for size in sizes)
        and tuple(sizes[2:]) == (3, 3)
        and node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        and node.attributes.get_int("group", 1) == 1
        and tuple(get("pads", (0, 0, 0, 0))) == (1, 1, 1, 1)
        and tuple(get("strides", (1, 1))) == (1, 1)
        and tuple(get("dilations", (1, 1))) == (1, 1)
    )


def _doubles(resize: ir.Node) -> bool:
    """Nearest neighbour, both sides twice as long, pixel i from i // 2."""
    scales = constant(resize.inputs[2]) if len(resize.inputs) > 2 else None
    text = resize.attributes.get_string
    return (
        scales is not None
        and scales.tolist() == [1.0, 1.0, 2.0, 2.0]
        and text("mode", "nearest") == "nearest"
        and text("coordinate_transformation_mode", "half_pixel") == "asymmetric"
        and text("nearest_mode", "round_prefer_floor") == "floor"
    )


def _sums() -> np.ndarray:
    """(9, 16) of 0 and 1: kernel -> four kernels, by parity of row and column, each 2x2."""
    matrix = np.zeros((3, 3, 2, 2, 2, 2), np.float32)  # kernel row, column; parity of row, column; place: row, column
    for parity_y, rows in enumerate(_TAPS):
        for parity_x, columns in enumerate(_TAPS):
            for y, taps_y in enumerate(rows):
                for x, taps_x in enumerate(columns):
                    matrix[taps_y[0] : taps_y[-1] + 1, taps_x[0] : taps_x[-1] + 1, parity_y, parity_x, y, x] = 1
    return matrix.reshape(9, 16)


def _split(conv: ir.Node, small: ir.Value | None) -> None:
    """Weights are summed in the graph, which engines fold at loading: the data file stays the canonical graph's."""
    weight, bias = conv.inputs[1], conv.inputs[2] if len(conv.inputs) > 2 else None
    out_channels, in_channels = (int(size) for size in (dims(weight) or ())[:2])
    assert conv.graph is not None
    graph, name = conv.graph, conv.name

    def put(
        op_type: str, inputs: list[ir.Value | None], attributes: Mapping[str, Any], outputs: int, part: str
    ) -> Sequence[ir.Value]:
        node = ir.node(op_type, inputs, attributes, num_outputs=outputs, name=f"{name}/{part}")
        graph.insert_before(conv, node)
        return node.outputs

    def whole(*numbers: int) -> ir.Value:
        return make_constant(np.array(numbers, np.int64), conv)

    (flat,) = put("Reshape", [weight, whole(out_channels, in_channels, 9)], {}, 1, "flat")
    (summed,) = put("MatMul", [flat, make_constant(_sums(), conv)], {}, 1, "summed")
    kernels = put("Split", [summed], {"axis": 2, "num_outputs": 4}, 4, "kernels")
    pictures: list[ir.Value | None] = []
    for index, kernel in enumerate(kernels):
        y, x = divmod(index, 2)
        (square,) = put("Reshape", [kernel, whole(out_channels, in_channels, 2, 2)], {}, 1, f"kernel_{y}{x}")
        attributes = {"kernel_shape": [2, 2], "pads": [1 - y, 1 - x, y, x]}
        pictures += put("Conv", [small, square, bias], attributes, 1, f"conv_{y}{x}")
    (joined,) = put("Concat", pictures, {"axis": 1}, 1, "joined")
    replace(conv, "DepthToSpace", [joined], {"blocksize": 2, "mode": "DCR"})
