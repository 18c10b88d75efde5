"""Stand-ins for cuda.bindings.runtime and TensorRT: a GPU of numpy, which counts what it holds and can be made to fail.

The real libraries load nothing without a GPU. A "plan" here computes `compute(feeds)` with the bindings of a contract.
"""

import ctypes
from collections.abc import Callable, Mapping
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np

from ldm_runtime.engines.tensorrt.library import RTX, Flavour, Library
from ldm_runtime.package.artefacts import PlanRequirements
from ldm_runtime.package.tensor_spec import ComponentContract, TensorSpec

Compute = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


class CudaError(Enum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorIllegalAddress = 700


class FakeCuda:
    """`live`: memory by address; `counts`: calls by name; `fail`: call name -> how many calls still succeed."""

    cudaError_t = CudaError
    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaDeviceAttr = SimpleNamespace(cudaDevAttrComputeCapabilityMajor=0, cudaDevAttrComputeCapabilityMinor=1)

    def __init__(self, capability: tuple[int, int] = (8, 9), free: int = 10**9) -> None:
        self.capability, self.free = capability, free
        self.live: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.graphs: set[int] = set()
        self.executables: dict[int, list[Callable[[], None]]] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.counts: dict[str, int] = {}
        self.fail: dict[str, int] = {}
        self._next = 0

    def leaks(self) -> dict[str, int]:
        return {
            "memory": len(self.live),
            "streams": len(self.streams),
            "graphs": len(self.graphs | set(self.executables)),
        }

    def _call(self, name: str, value: Any = None) -> tuple[Any, ...]:
        self.counts[name] = self.counts.get(name, 0) + 1
        return (CudaError.cudaSuccess,) if value is None else (CudaError.cudaSuccess, value)

    def _fails(self, name: str) -> bool:
        if name not in self.fail:
            return False
        self.fail[name] -= 1
        return self.fail[name] < 0

    def _id(self) -> int:
        self._next += 1
        return self._next

    def cudaGetErrorName(self, error: CudaError) -> tuple[Any, bytes]:
        return CudaError.cudaSuccess, error.name.encode()

    def cudaGetErrorString(self, error: CudaError) -> tuple[Any, bytes]:
        return CudaError.cudaSuccess, b"the fake GPU is " + (b"full" if error.value == 2 else b"lost")

    def cudaDeviceGetAttribute(self, attribute: int, device: int) -> tuple[Any, int]:
        return CudaError.cudaSuccess, self.capability[attribute]

    def cudaMemGetInfo(self) -> tuple[Any, int, int]:
        return CudaError.cudaSuccess, self.free, 10**10

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if self._fails("cudaMalloc"):
            return CudaError.cudaErrorMemoryAllocation, None
        buffer = ctypes.create_string_buffer(size)
        self.live[ctypes.addressof(buffer)] = buffer
        return self._call("cudaMalloc", ctypes.addressof(buffer))

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        del self.live[address]
        return self._call("cudaFree")

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        stream = self._id()
        self.streams.add(stream)
        return self._call("cudaStreamCreateWithFlags", stream)

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        self.streams.remove(stream)
        return self._call("cudaStreamDestroy")

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        if self._fails("cudaStreamSynchronize"):
            return (CudaError.cudaErrorIllegalAddress,)
        return self._call("cudaStreamSynchronize")

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> tuple[Any, ...]:
        device = to if kind == 1 else source
        assert len(self.live[device]) >= size, "a copy beyond its buffer"
        ctypes.memmove(to, source, size)
        return self._call("cudaMemcpyAsync")

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Any, ...]:
        self.recording = []
        return self._call("cudaStreamBeginCapture")

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        assert self.recording is not None
        graph = self._id()
        self.graphs.add(graph)
        self.captured, self.recording = self.recording, None
        return self._call("cudaStreamEndCapture", graph)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        if self._fails("cudaGraphInstantiate"):
            return CudaError.cudaErrorMemoryAllocation, None
        executable = self._id()
        self.executables[executable] = self.captured
        return self._call("cudaGraphInstantiate", executable)

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        self.graphs.remove(graph)
        return self._call("cudaGraphDestroy")

    def cudaGraphLaunch(self, executable: int, stream: int) -> tuple[Any, ...]:
        for work in self.executables[executable]:
            work()
        return self._call("cudaGraphLaunch")

    def cudaGraphExecDestroy(self, executable: int) -> tuple[Any, ...]:
        del self.executables[executable]
        return self._call("cudaGraphExecDestroy")


class EngineValidity(IntEnum):
    VALID = 0
    SUBOPTIMAL = 1
    INVALID = 2


class EngineInvalidityDiagnostics(IntEnum):
    VERSION_MISMATCH = 1
    OLD_CUDA_DRIVER = 4
    MALFORMED_ENGINE = 32


class Log:
    def __init__(self) -> None:
        self.errors: list[str] = []
        self.notes: list[str] = []


class FakeTensorRt:
    """The module `tensorrt_rtx` or `tensorrt`, for one plan whose engine object is `engine`."""

    EngineValidity = EngineValidity
    EngineInvalidityDiagnostics = EngineInvalidityDiagnostics
    CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole", DISABLED="off")

    def __init__(self, engine: "FakeEngine | None") -> None:
        self.engine = engine
        self.validity: tuple[int, int] = (EngineValidity.VALID, 0)
        self.refitted: list[str] = []

    def library(self, flavour: Flavour = RTX, version: str = "1.7.1.116") -> Library:
        self.log = Log()
        if self.engine is not None:
            self.engine.log = self.log
        return Library(self, flavour, version, self.log)

    def Runtime(self, log: Log) -> Any:
        def deserialise(content: Any) -> Any:
            if self.engine is None:
                log.errors.append("Serialization assertion failed")
            return self.engine

        return SimpleNamespace(get_engine_validity=lambda head: self.validity, deserialize_cuda_engine=deserialise)

    def Refitter(self, engine: Any, log: Log) -> Any:
        return SimpleNamespace(refit_cuda_engine=lambda: True)

    def OnnxParserRefitter(self, refitter: Any, log: Log) -> Any:
        return SimpleNamespace(refit_from_file=lambda path: self.refitted.append(path) is None)


class FakeEngine:
    """`refuse`: name of a context's method -> how many calls succeed before one returns False."""

    def __init__(
        self, name: str, contract: ComponentContract, plan: PlanRequirements, cuda: FakeCuda, compute: Compute
    ) -> None:
        self.name, self.plan, self.cuda, self.compute = name, plan, cuda, compute
        self.inputs, self.outputs = contract.inputs, contract.outputs
        self.num_io_tensors = len(self.inputs) + len(self.outputs)
        self.num_optimization_profiles = len(plan.profiles)
        self.log = Log()
        self.refuse: dict[str, int] = {}
        self.config = SimpleNamespace(cuda_graph_strategy="off", create_runtime_cache=FakeCache, set_runtime_cache=id)
        self.contexts: list[FakeContext] = []

    def spec(self, name: str) -> TensorSpec:
        return next(spec for spec in (*self.inputs, *self.outputs) if spec.name == name)

    def get_tensor_name(self, index: int) -> str:
        return (*self.inputs, *self.outputs)[index].name

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name={"float32": "FLOAT", "int64": "INT64", "bfloat16": "BF16"}[self.spec(name).dtype])

    def get_tensor_mode(self, name: str) -> Any:
        return SimpleNamespace(name="INPUT" if self.spec(name) in self.inputs else "OUTPUT")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(dim if isinstance(dim, int) else -1 for dim in self.spec(name).dims)

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        profile = self.plan.profiles[index]
        return [
            tuple(dim if isinstance(dim, int) else getattr(profile[dim], corner) for dim in self.spec(name).dims)
            for corner in ("min", "opt", "max")
        ]

    def create_runtime_config(self) -> Any:
        return self.config

    def create_execution_context(self, config: Any = None) -> Any:
        if self.refuse.get("create_execution_context") == 0:
            self.log.errors.append("out of memory for activations")
            return None
        self.contexts.append(FakeContext(self))
        return self.contexts[-1]


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.calls: list[str] = []

    def _done(self, name: str) -> bool:
        self.calls.append(name)
        if name in self.engine.refuse:
            self.engine.refuse[name] -= 1
            if self.engine.refuse[name] < 0:
                self.engine.log.errors.append(f"{name}: Error Code 3: the fake refuses")
                return False
        return True

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile = index
        return self._done("set_optimization_profile_async")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        low, _, high = self.engine.get_tensor_profile_shape(name, self.profile)
        inside = all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))
        return self._done("set_input_shape") and inside

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self._done("set_tensor_address")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        outputs = self.engine.compute({key: np.zeros(shape, self._dtype(key)) for key, shape in self.shapes.items()})
        return outputs[name].shape

    def execute_async_v3(self, stream: int) -> bool:
        if not self._done("execute_async_v3"):
            return False
        if self.engine.cuda.recording is not None:
            self.engine.cuda.recording.append(self._work)
        else:
            self._work()
        return True

    def _work(self) -> None:
        feeds = {name: self._array(name, shape) for name, shape in self.shapes.items()}
        for name, value in self.engine.compute(feeds).items():
            self._array(name, value.shape)[...] = value

    def _array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        buffer = self.engine.cuda.live[self.addresses[name]]
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(buffer, self._dtype(name), count).reshape(shape)

    def _dtype(self, name: str) -> np.dtype:
        return np.dtype(self.engine.spec(name).dtype)


class FakeCache:
    """TensorRT for RTX's cache of compiled kernels."""

    accepts = True

    def __init__(self) -> None:
        self.content = b"compiled"
        self.given: bytes | None = None

    def deserialize(self, content: bytes) -> bool:
        self.given = content
        return self.accepts

    def serialize(self) -> bytes:
        return self.content


def feeds_of(contract: ComponentContract, sizes: Mapping[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        spec.name: np.asarray(
            random.standard_normal(tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.dims)), spec.dtype
        )
        for spec in contract.inputs
    }
