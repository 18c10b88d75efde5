"""Rewrites convolutions of a graph in OpenVINO whose image sizes are known, so that fewer products are computed.

Both identities are those of the exporter's passes: the doubled image's convolution of `split_upsampling` (Shi et al.
2016, arXiv:1609.05158) and Winograd's F(2, 3) of `apply_winograd` (Lavin and Gray 2016, arXiv:1509.09308). They are
applied as a graph is loaded, since a denoiser's image may have any size and only a run knows it. Kernels are summed in
float32 then; no file holds them.
"""

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

UPSAMPLING, WINOGRAD = "upsampling", "winograd"
METHODS = (UPSAMPLING, WINOGRAD)

# Winograd's sums cost what they save for fewer channels. One thread of an AVX-512 machine, OpenVINO 2026.4, time with
# them over time without: 128 channels of 256x256 1.02, 256 to 128 0.91, 320 of 64x64 0.80, 640 of 32x32 0.79, 512 of
# 128x128 0.61, 1280 of 16x16 0.66.
MIN_CHANNELS = 256
MIN_PIXELS = 256  # with fewer, reading the weights takes the time, and there are a third more of them

# Along one side: parity of the output -> for both places of the small image the weights of the kernel that hit it.
_TAPS = (((0,), (1, 2)), ((0, 1), (2,)))
# Rows of the image that a product sums; weights of the kernel's rows in it. The last has its sign changed.
_IMAGE = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, -1]], np.float32)


@dataclass(frozen=True)
class Saving:
    """A convolution that can be rewritten, with fewer products.

    image: what it reads; of `upsampling` the small one. kernel: (out, in, 3, 3). bias: (1, out, 1, 1), added by `last`.
    last: the node whose value is replaced.
    """

    method: str
    image: Any
    kernel: np.ndarray
    bias: np.ndarray | None
    last: Any
    sides: tuple[int, int]


def find_savings(model: Any, methods: Collection[str]) -> list[Saving]:
    """List what `methods` can rewrite in a model of OpenVINO; its image sizes must be fixed to find anything."""
    found = (_saving(node, methods) for node in model.get_ordered_ops() if node.get_type_name() == "Convolution")
    return [saving for saving in found if saving is not None]


def save_products(savings: Collection[Saving]) -> None:
    """Rewrite convolutions, in place. Sums come in another order; nothing else changes."""
    for saving in savings:
        made = _split(saving) if saving.method == UPSAMPLING else _winograd(saving)
        old, new = saving.last.output(0), made.output(0)
        made.set_friendly_name(f"{saving.last.get_friendly_name()}/{saving.method}")
        names = old.get_names()
        for reader in old.get_target_inputs():
            reader.replace_source_output(new)
        new.add_names(names)


def _saving(node: Any, methods: Collection[str]) -> Saving | None:
    kernel, image = _stored(node.input_value(1)), node.input_value(0)
    if kernel is None or kernel.ndim != 4 or kernel.shape[2:] != (3, 3) or not _is_padded(node):
        return None
    sides = _sides(image)
    if sides is None:
        return None
    (height, width), (out_channels, in_channels) = sides, kernel.shape[:2]
    bias, last = _bias(node)
    small = image.get_node()
    if UPSAMPLING in methods and _doubles(small) and len(image.get_target_inputs()) == 1:
        return Saving(UPSAMPLING, small.input_value(0), kernel, bias, last, sides)
    wide = min(out_channels, in_channels) >= MIN_CHANNELS and height * width >= MIN_PIXELS
    if WINOGRAD in methods and wide and height % 2 == 0:
        return Saving(WINOGRAD, image, kernel, bias, last, sides)
    return None


def _is_padded(node: Any) -> bool:
    """Tell whether a convolution has stride 1 and one pixel of zeros around its image."""
    attributes = node.get_attributes()
    ones = all(list(attributes[name]) == [1, 1] for name in ("strides", "dilations", "pads_begin", "pads_end"))
    return ones and attributes["auto_pad"] == "explicit"


def _doubles(node: Any) -> bool:
    """Match nearest neighbour, both sides twice as long, pixel i from i // 2."""
    if node.get_type_name() != "Interpolate":
        return False
    attributes, small, large = node.get_attributes(), _sides(node.input_value(0)), _sides(node.output(0))
    return (
        attributes["mode"] == "nearest"
        and attributes["coordinate_transformation_mode"] == "asymmetric"
        and attributes["nearest_mode"] == "floor"
        and not any(attributes["pads_begin"])
        and not any(attributes["pads_end"])
        and small is not None
        and large == (2 * small[0], 2 * small[1])
    )


def _bias(node: Any) -> tuple[np.ndarray | None, Any]:
    """Return the bias that is added to a convolution, and the node that ends both; None and itself if there is none."""
    readers = list(node.output(0).get_target_inputs())
    if len(readers) != 1 or readers[0].get_node().get_type_name() != "Add":
        return None, node
    add = readers[0].get_node()
    bias = _stored(add.input_value(1 - readers[0].get_index()))
    channels = node.input_value(1).get_shape()[0]
    return (None, node) if bias is None or bias.shape != (1, channels, 1, 1) else (bias, add)


def _stored(value: Any) -> np.ndarray | None:
    """Return a float32 array that is stored, or widened or reshaped from a stored one; None for anything else."""
    node, shape = value.get_node(), value.get_partial_shape()
    kind, name = node.get_type_name(), value.get_element_type().get_type_name()
    if kind == "Constant":
        array: np.ndarray | None = node.data if name in ("f32", "f16") else None
    else:
        array = _stored(node.input_value(0)) if kind in ("Convert", "Reshape", "Unsqueeze") else None
    if array is None or not shape.is_static or name not in ("f32", "f16"):
        return None
    return array.reshape(tuple(value.get_shape())).astype(np.float32, copy=False)


def _sides(value: Any) -> tuple[int, int] | None:
    """Return (height, width) of a batch of images, if both are fixed."""
    shape = value.get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != 4 or shape[2].is_dynamic or shape[3].is_dynamic:
        return None
    return shape[2].get_length(), shape[3].get_length()


def _split(saving: Saving) -> Any:
    """Make four convolutions 2x2 of the small image, whose results interleave."""
    from openvino import opset13 as operators

    images = []
    for y, x in itertools.product((0, 1), (0, 1)):
        columns = [saving.kernel[..., taps].sum(axis=3) for taps in _TAPS[x]]
        kernel = np.stack([np.stack([each[:, :, taps].sum(axis=2) for each in columns], 2) for taps in _TAPS[y]], 2)
        images.append(_convolution(saving.image, kernel, (1 - y, 1 - x), (y, x), saving.bias))
    return operators.depth_to_space(operators.concat(images, 1), "blocks_first", 2)


def _winograd(saving: Saving) -> Any:
    """Make four convolutions 1x3 of sums of rows; two rows of the result are sums of them."""
    from openvino import opset13 as operators

    (height, width), (out_channels, in_channels) = saving.sides, saving.kernel.shape[:2]

    def product(index: int, bias: np.ndarray | None = None) -> Any:
        rows = np.broadcast_to(_IMAGE[index].reshape(1, 1, 1, 4, 1), (in_channels, 1, 1, 4, 1))
        summed = operators.group_convolution(saving.image, _constant(rows), [2, 1], [1, 0], [1, 0], [1, 1])
        kernel = np.einsum("oirc,r->oic", saving.kernel, _KERNEL[index]).reshape(out_channels, in_channels, 1, 3)
        return _convolution(summed, kernel, (0, 1), (0, 1), bias)

    second, third = product(1), product(2)
    upper = operators.add(product(0, saving.bias), operators.add(second, third))
    lower = operators.add(product(3, saving.bias), operators.subtract(second, third))
    pairs = operators.concat([upper, lower], 3)  # (B, out, H/2, 2 W): in memory, row after row
    return operators.reshape(pairs, operators.constant([0, out_channels, height, width]), special_zero=True)


def _convolution(
    image: Any, kernel: np.ndarray, begin: tuple[int, int], end: tuple[int, int], bias: np.ndarray | None
) -> Any:
    """Make a convolution with these pads, and the Add of its bias, which OpenVINO fuses."""
    from openvino import opset13 as operators

    made = operators.convolution(image, _constant(kernel), [1, 1], list(begin), list(end), [1, 1])
    return made if bias is None else operators.add(made, _constant(bias))


def _constant(array: np.ndarray) -> Any:
    """Make a Constant that reads the array's own memory, and keeps it."""
    import openvino

    return openvino.op.Constant(np.require(array, requirements=("C", "W")), shared_memory=True)
