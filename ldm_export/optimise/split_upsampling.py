"""Splits a convolution of an image doubled in size into four smaller ones of the image itself.

The nine weights of a 3x3 kernel over nearest-neighbour 2x hit four places of the small image. Which weights share a
place depends on the parity of row and column: four kernels of 2x2, whose results interleave (sub-pixel convolution, Shi
et al. 2016, arXiv:1609.05158). 16 products in place of 36 for each four pixels; only the order of sums changes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from ldm_export.optimise.matching import (
    constant,
    insert_before,
    is_padded_3x3,
    make_constant,
    make_sizes,
    producer,
    replace,
    used_once,
    weight_channels,
)

# Along one side: parity of the output -> for both places of the small image the weights of the kernel that hit it.
_TAPS = (((0,), (1, 2)), ((0, 1), (2,)))


def split_upsampling(model: ir.Model) -> tuple[ir.Model, int]:
    """Replace Conv 3x3 of Resize nearest 2x by four Conv 2x2 with sums of its weights, Concat, DepthToSpace."""
    count = 0
    for node in model.graph:
        if node.op_type == "Conv" and node.domain == "" and is_padded_3x3(node):
            resize = producer(node.inputs[0], "Resize")
            if resize is not None and used_once(resize.outputs[0]) and _doubles(resize):
                _split(node, resize.inputs[0])
                count += 1
    return model, count


def _doubles(resize: ir.Node) -> bool:
    """Match nearest neighbour, both sides twice as long, pixel i from i // 2."""
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
    """Make the matrix (9, 16) of 0 and 1 from a kernel to four, by parity of row and column, each 2x2."""
    matrix = np.zeros((3, 3, 2, 2, 2, 2), np.float32)  # kernel row, column; parity of row, column; place: row, column
    for parity_y, rows in enumerate(_TAPS):
        for parity_x, columns in enumerate(_TAPS):
            for y, taps_y in enumerate(rows):
                for x, taps_x in enumerate(columns):
                    matrix[taps_y[0] : taps_y[-1] + 1, taps_x[0] : taps_x[-1] + 1, parity_y, parity_x, y, x] = 1
    return matrix.reshape(9, 16)


def _split(conv: ir.Node, small: ir.Value | None) -> None:
    """Replace one convolution. Weights are summed in the graph, which engines fold at loading; the data file stays."""
    weight, bias = conv.inputs[1], conv.inputs[2] if len(conv.inputs) > 2 else None
    out_channels, in_channels = weight_channels(conv)

    def put(op_type: str, inputs: list[ir.Value | None], part: str, attributes: Mapping[str, Any]) -> ir.Value:
        (value,) = insert_before(conv, op_type, inputs, part, attributes)
        return value

    flat = put("Reshape", [weight, make_sizes(conv, out_channels, in_channels, 9)], "flat", {})
    summed = put("MatMul", [flat, make_constant(_sums(), conv)], "summed", {})
    split = {"axis": 2, "num_outputs": 4}
    images: list[ir.Value | None] = []
    for index, kernel in enumerate(insert_before(conv, "Split", [summed], "kernels", split, outputs=4)):
        y, x = divmod(index, 2)
        square = put("Reshape", [kernel, make_sizes(conv, out_channels, in_channels, 2, 2)], f"kernel_{y}{x}", {})
        attributes = {"kernel_shape": [2, 2], "pads": [1 - y, 1 - x, y, x]}
        images.append(put("Conv", [small, square, bias], f"conv_{y}{x}", attributes))
    joined = put("Concat", images, "joined", {"axis": 1})
    replace(conv, "DepthToSpace", [joined], {"blocksize": 2, "mode": "DCR"})
