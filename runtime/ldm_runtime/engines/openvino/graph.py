"""A graph that OpenVINO has read: what it takes and gives, and how it is compiled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ldm_runtime.engines.openvino.forms import Compiled, Primed, Sizes
from ldm_runtime.engines.openvino.savings import fix_sizes, spare
from ldm_runtime.engines.openvino.split import Run
from ldm_runtime.package.manifest import DenoiserRole
from ldm_runtime.package.tensor_spec import TensorSpec


@dataclass(frozen=True)
class Compiler:
    """A device with the properties that a graph is compiled with. cached: those that keep its form for any size."""

    core: Any
    device: str
    properties: Mapping[str, str]
    cached: Mapping[str, str]
    savings: frozenset[str]

    def compile(self, model: Any, more: Mapping[str, str] | None = None) -> Any:
        """Compile a model. Raises RuntimeError."""
        return self.core.compile_model(model, self.device, {**self.properties, **({} if more is None else more)})


class Graph:
    """A graph, until it is compiled for any size; its parts and sums are made of copies of it.

    role: of a denoiser, None for other components. opened: a compiled model that tells which properties were set.
    """

    def __init__(
        self,
        model: Any,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        role: DenoiserRole | None,
        compiler: Compiler,
    ) -> None:
        names = {spec.name for spec in inputs}
        is_whole = role is not None and {role.sample, role.timestep, role.context} <= names
        self._role = role if is_whole else None
        self._outputs = [spec.name for spec in outputs]
        self._images = images_of(inputs)
        self._model = model
        self._compiler = compiler
        self.opened: Any = None

    def try_properties(self) -> None:
        """Raise RuntimeError if OpenVINO does not know a property: the graph itself is compiled later."""
        from openvino import Model, opset13

        number = opset13.parameter([1], np.float32)
        self.opened = self._compiler.compile(Model([opset13.relu(number)], [number], "smallest"))

    def form(self, sizes: Sizes | None) -> Run:
        """Compile the graph for images of these sizes, or for any, which ends it. Raises RuntimeError."""
        compiler, model = self._compiler, self._model
        if model is None:
            raise RuntimeError("the graph was closed")
        if sizes is None:
            self.opened, self._model = compiler.compile(model, compiler.cached), None
            return self._primed(Compiled(self.opened, self._outputs).run)
        fixed = model.clone()
        fix_sizes(fixed, self._images, sizes)
        return self._primed(spare(fixed, compiler.savings, self._role, self._outputs, compiler.compile))

    def _primed(self, run: Run) -> Run:
        return run if self._role is None else Primed(run, self._role.context).run

    def close(self) -> None:
        self._model = self.opened = None


def images_of(inputs: Sequence[TensorSpec]) -> list[str]:
    """Return the names of the inputs that are batches of images."""
    return [spec.name for spec in inputs if len(spec.dims) == 4]
