"""The GPU as an engine needs it: memory that is counted, one stream, copies, captured graphs (CUDA runtime API).

https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/runtime.html: every call there returns a tuple with the
error first.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ldm_runtime.errors import EngineError, EngineUnavailable


def import_cuda() -> Any:
    """Import `cuda.bindings.runtime`. Raises EngineUnavailable if it is not installed."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineUnavailable(
            f"the CUDA bindings cannot be imported ({' '.join(str(error).split())}); install them with "
            f"`pip install 'ldm-runtime[tensorrt]'`"
        ) from error
    return runtime


def compute_capability(runtime: Any = None) -> str:
    """Return that of the first GPU, such as "8.9". Raises EngineError if CUDA does not know it."""
    cuda = import_cuda() if runtime is None else runtime
    attributes = cuda.cudaDeviceAttr
    major = checked(cuda, cuda.cudaDeviceGetAttribute(attributes.cudaDevAttrComputeCapabilityMajor, 0))
    minor = checked(cuda, cuda.cudaDeviceGetAttribute(attributes.cudaDevAttrComputeCapabilityMinor, 0))
    return f"{major}.{minor}"


def checked(cuda: Any, result: tuple[Any, ...]) -> Any:
    """Return a call's results after its error code. An error raises EngineError with CUDA's name and text."""
    error, *values = result
    if error != cuda.cudaError_t.cudaSuccess:
        name, text = (_text(ask(error)[1]) for ask in (cuda.cudaGetErrorName, cuda.cudaGetErrorString))
        raise EngineError(f"CUDA says {name}: {text}")
    return values[0] if values else None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@dataclass
class CudaDevice:
    """The first GPU of this process. `cuda` is the module; `allocated` maps what is held there to its bytes.

    Every method raises EngineError with CUDA's own words if a call fails.
    """

    cuda: Any
    allocated: dict[int, int] = field(default_factory=dict)

    def allocate(self, size: int) -> int:
        """Allocate `size` bytes of the GPU's memory and return the address."""
        address = int(self._call("cudaMalloc", size))
        self.allocated[address] = size
        return address

    def free(self, address: int) -> None:
        del self.allocated[address]
        self._call("cudaFree", address)

    def free_memory(self) -> int:
        """Return the bytes that may still be allocated."""
        error, *values = self.cuda.cudaMemGetInfo()
        checked(self.cuda, (error,))
        return int(values[0])

    def create_stream(self) -> int:
        return int(self._call("cudaStreamCreateWithFlags", self.cuda.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", stream)

    def synchronise(self, stream: int) -> None:
        """Wait for all work of the stream; failures of kernels show here."""
        self._call("cudaStreamSynchronize", stream)

    def copy_in(self, address: int, array: np.ndarray, stream: int) -> None:
        """Copy a contiguous array to the GPU; it may be changed after `synchronise`."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, stream)

    def copy_out(self, array: np.ndarray, address: int, stream: int) -> None:
        """Copy from the GPU into a contiguous array, which holds the values after `synchronise`."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, stream)

    def begin_capture(self, stream: int) -> None:
        mode = self.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> Any:
        """End the capture and return its graph."""
        return self._call("cudaStreamEndCapture", stream)

    def abandon_capture(self, stream: int) -> None:
        """End a capture that failed. CUDA's own error is dropped: the failure itself is being raised."""
        _, graph = self.cuda.cudaStreamEndCapture(stream)
        if graph:
            self.cuda.cudaGraphDestroy(graph)

    def instantiate(self, graph: Any) -> Any:
        """Make the graph that `launch` runs; `graph` itself is destroyed."""
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, executable: Any, stream: int) -> None:
        self._call("cudaGraphLaunch", executable, stream)

    def destroy(self, executable: Any) -> None:
        self._call("cudaGraphExecDestroy", executable)

    def _call(self, name: str, *arguments: Any) -> Any:
        return checked(self.cuda, getattr(self.cuda, name)(*arguments))
