"""TensorRT: a package's plan on an NVIDIA GPU, through cuda.bindings.runtime and numpy alone.

One code for TensorRT for RTX and classic TensorRT; they differ in how kernels are cached and graphs captured.
"""

import contextlib
import mmap
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ldm_runtime.engines.cuda.device import CudaDevice, compute_capability, import_cuda
from ldm_runtime.engines.cuda.driver import missing_gpu
from ldm_runtime.engines.signature import check_feeds, check_results
from ldm_runtime.engines.tensorrt.bindings import check_bindings
from ldm_runtime.engines.tensorrt.fit import (
    Machine,
    check_header,
    choose_profile,
    find_plan,
    misfit,
    plan_name,
    requirements,
)
from ldm_runtime.engines.tensorrt.jit_cache import JitCache
from ldm_runtime.engines.tensorrt.library import HEADER_BYTES, RTX, Library, import_tensorrt, installed
from ldm_runtime.errors import EngineError, EngineUnavailable, FormatError, InputError, PackageError, unreadable
from ldm_runtime.package.artefacts import Artefact
from ldm_runtime.package.open import Package, refused

CUDA_GRAPH = "cuda_graph"  # our one option: "on" or "off"; without it a graph is captured of the UNet alone
_DAMAGED = "MALFORMED_ENGINE"


def missing_tensorrt() -> str | None:
    """Return the one thing that is missing to run plans on this machine, as a sentence, or None."""
    try:
        import_tensorrt()
        import_cuda()
    except EngineUnavailable as error:
        return str(error)
    missing = missing_gpu()
    return None if missing is None else f"it needs {missing}"


def fitting_plan(package: Package, component: str) -> Artefact:
    """Return the plan that this machine runs. Raises EngineUnavailable if it cannot run any, or none fits."""
    return find_plan(package, component, _machine())


def _machine() -> Machine:
    """Describe this machine. Raises EngineUnavailable if it cannot run any plan."""
    missing = missing_tensorrt()
    if missing is not None:
        raise EngineUnavailable(f"tensorrt does not run here: {missing}")
    return Machine({each.flavour: each.version for each in installed()}, compute_capability())


def open_tensorrt(package: Package, component: str, artefact: Artefact, options: Mapping[str, str]) -> "TensorRtEngine":
    """Load a plan of `component`.

    A plan holds code for the GPU: its hash is waited for before it is loaded.

    Raises:
        InputError: an unknown option.
        EngineUnavailable: this machine cannot run plans, or not this one.
        PackageError: the plan is damaged, or is not the one that the manifest speaks of.
        EngineError: CUDA fails.
    """
    capture = _captures(options, component == package.manifest.contract.denoiser.component)
    problem = misfit(package, component, artefact, _machine())
    if problem is not None:
        raise EngineUnavailable(f"the TensorRT plan {artefact.file} {problem}")
    check_header(package, artefact)
    package.confirm()
    library = import_tensorrt(requirements(artefact).flavour)
    return TensorRtEngine(package, component, artefact, library, CudaDevice(import_cuda()), capture=capture)


def _captures(options: Mapping[str, str], by_default: bool) -> bool:
    unknown = sorted(set(options) - {CUDA_GRAPH})
    if unknown:
        raise InputError(f"tensorrt has no option {unknown[0]!r}; it has {CUDA_GRAPH}", code="request.engine")
    value = options.get(CUDA_GRAPH, "on" if by_default else "off")
    if value not in ("on", "off"):
        raise InputError(f"the option {CUDA_GRAPH} of tensorrt is {value!r}; expected on or off", code="request.engine")
    return value == "on"


class TensorRtEngine:
    """One plan, its context, one stream, and a buffer on the GPU for each input and output, which grows when needed.

    capture: whether runs at sizes that were seen before are one launch of a CUDA graph.
    Threads share it and take turns: a second context would need the activations' memory once more.
    What was allocated is freed by `close`, and if loading fails.
    """

    def __init__(
        self,
        package: Package,
        component: str,
        artefact: Artefact,
        library: Library,
        device: CudaDevice,
        *,
        capture: bool,
    ) -> None:
        contract = package.manifest.contract
        self.inputs = contract.components[component].inputs
        self.outputs = contract.components[component].outputs
        self.notices: tuple[str, ...] = ()
        self.maps_weights = False
        self._turn = threading.Lock()
        self._axes = contract.axes
        self._component = component
        self._plan = requirements(artefact)
        self._path = package.file(artefact.file)
        self._library = library
        self._device = device
        self._captures_itself = capture and library.flavour != RTX
        self._buffers: dict[str, int] = {}
        self._sizes: dict[int, int] = {}  # address -> bytes
        self._prepared: tuple[Any, ...] | None = None  # profile and shapes that the context is set to
        self._profile = -1
        self._output_shapes: dict[str, tuple[int, ...]] = {}
        self._warm = False  # whether it ran since it was prepared
        self._graph: Any = None
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._jit: JitCache | None = None
        self._stream: Any = None
        try:
            self._load(package, artefact, capture)
        except BaseException:
            self.close()
            raise

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs for `feeds`, by name.

        Raises OutOfProfile for sizes that the plan was not built for, EngineError for feeds that the contract does not
        cover, if TensorRT or CUDA fails, and after `close`.
        """
        with self._turn:
            return self._run(feeds)

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._context is None:
            raise EngineError(f"the engine of {self._path} is closed; load the package again")
        sizes = check_feeds(self._path, self.inputs, self._axes, feeds)
        profile = choose_profile(self._component, self._plan.profiles, sizes, self._profile)
        key = (profile, *(feeds[spec.name].shape for spec in self.inputs))
        if key != self._prepared:
            self._prepare(profile, {spec.name: feeds[spec.name] for spec in self.inputs})
            self._prepared = key
        arrays = [np.ascontiguousarray(feeds[spec.name]) for spec in self.inputs]  # alive until the stream is done
        for spec, array in zip(self.inputs, arrays, strict=True):
            self._device.copy_in(self._buffers[spec.name], array, self._stream)
        self._execute()
        results = {spec.name: np.empty(self._output_shapes[spec.name], spec.dtype) for spec in self.outputs}
        for name, array in results.items():
            self._device.copy_out(array, self._buffers[name], self._stream)
        self._device.synchronise(self._stream)
        if not self._warm and self._jit is not None:
            self._jit.save()
        self._warm = True
        check_results(self._path, self.outputs, self._axes, sizes, results)
        return results

    def close(self) -> None:
        """Free everything, the last allocation first. No callback is kept before: it would keep the engine."""
        with self._turn, contextlib.ExitStack() as stack:
            stack.callback(self._destroy_stream)
            stack.callback(self._free)
            stack.callback(self._drop)
            stack.callback(self._drop_graph)

    def __del__(self) -> None:
        if hasattr(self, "_stream"):  # else nothing was made yet
            self.close()

    def _load(self, package: Package, artefact: Artefact, capture: bool) -> None:
        """Load everything that `close` frees."""
        device, library = self._device, self._library
        self._require_memory()
        self._stream = device.create_stream()
        self._runtime = library.module.Runtime(library.log)
        self._engine, notices = load_plan(self._path, library, self._runtime)
        self.notices += notices
        expected = plan_name(self._component, self._plan.graph, self._plan.weights)
        if self._engine.name != expected:
            raise PackageError(
                f"{self._path} calls itself {self._engine.name[:40]!r}, the manifest {expected[:40]!r}: it is another "
                f"package's plan; build the package again",
                code="plan.mismatch",
            )
        promised = package.manifest.contract.components[self._component]
        check_bindings(self._path, self._engine, promised, self._plan.profiles)
        if "weight_stripped" in self._plan.options:
            self._refit(package)
        self._context = self._new_context(package, artefact, capture)
        if self._context is None:
            raise EngineError(f"TensorRT {library.version} cannot run {self._path}: {library.take_messages().why}")
        if artefact.exactness == "lossy" and artefact.difference is not None:
            self.notices += (
                f"{self._component} computes in {artefact.precision}: its results differ by "
                f"{artefact.difference.relative_rms:.1e} (relative RMS)",
            )

    def _require_memory(self) -> None:
        known = [size for size in (self._plan.activation_bytes, self._plan.weight_bytes) if size is not None]
        free = self._device.free_memory()
        if sum(known) > free:
            raise EngineUnavailable(
                f"the plan {self._path} needs {sum(known) / 1e9:.2f} GB of the GPU's memory, but {free / 1e9:.2f} GB "
                f"are free; close other programs, or build it with a smaller --profile"
            )

    def _refit(self, package: Package) -> None:
        """Put the weights of the package's own graph into a plan that was built without weights."""
        trt, graph = self._library.module, package.file(package.manifest.components[self._component].canonical.file)
        refitter = trt.Refitter(self._engine, self._library.log)
        parser = trt.OnnxParserRefitter(refitter, self._library.log)
        if not parser.refit_from_file(str(graph)) or not refitter.refit_cuda_engine():
            raise EngineError(
                f"TensorRT cannot put the weights of {graph} into {self._path}: {self._library.take_messages().why}"
            )

    def _new_context(self, package: Package, artefact: Artefact, capture: bool) -> Any:
        if self._library.flavour != RTX:
            return self._engine.create_execution_context()
        trt = self._library.module
        config = self._engine.create_runtime_config()
        if capture:
            config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._jit = JitCache.of(package.manifest.files[artefact.file].sha256, config.create_runtime_cache())
        config.set_runtime_cache(self._jit.cache)
        return self._engine.create_execution_context(config)

    def _prepare(self, profile: int, feeds: Mapping[str, np.ndarray]) -> None:
        """Set the context to these shapes. A graph that was captured at others is dropped."""
        self._drop_graph()
        self._prepared, self._warm = None, False
        context = self._context
        if profile != self._profile:
            self._need(context.set_optimization_profile_async(profile, self._stream), f"select profile {profile}")
            self._device.synchronise(self._stream)
            self._profile = profile
        for name, array in feeds.items():
            self._need(context.set_input_shape(name, array.shape), f"take {name} of shape {array.shape}")
            self._hold(name, array.nbytes)
        for spec in self.outputs:
            shape = tuple(int(size) for size in context.get_tensor_shape(spec.name))
            self._need(min(shape, default=0) >= 0, f"say the shape of {spec.name}, which is {shape}")
            self._output_shapes[spec.name] = shape
            self._hold(spec.name, int(np.prod(shape)) * np.dtype(spec.dtype).itemsize)

    def _hold(self, name: str, size: int) -> None:
        """Return a buffer for a tensor of `size` bytes: the present one, or a larger one in its place."""
        address = self._buffers.get(name)
        if address is None or self._sizes[address] < size:
            if address is not None:
                del self._buffers[name], self._sizes[address]
                self._device.free(address)
            address = self._device.allocate(max(size, 1))
            self._buffers[name], self._sizes[address] = address, size
        self._need(self._context.set_tensor_address(name, address), f"use a buffer of {size} bytes for {name}")

    def _execute(self) -> None:
        if self._captures_itself and self._warm and self._graph is None:
            self._graph = self._captured()
        if self._graph is not None:
            self._device.launch(self._graph, self._stream)
        else:
            self._need(self._context.execute_async_v3(self._stream), "run")

    def _captured(self) -> Any:
        """Capture the run as a CUDA graph: one launch instead of one for each kernel."""
        self._device.begin_capture(self._stream)
        try:
            self._need(self._context.execute_async_v3(self._stream), "capture a run")
        except EngineError:
            self._device.abandon_capture(self._stream)
            raise
        return self._device.instantiate(self._device.end_capture(self._stream))

    def _need(self, done: bool, what: str) -> None:
        if not done:
            raise EngineError(
                f"TensorRT {self._library.version} cannot {what} with {self._path}: {self._library.take_messages().why}"
            )

    def _drop_graph(self) -> None:
        if self._graph is not None:
            graph, self._graph = self._graph, None
            self._device.destroy(graph)

    def _drop(self) -> None:
        """Keep the compiled kernels, then free the last allocation first, as TensorRT requires."""
        if self._jit is not None and self._context is not None:
            self._jit.save()
        self._context = None
        self._jit = None
        self._engine = None
        self._runtime = None

    def _destroy_stream(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._device.destroy_stream(stream)

    def _free(self) -> None:
        for address in list(self._buffers.values()):
            self._device.free(address)
        self._buffers.clear()


def load_plan(path: Path, library: Library, runtime: Any) -> tuple[Any, tuple[str, ...]]:
    """Load the plan as TensorRT's engine object, with notices.

    Raises PackageError for a damaged plan, EngineUnavailable for one that does not fit, both with TensorRT's words.
    """
    with refused():
        try:
            with open(path, "rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise unreadable(path, error) from error
        except ValueError as error:  # no bytes to map
            raise FormatError(str(path), "is empty", "plan.format") from error
    with content:
        notices: tuple[str, ...] = ()
        if library.flavour == RTX:
            notices = _check_validity(path, library, runtime, content[:HEADER_BYTES])
        engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise EngineUnavailable(f"TensorRT {library.version} cannot load {path}: {library.take_messages().why}")
    return engine, notices


def _check_validity(path: Path, library: Library, runtime: Any, header: bytes) -> tuple[str, ...]:
    """Return TensorRT for RTX's remarks on a plan before it is loaded, as notices.

    Raises PackageError for a damaged plan, EngineUnavailable for one that does not fit.
    """
    trt = library.module
    validity, bits = runtime.get_engine_validity(header)
    diagnostics = [name for name, member in trt.EngineInvalidityDiagnostics.__members__.items() if int(member) & bits]
    if _DAMAGED in diagnostics:
        raise PackageError(
            f"{path} is damaged: TensorRT {library.version} does not know it as a plan; fetch it again",
            code="plan.format",
        )
    if validity == trt.EngineValidity.INVALID:
        reasons = "; ".join([", ".join(diagnostics), *library.take_messages().errors]).strip("; ")
        raise EngineUnavailable(f"TensorRT {library.version} does not run {path} here: {reasons or 'it says no more'}")
    if validity == trt.EngineValidity.SUBOPTIMAL:
        return (f"TensorRT says that {path.name} runs here slower than a plan that is built for this GPU",)
    return ()
