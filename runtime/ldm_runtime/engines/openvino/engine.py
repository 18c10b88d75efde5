"""A graph that OpenVINO runs on a CPU, GPU or NPU of this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ldm_runtime.engines.openvino.forms import Forms
from ldm_runtime.engines.openvino.graph import Compiler, Graph, images_of
from ldm_runtime.engines.openvino.library import beside, read_graph, require_device, shared_core
from ldm_runtime.engines.openvino.properties import PRECISION, Asked, read_options
from ldm_runtime.engines.openvino.savings import count_weights, read_savings
from ldm_runtime.engines.signature import check_feeds, check_graph, check_results
from ldm_runtime.errors import EngineError
from ldm_runtime.memory import available_memory
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.tensor_spec import ComponentContract, TensorSpec


class OpenVinoEngine:
    """One graph: an ONNX file, or OpenVINO's own format (`.xml`).

    Weights are mapped from their file and repacked once. A large graph is compiled at its first run, for images of its
    size, and with what `savings.py` spares it; when images of another size come, it is compiled once more, for
    any size. A small one is compiled for any size as it is opened.

    weights: the `.bin` of a `.xml`; None: the one beside it.
    options: OpenVINO's own properties, by its names, and ours: `device` and `savings`.
    cache: a folder where the form of a `.xml` for any size is kept, without its weights. It has to be one of this graph
    and these weights alone: OpenVINO does not notice that they have changed.
    interface: the inputs and outputs of a graph that has not the component's.

    Raises:
        EngineUnavailable: OpenVINO is not installed, or has not the device.
        EngineError: it cannot load the graph, or does not know an option.
        InputError: our own option `savings` names none of them.
        PackageError: the graph does not keep the contract.
    """

    def __init__(
        self,
        path: Path,
        contract: Contract,
        component: str,
        *,
        weights: Path | None = None,
        options: Mapping[str, str] | None = None,
        threads: int | None = None,
        cache: Path | None = None,
        interface: ComponentContract | None = None,
    ) -> None:
        asked = read_options({} if options is None else options, threads)
        require_device(asked.device)
        promised = contract.components[component] if interface is None else interface
        self._path, self._axes = path, contract.axes
        self.inputs, self.outputs = promised.inputs, promised.outputs
        self.notices: tuple[str, ...] = ()
        self.maps_weights = False
        self._images = images_of(self.inputs)
        role = contract.denoiser if contract.denoiser.component == component else None
        try:
            model = read_graph(path, weights)
            check_graph(path, promised, _specs(model.inputs), _specs(model.outputs))
            spared = _spared(asked, model) if self._images else frozenset()
            cached = {} if cache is None or path.suffix != ".xml" else _cache_properties(cache, weights or beside(path))
            compiler = Compiler(shared_core(), asked.device, asked.properties, cached, spared)
            self._graph = Graph(model, self.inputs, self.outputs, role, compiler)
            self._forms = Forms(self._graph.form)
            if spared:
                self._graph.try_properties()
            else:
                self._forms.of(None)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot load {path}: {_last_line(error)}") from error

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs for `feeds`, by name. Raises EngineError if they break the contract, or OpenVINO fails.

        Feeds are checked here: with one thread OpenVINO answers wrong shapes with the outputs of the run before.
        """
        forms = self._forms
        if forms.is_closed:
            raise EngineError(f"the engine of {self._path} is closed; load the package again")
        sizes = check_feeds(self._path, self.inputs, self._axes, feeds)
        try:
            results = forms.of(tuple(feeds[name].shape[2:] for name in self._images))(feeds)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed in {self._path}: {_last_line(error)}") from error
        check_results(self._path, self.outputs, self._axes, sizes, results)
        return results

    def close(self) -> None:
        self._forms.close()
        self._graph.close()

    @property
    def computes_in(self) -> str:
        """The floating-point type that OpenVINO computes in, by its name, such as "bf16"."""
        return str(self._graph.opened.get_property(PRECISION).get_type_name())


def _spared(asked: Asked, model: Any) -> frozenset[str]:
    """Return the savings that are made of a graph of images: on a CPU alone."""
    names = read_savings(asked.savings, count_weights(model), asked.properties[PRECISION], available_memory())
    return names if asked.device == "CPU" else frozenset()


def _cache_properties(folder: Path, weights: Path) -> dict[str, str]:
    return {"CACHE_DIR": str(folder), "CACHE_MODE": "OPTIMIZE_SIZE", "WEIGHTS_PATH": str(weights)}


def _specs(ports: list[Any]) -> list[TensorSpec]:
    specs = []
    for port in ports:
        dims = tuple(dim.get_length() if dim.is_static else "?" for dim in port.get_partial_shape())
        specs.append(TensorSpec(port.get_any_name(), port.get_element_type().to_dtype().name, dims))
    return specs


def _last_line(error: Exception) -> str:
    """Return the last line of OpenVINO's message, the cause; the first lines are places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
