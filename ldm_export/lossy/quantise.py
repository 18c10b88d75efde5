"""Quantises a graph: weights in eight or four bits, and what they are multiplied with in eight, as standard ONNX.

Each layer, a convolution or a product with a weight, reads its input through QuantizeLinear and DequantizeLinear, and
its weight through DequantizeLinear (QDQ). Engines with kernels for eight bits put these in the place of such a group.
The numbers are the same whichever engine the graph is for, so that one data file serves all.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from ldm_export.errors import ExportError
from ldm_export.lossy.blocks import BLOCK, pack_blocks, signed_blocks
from ldm_export.lossy.layers import Layer, by_input, parameter_array, power_by_input, quantisable, stored
from ldm_export.lossy.ranges import SMALLEST_SCALE, Scale, ValueRange, check_range, fit_scale, smoothing
from ldm_export.optimise.matching import MICROSOFT, operands, producer, replace, used_once
from ldm_export.optimise.remove_unused import remove_unused

_LARGEST = 127  # of a signed weight, on both sides
_LARGEST_BIAS = 2.0**30  # a product of 23,040 channels and taps adds 0.7·2^30 at most: int32 holds both


@dataclass(frozen=True)
class Scheme:
    """What is quantised, and for which kind of engine.

    weights: "int4" is for products; convolutions then have int8. activations: the inputs of layers are rounded to uint8
    too; False: weights alone are small, and float32 is computed with. alpha: of SmoothQuant, above 0 to 1; None: no
    smoothing. It is not always a gain: with 0.5 for all layers, images of the built-in model were 30 dB from the exact
    ones, without it 42 dB (medians of 8, OpenVINO). outputs: convolutions' outputs are rounded to uint8, and their
    biases to int32, without which ONNX Runtime computes convolutions in float32. in_eight_bits: products that "int4"
    stores in eight bits all the same. blocks: the operator that reads "int4": ONNX Runtime's own, or the standard one
    (opset 21), which is for inputs that are a multiple of a block; other products have int8 there.
    """

    weights: Literal["int8", "int4"] = "int8"
    activations: bool = True
    alpha: float | None = None
    outputs: bool = False
    in_eight_bits: frozenset[str] = frozenset()
    blocks: Literal["MatMulNBits", "DequantizeLinear"] = "MatMulNBits"

    def __post_init__(self) -> None:
        if self.weights == "int4" and self.activations:
            raise ExportError("weights in int4 with activations in int8 is not supported; choose activations=False")
        if self.outputs and not self.activations:
            raise ExportError("outputs are rounded only where activations are; choose outputs=False")
        if self.alpha is not None and not 0 < self.alpha <= 1:
            raise ExportError(f"alpha is {self.alpha!r}; expected a number above 0, at most 1, or None")


def quantise(
    model: ir.Model, ranges: Mapping[str, ValueRange], scheme: Scheme, keep: Collection[str] = ()
) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """Quantise all layers of `model`, which is changed in place, but those named in `keep`.

    ranges: by name of value, of the inputs of layers and, with `scheme.outputs`, the outputs of convolutions; as
    `calibrate.collect_ranges` returns them. Returns the model and what is to be stored for it, by name; the names are
    initialisers of the graph beside those that it keeps. Two layers that read one value share its rounding. A second
    time nothing is left to do.

    Raises:
        ExportError: a range is missing, of another shape or not finite; a weight is not finite; `keep` names a layer
        that does not exist, or two layers have one name.
    """
    layers = quantisable(model)
    _check_names(layers, keep)
    chosen = [layer for layer in layers if layer.name not in keep]
    writer = _Writer(model, scheme, ranges)
    if scheme.activations:
        for readers in by_input(chosen):
            writer.quantise_products(readers)
        for layer in chosen if scheme.outputs else ():
            if layer.is_convolution:
                writer.round_output(layer)
    else:
        for layer in chosen:
            writer.shrink_weight(layer)
    remove_unused(model)
    return model, writer.data


def _check_names(layers: list[Layer], keep: Collection[str]) -> None:
    counts = Counter(layer.name for layer in layers)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ExportError(f"{counts[twice[0]]} layers of the graph are called {twice[0]!r}; export the component again")
    unknown = set(keep) - set(counts)
    if layers and unknown:
        raise ExportError(
            f"there is no layer {min(unknown)!r} to keep in float32; expected nodes such as {layers[0].name!r}"
        )


class _Writer:
    """Writes nodes into the graph, and what they read into `data`."""

    def __init__(self, model: ir.Model, scheme: Scheme, ranges: Mapping[str, ValueRange]) -> None:
        self.model = model
        self.scheme = scheme
        self.ranges = ranges
        self.data: dict[str, np.ndarray] = {}
        self.keys: dict[str, str] = {}  # of the data of a weight -> the layer that they belong to

    def quantise_products(self, readers: list[Layer]) -> None:
        """Quantise layers that read one value, with it."""
        first, value = readers[0], readers[0].input
        found = self._range(value, first.channels[1])
        weights = [parameter_array(layer.stored, layer.name) for layer in readers]
        if self.scheme.alpha is not None:
            largest = np.max(list(map(_largest_by_input, readers, weights)), axis=0)
            divisors = smoothing(found, largest, self.scheme.alpha)
            found = found.divided(divisors)
            weights = [each * layer.along_inputs(divisors) for layer, each in zip(readers, weights, strict=True)]
            value = self._smoothed(value, divisors, readers)
        scale = fit_scale(found, np.sum(list(map(power_by_input, readers, weights)), axis=0))
        rounded = self._rounded(first.node, value, scale, f"{self._key(first)}/input")
        for layer, weight in zip(readers, weights, strict=True):
            layer.node.replace_input_with(0, rounded)
            self._quantise_weight(layer, weight, scale)

    def round_output(self, layer: Layer) -> None:
        """Let everything that reads a convolution's output read it in eight bits."""
        old = layer.node.outputs[0]
        found = self._range(old, layer.channels[0])
        scale = fit_scale(found, np.ones(layer.channels[0], np.float32))
        numbers = self._numbers(scale, f"{self._key(layer)}/output")
        down = ir.node("QuantizeLinear", [old, *numbers], name=f"{layer.name}/output/QuantizeLinear")
        up = ir.node("DequantizeLinear", [down.outputs[0], *numbers], name=f"{layer.name}/output/DequantizeLinear")
        new = up.outputs[0]
        new.type, new.shape = old.type, old.shape
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        down.replace_input_with(0, old)
        self.model.graph.insert_after(layer.node, [down, up])
        old.name, new.name = f"{old.name}/computed", old.name

    def shrink_weight(self, layer: Layer) -> None:
        """Store a weight in fewer bits, and widen it where it is read."""
        weight = parameter_array(layer.stored, layer.name)
        if not self._has_four_bits(layer):
            self._quantise_weight(layer, weight, None)
        elif self.scheme.blocks == "MatMulNBits":
            self._put_blocks(layer, weight)
        else:
            self._widen_blocks(layer, weight)

    def _has_four_bits(self, layer: Layer) -> bool:
        fits = self.scheme.blocks == "MatMulNBits" or layer.channels[1] % BLOCK == 0
        is_product = self.scheme.weights == "int4" and not layer.is_convolution
        return is_product and fits and layer.name not in self.scheme.in_eight_bits

    def _quantise_weight(self, layer: Layer, weight: np.ndarray, scale: Scale | None) -> None:
        """Store a weight with a scale for each output, and read it; `scale`: of the layer's input, if rounded."""
        bias = None if layer.bias is None or scale is None else parameter_array(layer.bias, layer.name)
        steps = _weight_scales(weight, layer, bias, scale)
        rounded = np.clip(np.rint(weight / layer.along_outputs(steps)), -_LARGEST, _LARGEST).astype(np.int8)
        key = self._key(layer)
        inputs = [self._initial(f"{key}/int8", rounded), self._initial(f"{key}/scale", steps)]
        axis, old = layer.output_axis, layer.node.inputs[1]
        layer.node.replace_input_with(1, self._put(layer.node, "DequantizeLinear", inputs, "weight", axis, like=old))
        if bias is not None and scale is not None and self.scheme.outputs:
            products = scale.scale * steps
            whole = np.rint(bias.astype(np.float64) / products).astype(np.int32)
            inputs = [self._initial(f"{key}/bias", whole), self._initial(f"{key}/bias_scale", products)]
            layer.node.replace_input_with(2, self._put(layer.node, "DequantizeLinear", inputs, "bias", 0))

    def _put_blocks(self, layer: Layer, weight: np.ndarray) -> None:
        """Put MatMulNBits in the place of a product: its weight is stored in blocks of four bits."""
        outputs, inputs = layer.channels
        packed, scales = pack_blocks(weight.T)
        key = self._key(layer)
        numbers = [self._initial(f"{key}/int4", packed), self._initial(f"{key}/scale", scales)]
        attributes = {"K": inputs, "N": outputs, "bits": 4, "block_size": BLOCK}
        replace(layer.node, "MatMulNBits", [layer.input, *numbers], attributes, domain=MICROSOFT)
        self.model.opset_imports[MICROSOFT] = 1

    def _widen_blocks(self, layer: Layer, weight: np.ndarray) -> None:
        """Store a weight (I, O) in the same blocks, and read it through DequantizeLinear along its inputs."""
        packed, scales = signed_blocks(weight)
        key = self._key(layer)
        self.data[f"{key}/int4"] = packed
        shape = weight.shape
        tensor = ir.PackedTensor(packed, ir.DataType.INT4, shape=shape, name=f"{key}/int4")
        value = ir.Value(name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(shape), const_value=tensor)
        self.model.graph.register_initializer(value)
        inputs = [value, self._initial(f"{key}/scale", scales)]
        wide = self._put(layer.node, "DequantizeLinear", inputs, "weight", 0, like=layer.node.inputs[1])
        node = wide.producer()
        assert node is not None
        node.attributes["block_size"] = ir.AttrInt64("block_size", BLOCK)
        layer.node.replace_input_with(1, wide)
        self.model.opset_imports[""] = max(21, self.model.opset_imports[""])  # the first with blocks
        self.model.ir_version = max(10, self.model.ir_version)  # which that needs

    def _smoothed(self, value: ir.Value, divisors: np.ndarray, readers: list[Layer]) -> ir.Value:
        """Return `value` divided by channel: in the norm that makes it, where nothing else reads it, or by a node."""
        nodes = {layer.node for layer in readers}
        if not value.is_graph_output() and all(node in nodes for node in value.consumers()):
            parameters = _affine(value)
            for (node, index), part in zip(parameters, ("weight", "bias"), strict=False):
                parameter = node.inputs[index]
                assert parameter is not None
                divided = parameter_array(parameter, str(node.name)) / divisors
                node.replace_input_with(index, self._initial(f"{self._key(readers[0])}/norm_{part}", divided))
            if parameters:
                return value
        first = readers[0]
        factors = (1 / divisors).reshape(-1, *(1,) * (first.rank - 2))  # (C,) or, for images, (C, 1, 1)
        factor = self._initial(f"{self._key(first)}/smoothing", factors)
        return self._put(first.node, "Mul", [value, factor], "smoothing", None, like=value)

    def _rounded(self, before: ir.Node, value: ir.Value, scale: Scale, name: str) -> ir.Value:
        """Insert QuantizeLinear and DequantizeLinear of `value`."""
        numbers = self._numbers(scale, name)
        down = self._put(before, "QuantizeLinear", [value, *numbers], "input", None)
        return self._put(before, "DequantizeLinear", [down, *numbers], "input", None, like=value)

    def _numbers(self, scale: Scale, name: str) -> list[ir.Value]:
        return [
            self._initial(f"{name}_scale", np.array(scale.scale)),
            self._initial(f"{name}_zero", np.array(scale.zero)),
        ]

    def _put(
        self,
        before: ir.Node,
        op_type: str,
        inputs: list[ir.Value],
        part: str,
        axis: int | None,
        like: ir.Value | None = None,
    ) -> ir.Value:
        attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
        node = ir.node(op_type, inputs, attributes, name=f"{before.name}/{part}/{op_type}")
        value = node.outputs[0]
        value.name = f"{before.name}/{part}/{op_type}"
        if like is not None:
            value.type, value.shape = like.type, like.shape
        self.model.graph.insert_before(before, node)
        return value

    def _initial(self, name: str, array: np.ndarray) -> ir.Value:
        """Return the initialiser `name`, which is new."""
        assert name not in self.data
        self.data[name] = array
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        self.model.graph.register_initializer(value)
        return value

    def _key(self, layer: Layer) -> str:
        """Return the name that the data of a layer begin with: its weight's; of a second reader, its own too."""
        name = str(layer.stored.name)
        owner = self.keys.setdefault(name, layer.name)
        return name if owner == layer.name else f"{name} of {layer.name}"

    def _range(self, value: ir.Value, channels: int) -> ValueRange:
        name = str(value.name)
        if name not in self.ranges:
            raise ExportError(f"there is no range of {name!r}; calibrate this component with the layers that are in it")
        found = self.ranges[name]
        check_range(found, channels, name)
        return found


def _weight_scales(weight: np.ndarray, layer: Layer, bias: np.ndarray | None, scale: Scale | None) -> np.ndarray:
    """Return a scale for each output: float32 (O,). It is wide enough for a bias in int32 of the products' scale."""
    steps = np.abs(weight).max(axis=layer.over_inputs()) / np.float32(_LARGEST)
    if bias is not None and scale is not None:
        steps = np.maximum(steps, np.abs(bias) / np.float32(scale.scale * _LARGEST_BIAS))
    return np.asarray(np.maximum(steps, SMALLEST_SCALE), np.float32)


def _largest_by_input(layer: Layer, weight: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(weight).max(axis=layer.over_outputs()))


def _affine(value: ir.Value) -> list[tuple[ir.Node, int]]:
    """Return where the scale and the shift of the norm that makes `value` are read: (node, index of its input)."""
    norm = producer(value, "LayerNormalization")
    if norm is not None:
        places = [(norm, index) for index in (1, 2) if index < len(norm.inputs) and norm.inputs[index] is not None]
        return places if all(stored(node.inputs[index]) is not None for node, index in places) else []
    shifted = producer(value, "Add")
    for scaled, shift in [] if shifted is None else operands(shifted):
        product = producer(scaled, "Mul")
        for normal, factor in [] if product is None or not used_once(scaled) else operands(product):
            reshape = producer(normal, "Reshape")
            spread = [producer(each, "Unsqueeze") for each in (factor, shift)]
            if reshape is not None and producer(reshape.inputs[0], "InstanceNormalization") is not None:
                places = [(node, 0) for node in spread if node is not None and used_once(node.outputs[0])]
                if len(places) == 2 and all(stored(node.inputs[0]) is not None for node, _ in places):
                    return places
    return []
