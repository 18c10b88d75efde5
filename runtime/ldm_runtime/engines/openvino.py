"""OpenVINO: a package's graph, compiled for a CPU, GPU or NPU of this machine. https://docs.openvino.ai"""

import contextlib
import errno
import functools
import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ldm_runtime.engines.engine import EngineKind, Settings
from ldm_runtime.engines.openvino_rule import is_faster
from ldm_runtime.engines.signature import check_feeds, check_graph, check_results
from ldm_runtime.engines.units import missing_units
from ldm_runtime.errors import EngineError, EngineUnavailable, InputError
from ldm_runtime.files.atomic import scratch_folder
from ldm_runtime.files.hash_cache import make_cache_folder, stamp
from ldm_runtime.memory import available_memory
from ldm_runtime.package.artefacts import INTEGERS, Artefact, Precision
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.open import Package
from ldm_runtime.package.tensor_spec import ComponentContract, TensorSpec

# Our own options. The module of savings is imported by who computes with OpenVINO, not at every start.
DEVICE = "device"  # "CPU", "GPU", "GPU.1", "NPU"
SAVINGS = "savings"  # auto, all, none, or names separated by commas

# Left to itself it computes in bfloat16 where the CPU can, 1e-2 away from float32.
PRECISION = "INFERENCE_PRECISION_HINT"
_DEFAULTS = {PRECISION: "f32", "PERFORMANCE_HINT": "LATENCY"}
_HINTS: dict[Precision, str] = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
# Where a CPU has none of them, OpenVINO accepts bfloat16 all the same and emulates it: as lossy, and slower.
_UNITS: dict[Precision, tuple[str, ...]] = {
    "bf16": ("avx512_bf16", "amx_bf16"),
    "fp16": ("avx512_fp16", "amx_fp16", "neon_fp16"),
}


class OpenVinoEngine:
    """One graph: an ONNX file, or OpenVINO's own format (`.xml`).

    Weights are mapped from their file and repacked once. A large graph is compiled at its first run, for images of its
    size, and with what `openvino_savings` spares it; when images of another size come, it is compiled once more, for
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
        from ldm_runtime.engines.openvino_forms import Forms
        from ldm_runtime.engines.openvino_graph import Compiler, Graph, images_of

        import_openvino()
        core = shared_core()
        properties = {**_DEFAULTS, **({} if options is None else options)}
        device, savings = properties.pop(DEVICE, "CPU"), properties.pop(SAVINGS, "auto")
        if device not in core.available_devices:
            raise EngineUnavailable(
                f"OpenVINO has no device {device!r} here; it has {', '.join(core.available_devices)}"
            )
        if threads is not None and device == "CPU":
            properties["INFERENCE_NUM_THREADS"] = str(threads)
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
            spared = _spared(savings, model, device, properties) if self._images else frozenset()
            cached = (
                {} if cache is None or path.suffix != ".xml" else _cache_properties(cache, weights or _beside(path))
            )
            compiler = Compiler(core, device, properties, cached, spared)
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


def _spared(savings: str, model: Any, device: str, properties: Mapping[str, str]) -> frozenset[str]:
    """Return the savings that are made of a graph of images: on a CPU alone."""
    from ldm_runtime.engines.openvino_savings import count_weights, read_savings

    names = read_savings(savings, count_weights(model), properties[PRECISION], available_memory())
    return names if device == "CPU" else frozenset()


def _cache_properties(folder: Path, weights: Path) -> dict[str, str]:
    return {"CACHE_DIR": str(folder), "CACHE_MODE": "OPTIMIZE_SIZE", "WEIGHTS_PATH": str(weights)}


def import_openvino() -> Any:
    """Import `openvino` without its telemetry. Raises EngineUnavailable if it is not installed."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise EngineUnavailable(
            f"OpenVINO cannot be imported ({error}); install it with `pip install 'ldm-runtime[openvino]'`"
        ) from error
    return openvino


_making_core = threading.Lock()  # a cache alone would let two threads make one each


def shared_core() -> Any:
    """Return OpenVINO's `Core`, one for the process.

    Its CPU plugin gives the thread a stack for signal handlers. Of two plugins that end in the order in which they
    began, the second restores the first one's stack, which is gone: the next Ctrl-C would crash the process.
    """
    with _making_core:
        return _core()


@functools.cache
def _core() -> Any:
    return import_openvino().Core()


def missing_openvino() -> str | None:
    """Return why OpenVINO cannot be used here, as a sentence, or None."""
    try:
        import_openvino()
    except EngineUnavailable as error:
        return str(error)
    return None


def _missing_for(precision: Precision) -> str | None:
    """Return what is missing to compute in a precision here. OpenVINO's own word is not taken: see _UNITS."""
    if precision not in _HINTS:
        return f"{precision} is no precision that it computes in"
    units = _UNITS.get(precision)
    return None if units is None else missing_units(precision, units)


def _open(package: Package, component: str, artefact: Artefact, settings: Settings) -> OpenVinoEngine:
    engine = OpenVinoEngine(
        package.file(artefact.file),
        package.manifest.contract,
        component,
        weights=package.file(artefact.files[1]) if artefact.format == "openvino" else None,
        options=_properties(artefact, settings),
        threads=settings.threads,
        cache=_cache(package, artefact, settings) if artefact.format == "openvino" else None,
        interface=artefact.interface,
    )
    if settings.precision is not None and engine.computes_in != _HINTS[settings.precision]:
        raise EngineUnavailable(
            f"OpenVINO computes {component} in {engine.computes_in} here, not in {_HINTS[settings.precision]}"
        )
    return engine


def _properties(artefact: Artefact, settings: Settings) -> dict[str, str]:
    """Return OpenVINO's properties: what computes in the wanted precision, and the user's own."""
    own = dict(settings.options)
    device = own.get(DEVICE, "CPU")
    made = {}
    if settings.precision is not None:
        made[PRECISION] = _HINTS[settings.precision]
        if device != "CPU":
            raise EngineUnavailable(
                f"{settings.precision} is for OpenVINO on the CPU, but its option device is {device}"
            )
        if own.get(PRECISION, made[PRECISION]) != made[PRECISION]:
            raise InputError(
                f"the option openvino.{PRECISION} is {own[PRECISION]}, but what was chosen computes in "
                f"{made[PRECISION]}; leave out one of them",
                code="request.engine",
            )
    if artefact.precision in INTEGERS and not device.startswith("NPU"):
        made["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = "0"  # else it would round activations to 8 bits, too
    if artefact.precision in INTEGERS:
        made[SAVINGS] = "none"  # its error was measured of the graph as it is
    return {**made, **own}


def _cache(package: Package, artefact: Artefact, settings: Settings) -> Path | None:
    """Make a folder of these files and settings alone: new bytes, new files or others get another.

    None: it cannot be kept.
    """
    names = sorted(artefact.files)
    identity = [(package.manifest.files[name].sha256, stamp(package.file(name))) for name in names]
    key = repr((identity, settings.precision, settings.threads, sorted(settings.options.items())))
    return make_cache_folder("openvino", hashlib.sha256(key.encode()).hexdigest()[:32])


OPENVINO = EngineKind(
    "OpenVINO, on CPUs, and on Intel's GPUs and NPUs",
    (("openvino", "openvino"), ("onnx", "any")),
    _open,
    missing_openvino,
    missing_for=_missing_for,
    is_faster=is_faster,
)


def read_graph(path: Path, weights: Path | None = None) -> Any:
    """Read an ONNX file, or a `.xml` with its `weights` (None: the `.bin` beside it), which are mapped.

    Raises:
        RuntimeError: OpenVINO cannot read it.
        EngineUnavailable: ONNX in a hub's cache that is on another disk than the user's cache folder.
    """
    if path.suffix == ".xml":
        return shared_core().read_model(str(path), str(weights or _beside(path)))
    with _without_links(path) as plain:
        return shared_core().read_model(str(plain))


@contextlib.contextmanager
def _without_links(graph: Path) -> Iterator[Path]:
    """Yield the graph with plain files as weights, on which OpenVINO insists: hard links in place of symbolic ones.

    They are needed only until the weights are mapped.
    """
    links = [file for file in graph.parent.glob("*.safetensors") if file.is_symlink()]
    if all(file.resolve().parent == graph.parent.resolve() for file in links):
        yield graph
        return
    with contextlib.ExitStack() as stack:
        try:
            cache = make_cache_folder()
            if cache is None:
                raise OSError(errno.ENOENT, "there is no cache folder")
            folder = stack.enter_context(scratch_folder(cache))
            for file in (graph, *links):
                os.link(file.resolve(), folder / file.name)
        except OSError as error:
            raise EngineUnavailable(
                f"OpenVINO does not read weights through links, and {graph} cannot be linked into the cache folder: "
                f"{error.strerror}; copy the package with its links followed, or choose the engine ort"
            ) from error
        yield folder / graph.name


def _beside(path: Path) -> Path:
    return path.with_suffix(".bin")


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
