"""Computes wide 3x3 convolutions with two thirds of their products: Winograd's F(2, 3) along columns.

Two neighbouring rows of the result need four rows d of the image. Sums of these and of the kernel's rows g give four
products m in place of six (Lavin and Gray 2016, arXiv:1509.09308, section 4.1; along one axis only):

    m0 = (d0 - d2) g0    m1 = (d1 + d2) (g0 + g1 + g2) / 2    m2 = (d2 - d1) (g0 - g1 + g2) / 2    m3 = (d1 - d3) g2
    upper row = m0 + m1 + m2    lower row = m1 - m2 - m3

where each product is a 1x3 convolution. Only the order of sums changes.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from ldm_export.optimise.matching import (
    insert_before,
    is_padded_3x3,
    make_constant,
    make_sizes,
    replace,
    weight_channels,
)

# With fewer the sums cost what the products save. One convolution of a 512x512 image's work, two cores, ONNX Runtime
# 1.32: 128 channels take 0.97 of the time, 256 0.94, 512 0.83.
MIN_CHANNELS = 256

# Rows of the image that a product sums; weights of the kernel's rows in it. m3 has its sign changed.
_IMAGE = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, -1]], np.float32)

# Sizes at which a dimension is evaluated. Its parity repeats after twice what it is divided by, which is far less.
_SIZES_TRIED = 64


def winograd_for(multiples: Mapping[str, int]) -> Callable[[ir.Model], tuple[ir.Model, int]]:
    """Make the pass for graphs whose axes of these names are multiples of these numbers.

    Only images of even height come in pairs of rows, so that must be known: of `2*height`, or of
    `(image_height//4)` where `image_height` is a multiple of 8. At other heights the graph would fail to run.
    """

    def apply_winograd(model: ir.Model) -> tuple[ir.Model, int]:
        """Replace Conv 3x3 by four Conv 1x3 of sums of rows, Add, Concat and Reshape."""
        count = 0
        for node in model.graph:
            if node.op_type == "Conv" and node.domain == "" and is_padded_3x3(node):
                shape = node.inputs[0].shape if node.inputs[0] is not None else None
                if min(weight_channels(node)) >= MIN_CHANNELS and shape is not None and is_even(shape[2], multiples):
                    _apply(node)
                    count += 1
        return model, count

    return apply_winograd


def is_even(size: int | ir.SymbolicDim, multiples: Mapping[str, int]) -> bool:
    """Tell whether a size is even whatever the axis in it stands for. An unknown size, or one of two axes, is not.

    Raises ValueError for a size that is no formula: a tracer that writes one may not switch the pass off unnoticed.
    """
    if isinstance(size, int):
        return size % 2 == 0
    axes = size.free_symbols()
    if len(axes) != 1:
        return False
    (axis,) = axes
    sizes = (size.evaluate({axis: n * multiples.get(axis, 1)}) for n in range(1, _SIZES_TRIED + 1))
    return all(isinstance(value, int) and value % 2 == 0 for value in sizes)


def _apply(conv: ir.Node) -> None:
    """Replace one convolution. Kernels are summed in the graph, which engines fold at loading; the data file stays."""
    image, weight = conv.inputs[:2]
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    out_channels, in_channels = weight_channels(conv)

    def put(op_type: str, inputs: list[ir.Value | None], part: str, **attributes: object) -> ir.Value:
        (value,) = insert_before(conv, op_type, inputs, part, attributes)
        return value

    def product(index: int, added: ir.Value | None) -> ir.Value:
        """Add the product m of this index, (B, out, H/2, W)."""
        rows = make_constant(_IMAGE[index].reshape(1, 1, 4, 1), conv)
        rows = put("Expand", [rows, make_sizes(conv, in_channels, 1, 4, 1)], f"rows_{index}")
        every_second = {"group": in_channels, "strides": [2, 1], "pads": [1, 0, 1, 0]}
        summed = put("Conv", [image, rows], f"picture_{index}", kernel_shape=[4, 1], **every_second)
        kernel = put("MatMul", [flat, make_constant(_row_sums(_KERNEL[index]), conv)], f"sums_{index}")
        kernel = put("Reshape", [kernel, make_sizes(conv, out_channels, in_channels, 1, 3)], f"kernel_{index}")
        return put("Conv", [summed, kernel, added], f"product_{index}", kernel_shape=[1, 3], pads=[0, 1, 0, 1])

    flat = put("Reshape", [weight, make_sizes(conv, out_channels, in_channels, 9)], "flat")
    second, third = product(1, None), product(2, None)
    upper = put("Add", [product(0, bias), put("Add", [second, third], "both")], "upper")
    lower = put("Add", [product(3, bias), put("Sub", [second, third], "difference")], "lower")
    pairs = put("Concat", [upper, lower], "pairs", axis=3)  # (B, out, H/2, 2 W): in memory, row after row
    sides = put("Shape", [image], "sides", start=2)
    shape = put("Concat", [make_sizes(conv, 0, out_channels), sides], "shape", axis=0)
    replace(conv, "Reshape", [pairs, shape], {})


def _row_sums(factors: np.ndarray) -> np.ndarray:
    """Make the matrix (9, 3) that sums the rows of a kernel's nine weights with these factors."""
    return np.kron(factors.reshape(3, 1), np.eye(3, dtype=np.float32))
