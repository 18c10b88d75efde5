"""ONNX Runtime: one ONNX file in one session, on the CPU or with one of its other execution providers."""

import contextlib
import functools
import importlib.metadata
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ldm_runtime.checks import first_line
from ldm_runtime.engines.ort.providers import Provider
from ldm_runtime.engines.signature import check_graph, check_results, sizes_of
from ldm_runtime.errors import EngineError, EngineUnavailable, PackageError
from ldm_runtime.package.manifest import Axis, Contract
from ldm_runtime.package.tensor_spec import ComponentContract, TensorSpec

# They overwrite each other's files.
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
_DTYPES |= {"tensor(int64)": "int64", "tensor(int32)": "int32"}
_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
_CPU = "CPUExecutionProvider"
# Operators on shapes, which ONNX Runtime leaves on the CPU on purpose: copying them to a device would take longer.
_ON_SHAPES = {"Shape", "Size", "Gather", "Concat", "Unsqueeze", "Squeeze", "Slice", "Cast", "Add", "Sub", "Mul", "Div"}
_ON_SHAPES |= {"Constant", "ConstantOfShape", "Range", "Reshape"}


class OrtEngine:
    """One ONNX file in one session, which threads run concurrently.

    provider: an execution provider other than the CPU's; what it has no kernels for runs on the CPU, and `notices`
    say so. options: the provider's, by its own names.
    threads: of one operator; None leaves the choice to ONNX Runtime (one per physical core).
    entries: configuration of the session, by ONNX Runtime's own keys.
    reorder: True copies the weights into the layouts that the kernels like best, False maps them from disk
    and leaves them there; those in half precision are widened at loading or, with False, where a run reads them.
    On Stable Diffusion 1.5, two cores: reordering takes 12 s and 3.4 GB of private memory for the UNet (mapping
    0.7 s and 40 MB; 0.4 GB for half precision) and makes a step about 8 % faster, the VAE 12 %.

    Raises:
        EngineUnavailable: ONNX Runtime or the provider is not installed, or the machine lacks what it needs.
        EngineError: ONNX Runtime is installed twice, or cannot load the graph.
    """

    def __init__(
        self,
        path: Path,
        *,
        provider: Provider | None = None,
        options: Mapping[str, str] | None = None,
        threads: int | None = None,
        reorder: bool = True,
        entries: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        onnxruntime = import_onnxruntime()
        self._path = path
        self._promised: ComponentContract | None = None
        self._axes: Mapping[str, Axis] = MappingProxyType({})
        self.maps_weights = not reorder
        takes_turns = provider is not None and provider.takes_turns
        self._turn = threading.Lock() if takes_turns else contextlib.nullcontext()
        session_options = _session_options(onnxruntime, threads, reorder)
        for key, value in entries.items():
            session_options.add_session_config_entry(key, value)
        providers: list[Any] = [_CPU]
        if provider is not None:
            providers = _prepare(onnxruntime, session_options, provider, {} if options is None else options)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), session_options, providers=providers, enable_fallback=0
            )
        except Exception as error:  # onnxruntime's classes derive from Exception, one per status code
            raise EngineError(f"ONNX Runtime cannot load {path}: {first_line(error)}") from error
        self.notices: tuple[str, ...] = ()
        if provider is not None:
            assigned = self._session.get_provider_graph_assignment_info()
            operators = [(each.ep_name, node.op_type) for each in assigned for node in each.get_nodes()]
            self.notices = fallbacks(provider.name, operators, path)
        self.inputs = tuple(_spec(argument, path) for argument in self._session.get_inputs())
        self.outputs = tuple(_spec(argument, path) for argument in self._session.get_outputs())

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs for `feeds`, by name.

        Raises EngineError if ONNX Runtime fails, after `close`, and for outputs that break a contract that was checked:
        of a graph that leaves its sizes open ONNX Runtime returns whatever comes out.
        """
        session = self._session
        if session is None:
            raise EngineError(f"the engine of {self._path} is closed; load the package again")
        try:
            with self._turn:
                values = session.run(None, dict(feeds))
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed in {self._path}: {first_line(error)}") from error
        results = {spec.name: value for spec, value in zip(self.outputs, values, strict=True)}
        if self._promised is not None:
            sizes = sizes_of(self._promised.inputs, feeds)
            check_results(self._path, self._promised.outputs, self._axes, sizes, results)
        return results

    def close(self) -> None:
        self._session = None

    def check_contract(self, contract: Contract, component: str, interface: ComponentContract | None = None) -> None:
        """Raise PackageError unless the graph's inputs and outputs are those that the contract promises, now and later.

        interface: what the manifest promises of an artefact instead, where it has an interface of its own.
        """
        promised = contract.components[component] if interface is None else interface
        check_graph(self._path, promised, self.inputs, self.outputs)
        self._promised, self._axes = promised, contract.axes


def fallbacks(provider: str, operators: Sequence[tuple[str, str]], path: Path) -> tuple[str, ...]:
    """Tell what a provider leaves to the CPU, as sentences; `operators`: (its provider, operator) of every node.

    Raises EngineUnavailable if it leaves everything.
    """
    if all(runs == _CPU for runs, _ in operators):
        raise EngineUnavailable(f"{provider} would run nothing of {path}: ONNX Runtime leaves all of it to the CPU")
    left = Counter(operator for runs, operator in operators if runs == _CPU and operator not in _ON_SHAPES)
    if not left:
        return ()
    listed = ", ".join(f"{count} {operator}" for operator, count in left.most_common())
    return (f"{provider} leaves {left.total()} of {len(operators)} nodes of {path} to the CPU: {listed}",)


_importing = threading.Lock()  # the environment is the process's: one thread at a time changes it and back


def import_onnxruntime() -> Any:
    """Import `onnxruntime` without its telemetry. Raises EngineError if it is not installed, or twice.

    Where the caller has imported it before, its telemetry is as the caller has it.
    """
    present = _installed()
    if len(present) > 1:
        raise EngineError(
            f"{' and '.join(present)} are installed together and overwrite each other; uninstall them, "
            f"then install the one that fits this machine"
        )
    with _importing:
        is_ours = "onnxruntime" not in sys.modules
        try:
            with _telemetry_refused() if is_ours else contextlib.nullcontext():
                import onnxruntime
        except ImportError as error:
            raise EngineUnavailable(
                f"ONNX Runtime cannot be imported ({error}); install it with `pip install 'ldm-runtime[cpu]'` "
                f"or, for NVIDIA GPUs, `pip install 'ldm-runtime[gpu]'`"
            ) from error
        if is_ours and hasattr(onnxruntime, "disable_telemetry_events"):
            onnxruntime.disable_telemetry_events()  # what Windows' builds hear of
        return onnxruntime


@contextlib.contextmanager
def _telemetry_refused() -> Iterator[None]:
    """Set the variable that ONNX Runtime reads once, while it is imported; the caller's environment stays as it was.

    Without it, it writes an identity of the machine into the user's cache folder and sends reports.
    """
    before = os.environ.get(_NO_TELEMETRY)
    os.environ[_NO_TELEMETRY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_NO_TELEMETRY]
        else:
            os.environ[_NO_TELEMETRY] = before


@functools.cache  # one search of the installation for all components
def _installed() -> list[str]:
    names = []
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(name)
            names.append(name)
    return names


def _prepare(onnxruntime: Any, session_options: Any, provider: Provider, options: Mapping[str, str]) -> list[Any]:
    """Return the list of providers for a session with `provider` first; a plugin goes into the options instead."""
    missing = provider.missing(onnxruntime)
    if missing is not None:
        raise EngineUnavailable(missing)
    if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        raise EngineUnavailable(
            f"ONNX Runtime {onnxruntime.__version__} does not tell which provider runs what; {provider.name} "
            f"needs 1.24 or newer, so that nothing runs on the CPU unsaid"
        )
    session_options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not provider.is_built_in(onnxruntime):
        provider.add_to(session_options, onnxruntime, options)
        return []
    return [(provider.name, {**provider.defaults, **options}), _CPU]


def _session_options(onnxruntime: Any, threads: int | None, reorder: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal: errors come as exceptions, saying them twice on stderr helps nobody
    # One block for all activations takes 40 % more memory than the arena alone (VAE decoder), for no speed.
    options.enable_mem_pattern = False
    # Threads wait actively inside a run only: not while another session or numpy wants the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not reorder:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.add_session_config_entry("session.disable_prepacking", "1")
        # It would fold casts of the weights. The graphs hold no other constant arithmetic.
        options.add_session_config_entry("optimization.disable_specified_optimizers", "ConstantFolding")
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def _spec(argument: Any, path: Path) -> TensorSpec:
    if argument.type not in _DTYPES:
        raise PackageError(
            f"{path} has {argument.name!r} of type {argument.type}, which no component uses", code="graph.signature"
        )
    dims = tuple(dim if isinstance(dim, int) else str(dim) for dim in argument.shape)
    return TensorSpec(argument.name, _DTYPES[argument.type], dims)
