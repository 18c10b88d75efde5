"""The layers whose rate is measured: convolutions and products as Stable Diffusion 1.5 has them, as graphs."""

import math
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from ldm_export.lossy.quantise import Scheme, quantise
from ldm_export.lossy.ranges import ValueRange

OPSET = 22  # the first whose convolution may be in bfloat16
_SPREAD = 4.0  # of values: a standard deviation is 1


@dataclass(frozen=True)
class Shape:
    """Two layers, one behind the other: convolutions 3x3, or a product and its way back.

    input: shape of what the first reads, (B, C, H, W) or (rows, K). outputs: channels of the first; the second has as
    many as the input.
    """

    name: str
    input: tuple[int, ...]
    outputs: int

    @property
    def is_convolution(self) -> bool:
        return len(self.input) == 4

    @property
    def channels(self) -> int:
        return self.input[1]

    @property
    def macs(self) -> int:
        """Multiplications with addition of one evaluation."""
        places = math.prod(self.input) // self.channels
        return 2 * places * self.channels * self.outputs * (9 if self.is_convolution else 1)

    def feed(self) -> np.ndarray:
        return np.random.default_rng(2).standard_normal(self.input).astype(np.float32)


# Of the UNet at batch 2 and 512x512 pixels, then of the decoder: each level, with its widest product.
UNET = (
    Shape("UNet, 3x3, 320 channels at 64x64", (2, 320, 64, 64), 320),
    Shape("UNet, 3x3, 640 channels at 32x32", (2, 640, 32, 32), 640),
    Shape("UNet, 3x3, 1280 channels at 16x16", (2, 1280, 16, 16), 1280),
    Shape("UNet, 8192 rows, 320 to 2560", (8192, 320), 2560),
    Shape("UNet, 2048 rows, 640 to 5120", (2048, 640), 5120),
    Shape("UNet, 512 rows, 1280 to 10240", (512, 1280), 10240),
)
DECODER = (
    Shape("decoder, 3x3, 512 channels at 128x128", (1, 512, 128, 128), 512),
    Shape("decoder, 3x3, 256 channels at 256x256", (1, 256, 256, 256), 256),
    Shape("decoder, 3x3, 128 channels at 512x512", (1, 128, 512, 512), 128),
)
SHAPES = UNET + DECODER


def float_graph(shape: Shape) -> ir.Model:
    """Return the two layers in float32, with random weights that keep the values near 1."""
    random = np.random.default_rng(1)
    weights, nodes, value = [], [], "x"
    for index, (inputs, outputs) in enumerate([(shape.channels, shape.outputs), (shape.outputs, shape.channels)]):
        name = f"layer{index}"
        made = f"y{index}" if index == 0 else "y"
        dims = (outputs, inputs, 3, 3) if shape.is_convolution else (inputs, outputs)
        weight = random.standard_normal(dims) / math.sqrt(inputs * (9 if shape.is_convolution else 1))
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}.weight"))
        read = [value, f"{name}.weight"]
        if shape.is_convolution:
            weights.append(numpy_helper.from_array(np.zeros(outputs, np.float32), f"{name}.bias"))
            nodes.append(helper.make_node("Conv", [*read, f"{name}.bias"], [made], name, pads=[1, 1, 1, 1]))
        else:
            nodes.append(helper.make_node("MatMul", read, [made], name))
        value = made
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape.input) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "roofline", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def quantised_graph(shape: Shape, *, outputs: bool) -> ir.Model:
    """Return the two layers with weights and activations in eight bits. outputs: convolutions round theirs too."""
    model = float_graph(shape)
    ranges = {"x": _range(shape.channels), "y0": _range(shape.outputs), "y": _range(shape.channels)}
    return quantise(model, ranges, Scheme(outputs=outputs))[0]


def bfloat16_graph(shape: Shape) -> ir.Model:
    """Return the two layers with all values in bfloat16 but for the graph's own input and output."""
    model = float_graph(shape)
    for weight in model.graph.initializers.values():
        assert weight.const_value is not None
        halved = ir.tensor(weight.const_value.numpy(), ir.DataType.FLOAT).numpy().astype(ir.DataType.BFLOAT16.numpy())
        weight.const_value = ir.tensor(halved, ir.DataType.BFLOAT16, name=weight.name)
        weight.type = ir.TensorType(ir.DataType.BFLOAT16)
    first, last = (model.graph[index] for index in (0, -1))
    down = ir.node("Cast", [model.graph.inputs[0]], {"to": ir.DataType.BFLOAT16}, name="down")
    first.replace_input_with(0, down.outputs[0])
    model.graph.insert_before(first, down)
    up = ir.node("Cast", [last.outputs[0]], {"to": ir.DataType.FLOAT}, name="up")
    output = model.graph.outputs[0]
    up.outputs[0].type, up.outputs[0].shape = output.type, output.shape
    output.name, up.outputs[0].name = "y_bfloat16", "y"
    model.graph.append(up)
    model.graph.outputs[0] = up.outputs[0]
    for node in (down, first, last):
        node.outputs[0].type = ir.TensorType(ir.DataType.BFLOAT16)
    return model


def _range(channels: int) -> ValueRange:
    ends: np.ndarray = np.full(channels, _SPREAD, np.float32)
    return ValueRange(-ends, ends, np.random.default_rng(3).standard_normal((64, channels)).astype(np.float32))
