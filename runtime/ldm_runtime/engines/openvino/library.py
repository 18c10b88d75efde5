"""OpenVINO's own library: its import, its core, and the graphs that it reads."""

import contextlib
import errno
import functools
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ldm_runtime.checks import shown
from ldm_runtime.errors import EngineUnavailable
from ldm_runtime.files.atomic import scratch_folder
from ldm_runtime.files.hash_cache import make_cache_folder


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


def require_device(device: str) -> None:
    """Raise EngineUnavailable if OpenVINO is not installed, or has not the device."""
    devices = shared_core().available_devices
    if device not in devices:
        raise EngineUnavailable(f"OpenVINO has no device {shown(device)} here; it has {', '.join(devices)}")


def missing_openvino() -> str | None:
    """Return why OpenVINO cannot be used here, as a sentence, or None."""
    try:
        import_openvino()
    except EngineUnavailable as error:
        return str(error)
    return None


def read_graph(path: Path, weights: Path | None = None) -> Any:
    """Read an ONNX file, or a `.xml` with its `weights` (None: the `.bin` beside it), which are mapped.

    Raises:
        RuntimeError: OpenVINO cannot read it.
        EngineUnavailable: ONNX in a hub's cache that is on another disk than the user's cache folder.
    """
    if path.suffix == ".xml":
        return shared_core().read_model(str(path), str(weights or beside(path)))
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


def beside(path: Path) -> Path:
    """Return the `.bin` beside a `.xml`."""
    return path.with_suffix(".bin")
