"""ONNX Runtime's execution providers by the names they have here, and what each needs of a machine.

https://onnxruntime.ai/docs/execution-providers. Some are built into one of ONNX Runtime's distributions, some are
plugins beside any of them: https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries.
"""

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ldm_runtime.engines.cuda.driver import missing_gpu
from ldm_runtime.errors import EngineUnavailable, InputError

DEVICE = "device"  # our own option of every plugin: "CPU", "GPU" or "NPU"


@dataclass(frozen=True)
class Provider:
    """One execution provider. `name` is ONNX Runtime's.

    defaults: options that keep the arithmetic float32, which a user's go over.
    missing_device: what the machine lacks for it, as half a sentence, or None.
    import_plugin: the module of the plugin; ImportError where it is not installed.
    takes_turns: whether one session runs for one thread at a time.
    """

    name: str
    summary: str
    install: str
    systems: tuple[str, ...] = ("linux", "win32", "darwin")
    defaults: Mapping[str, str] = field(default_factory=dict)
    missing_device: Callable[[], str | None] = lambda: None
    import_plugin: Callable[[], Any] | None = None
    takes_turns: bool = False

    def missing(self, onnxruntime: Any) -> str | None:
        """Return the one thing that is missing to run it with this ONNX Runtime, as a sentence, or None."""
        if sys.platform not in self.systems:
            return f"it exists for {', '.join(_SYSTEMS[system] for system in self.systems)} only"
        if not self.is_built_in(onnxruntime) and not self._is_registered(onnxruntime):
            return f"{self.name} is not in ONNX Runtime as it is installed; install it with `{self.install}`"
        device = self.missing_device()
        if device is None and not self.is_built_in(onnxruntime) and not self._devices(onnxruntime):
            device = f"a device that {self.name} can use"
        return None if device is None else f"it needs {device}"

    def is_built_in(self, onnxruntime: Any) -> bool:
        """Tell whether the installed ONNX Runtime was compiled with it; if not, it is a plugin."""
        return self.name in onnxruntime.get_available_providers()

    def add_to(self, session_options: Any, onnxruntime: Any, options: Mapping[str, str]) -> None:
        """Make the plugin's device the first choice of a session.

        Raises:
            EngineUnavailable: it is not installed, or finds no device.
            InputError: `options` name a device that is not there.
        """
        missing = self.missing(onnxruntime)
        if missing is not None:
            raise EngineUnavailable(missing)
        devices = self._devices(onnxruntime)
        kinds = [device.device.type.name for device in devices]
        kind = options.get(DEVICE, kinds[0])
        if kind not in kinds:
            raise InputError(
                f"the option {DEVICE} is {kind!r}; {self.name} has here {', '.join(sorted(set(kinds)))}",
                code="request.engine",
            )
        passed_on = {name: value for name, value in options.items() if name != DEVICE}
        session_options.add_provider_for_devices([devices[kinds.index(kind)]], {**self.defaults, **passed_on})

    def _devices(self, onnxruntime: Any) -> list[Any]:
        return [device for device in onnxruntime.get_ep_devices() if device.ep_name == self.name]

    def _is_registered(self, onnxruntime: Any) -> bool:
        """Register the plugin with ONNX Runtime, once per process; False where it is not installed."""
        if self.import_plugin is None:
            return False
        with _registering:
            if self.name in _registered:
                return True
            try:
                plugin = self.import_plugin()
            except ImportError:
                return False
            try:
                onnxruntime.register_execution_provider_library(self.name, plugin.get_library_path())
            except Exception as error:  # onnxruntime's classes derive from Exception, one per status code
                raise EngineUnavailable(f"ONNX Runtime cannot load {self.name}: {str(error).strip()}") from error
            _registered.add(self.name)
            return True


_SYSTEMS = {"linux": "Linux", "win32": "Windows", "darwin": "macOS"}
_registered: set[str] = set()  # plugins, which ONNX Runtime keeps per process
_registering = threading.Lock()


def _nv_tensorrt_rtx() -> Any:
    import onnxruntime_ep_nv_tensorrt_rtx

    return onnxruntime_ep_nv_tensorrt_rtx


def _openvino() -> Any:
    import onnxruntime_ep_openvino

    return onnxruntime_ep_openvino


def _qnn() -> Any:
    import onnxruntime_qnn

    return onnxruntime_qnn


def _webgpu() -> Any:
    import onnxruntime_ep_webgpu

    return onnxruntime_ep_webgpu


PROVIDERS: dict[str, Provider] = {
    "cuda": Provider(
        "CUDAExecutionProvider",
        "ONNX Runtime with CUDA, on NVIDIA GPUs",
        "pip install 'ldm-runtime[gpu]'",
        systems=("linux", "win32"),
        defaults={"use_tf32": "0"},
        missing_device=missing_gpu,
    ),
    "tensorrt": Provider(
        "TensorrtExecutionProvider",
        "ONNX Runtime with classic TensorRT, which builds engines when it loads a graph",
        "pip install 'ldm-runtime[gpu]' tensorrt",
        systems=("linux", "win32"),
        missing_device=missing_gpu,
    ),
    "nv_tensorrt_rtx": Provider(
        "NvTensorRTRTXExecutionProvider",
        "ONNX Runtime with TensorRT for RTX, which builds engines when it loads a graph",
        "pip install onnxruntime-ep-nv-tensorrt-rtx-cu12",
        systems=("linux", "win32"),
        missing_device=missing_gpu,
        import_plugin=_nv_tensorrt_rtx,
    ),
    "directml": Provider(
        "DmlExecutionProvider",
        "ONNX Runtime with DirectML, on GPUs under Windows",
        "pip install onnxruntime-directml",
        systems=("win32",),
        takes_turns=True,
    ),
    "coreml": Provider(
        "CoreMLExecutionProvider",
        "ONNX Runtime with Core ML, on Apple's GPUs and neural engine",
        "pip install 'ldm-runtime[cpu]'",
        systems=("darwin",),
    ),
    "openvino": Provider(
        "OpenVINOExecutionProvider",
        "ONNX Runtime with OpenVINO, on Intel's CPUs, GPUs and NPUs",
        "pip install onnxruntime-ep-openvino",
        systems=("linux", "win32"),
        import_plugin=_openvino,
    ),
    "qnn": Provider(
        "QNNExecutionProvider",
        "ONNX Runtime with Qualcomm's AI Engine Direct",
        "pip install onnxruntime-qnn",
        systems=("linux", "win32"),
        import_plugin=_qnn,
    ),
    "webgpu": Provider(
        "WebGpuExecutionProvider",
        "ONNX Runtime with WebGPU, on GPUs by Vulkan, Direct3D 12 or Metal",
        "pip install onnxruntime-ep-webgpu",
        import_plugin=_webgpu,
    ),
}
"""Name after `ort:` -> provider. The CPU's own is `ort` without a name."""
