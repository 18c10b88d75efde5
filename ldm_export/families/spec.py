"""The inputs and outputs of a component's graph, in one place: names, dtypes, axes, samples.

Exporter, verifier and manifest all read it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from ldm_runtime.package.manifest import Multiple
from ldm_runtime.package.tensor_spec import ComponentContract, TensorSpec

Sizes = Mapping[str, int]  # axis name -> size


@dataclass(frozen=True)
class TracedAxis:
    """A dynamic axis, and the one size at which the graph is traced."""

    minimum: int
    maximum: int
    traced: int

    def __post_init__(self) -> None:
        assert self.minimum <= self.traced <= self.maximum


@dataclass(frozen=True)
class ComponentSpec:
    """One graph of the package. `part` is the checkpoint's model that it is cut from.

    uniform: inputs that are drawn evenly from a range, where others are normally distributed. unread: outputs that
    only other programs read; verification leaves them out.
    """

    name: str
    part: str
    wrapper: Callable[[nn.Module], nn.Module]  # part -> a module whose `forward` is the graph
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    axes: Mapping[str, TracedAxis]
    multiples: Mapping[str, Multiple]
    probes: tuple[Sizes, ...]  # sizes of all `axes`, none of them traced: what verification runs
    vocabulary: tuple[int, int] | None = None  # size, end-of-text id
    uniform: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()
    scale: float = 1.0  # random values'; latents have the spread that the decoder was trained on
    traced: Sizes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "traced", {name: axis.traced for name, axis in self.axes.items()})
        for probe in self.probes:
            assert probe.keys() == self.axes.keys()
            for name, axis in self.axes.items():
                assert axis.minimum <= probe[name] <= axis.maximum and probe[name] != axis.traced

    @property
    def contract(self) -> ComponentContract:
        return ComponentContract(self.inputs, self.outputs)

    @property
    def factors(self) -> dict[str, int]:
        """Return the factors of axes that are always integer multiples of a number, by name."""
        return {name: multiple.factor for name, multiple in self.multiples.items()}

    def size_range(self, axis: str) -> tuple[int, int]:
        """Return the smallest and largest legal size of an axis, image axes included."""
        if axis in self.multiples:
            multiple = self.multiples[axis]
            source = self.axes[multiple.axis]
            return source.minimum * multiple.factor, source.maximum * multiple.factor
        return self.axes[axis].minimum, self.axes[axis].maximum

    def all_sizes(self, sizes: Sizes) -> dict[str, int]:
        """Complete the sizes of `axes` by those of `multiples`."""
        return {**sizes, **{name: sizes[of.axis] * of.factor for name, of in self.multiples.items()}}

    def shape(self, tensor: TensorSpec, sizes: Sizes) -> tuple[int, ...]:
        """Return the shape of an input or output where the axes have these sizes."""
        complete = self.all_sizes(sizes)
        return tuple(dim if isinstance(dim, int) else complete[dim] for dim in tensor.dims)

    def sample(self, sizes: Sizes, seed: int) -> dict[str, np.ndarray]:
        """Draw random inputs at these sizes: same spec, sizes and seed, same values.

        Every row of tokens holds an end-of-text token somewhere; timesteps are fractional, as some
        samplers make them; latents and images are normally distributed.
        """
        random = np.random.default_rng(seed)
        return {tensor.name: self._draw(tensor, sizes, random) for tensor in self.inputs}

    def _draw(self, tensor: TensorSpec, sizes: Sizes, random: np.random.Generator) -> np.ndarray:
        shape = self.shape(tensor, sizes)
        if tensor.dtype == "int64":
            assert self.vocabulary is not None
            size, end = self.vocabulary
            ids = random.integers(0, size, shape)
            if end < size:
                ids[np.arange(shape[0]), random.integers(0, shape[1], shape[0])] = end
            return ids
        if tensor.name in self.uniform:
            return random.uniform(*self.uniform[tensor.name], shape).astype(np.float32)
        return np.float32(self.scale) * random.standard_normal(shape, np.float32)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the part as this component's graph sees it, in evaluation mode."""
        return self.wrapper(model).eval()
