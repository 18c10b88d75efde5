"""The layers of a graph: convolutions and products whose weight is a parameter, and how its axes lie."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ldm_export.errors import ExportError
from ldm_export.optimise.matching import is_weight, producer

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_FEW_CHANNELS = 16  # an image's or a latent's: so little work that it stays in float32


@dataclass(frozen=True)
class Layer:
    """A convolution in one group, or a product of a value with a matrix, whose weight is a parameter."""

    node: ir.Node
    stored: ir.Value  # the weight as the data file has it

    @property
    def name(self) -> str:
        return str(self.node.name)

    @property
    def is_convolution(self) -> bool:
        return self.node.op_type == "Conv"

    @property
    def input(self) -> ir.Value:
        value = self.node.inputs[0]
        assert value is not None
        return value

    @property
    def bias(self) -> ir.Value | None:
        """The bias of a convolution; a product's is a node of its own."""
        return self.node.inputs[2] if len(self.node.inputs) > 2 else None

    @property
    def output_axis(self) -> int:
        """The axis of outputs in the stored weight: (O, I, …) of a convolution, (I, O) of a product."""
        return 0 if self.is_convolution else 1

    @property
    def rank(self) -> int:
        """The number of the weight's axes."""
        return len(self.stored.shape or ())

    @property
    def channels(self) -> tuple[int, int]:
        """Output and input channels."""
        assert self.stored.shape is not None
        shape = self.stored.shape.numpy()
        return shape[self.output_axis], shape[1 - self.output_axis]

    def along_inputs(self, values: np.ndarray) -> np.ndarray:
        """Return `values` (I,) in a shape that broadcasts along the weight's axis of inputs."""
        return values.reshape([-1 if axis == 1 - self.output_axis else 1 for axis in range(self.rank)])

    def along_outputs(self, values: np.ndarray) -> np.ndarray:
        """Return `values` (O,) in a shape that broadcasts along the weight's axis of outputs."""
        return values.reshape([-1 if axis == self.output_axis else 1 for axis in range(self.rank)])

    def over_outputs(self) -> tuple[int, ...]:
        """Return the axes of the weight but that of inputs."""
        return tuple(axis for axis in range(self.rank) if axis != 1 - self.output_axis)

    def over_inputs(self) -> tuple[int, ...]:
        """Return the axes of the weight but that of outputs."""
        return tuple(axis for axis in range(self.rank) if axis != self.output_axis)


def quantisable(model: ir.Model) -> list[Layer]:
    """Return the layers that can be quantised, in the graph's order. Weights that are rounded already are none."""
    return [Layer(node, weight) for node in model.graph if (weight := _stored_weight(node)) is not None]


def exposed(model: ir.Model) -> frozenset[str]:
    """Name the layers that stay in float32 whatever the budget: little work, or the first and last to touch numbers.

    These read or write the graph's own inputs and outputs (so do keys and values of the text, whose first token is an
    outlier), read a vector for each image (the embedding of time), or have fewer than 16 channels on a side.
    """
    inputs, few = set(model.graph.inputs), narrow(model)
    return frozenset(
        layer.name
        for layer in quantisable(model)
        if layer.input in inputs or layer.node.outputs[0].is_graph_output() or _is_vector(layer) or layer.name in few
    )


def narrow(model: ir.Model) -> frozenset[str]:
    """Name the layers with fewer than 16 channels on a side: those of an image or a latent, with few weights."""
    return frozenset(layer.name for layer in quantisable(model) if min(layer.channels) < _FEW_CHANNELS)


def by_input(layers: Iterable[Layer]) -> list[list[Layer]]:
    """Group layers by the value that they read; a product has its channels elsewhere than a convolution."""
    groups: dict[tuple[ir.Value, bool], list[Layer]] = {}
    for layer in layers:
        groups.setdefault((layer.input, layer.is_convolution), []).append(layer)
    return list(groups.values())


def power_by_input(layer: Layer, weight: np.ndarray) -> np.ndarray:
    """Return what a squared error in each input adds to the outputs: float32 (I,)."""
    return np.asarray(np.square(weight).sum(axis=layer.over_outputs()))


def stored(value: ir.Value | None) -> ir.Value | None:
    """Return a parameter as it is stored, perhaps before a Cast; None for anything else."""
    if value is None or not is_weight(value):
        return None
    cast = producer(value, "Cast")
    return value if cast is None else cast.inputs[0]


def parameter_array(parameter: ir.Value, layer: str) -> np.ndarray:
    """Return a parameter, stored or widened, as float32. Raises ExportError for NaN, infinity and computed values."""
    source = stored(parameter)
    if source is None or source.const_value is None:
        raise ExportError(f"{parameter.name!r}, which {layer} reads, is not stored; export the component again")
    array = np.asarray(source.const_value.numpy()).astype(np.float32)
    if not np.isfinite(array).all():
        raise ExportError(f"{source.name!r} holds NaN or infinity, which no scale covers; check the checkpoint")
    return array


def _stored_weight(node: ir.Node) -> ir.Value | None:
    """Return the weight of a layer as it is stored; None if the node is none, or its weight is not known."""
    if node.domain != "" or node.op_type not in ("Conv", "MatMul") or node.attributes.get_int("group", 1) != 1:
        return None
    weight = stored(node.inputs[1])
    if weight is None or weight.dtype not in _FLOATS or weight.const_value is None or weight.shape is None:
        return None
    return weight if node.op_type == "Conv" or len(weight.shape) == 2 else None


def _is_vector(layer: Layer) -> bool:
    """Tell whether a product reads one vector for each image."""
    return not layer.is_convolution and layer.input.shape is not None and len(layer.input.shape) == 2
