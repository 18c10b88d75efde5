"""TensorRT, in one of two flavours with the same Python API: TensorRT for RTX, and classic TensorRT.

https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest and https://docs.nvidia.com/deeplearning/tensorrt/latest
"""

import contextlib
import functools
import struct
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ldm_runtime.errors import EngineUnavailable, PackageError, unreadable
from ldm_runtime.package.open import refused

Flavour = Literal["rtx", "classic"]
RTX: Flavour = "rtx"
CLASSIC: Flavour = "classic"
AUTO = "auto"
FLAVOURS = (AUTO, RTX, CLASSIC)
NAMES = {AUTO: "TensorRT", RTX: "TensorRT for RTX", CLASSIC: "classic TensorRT"}

# The header of a plan by TensorRT for RTX, as its files show: magic, total bytes, version, capabilities as bits, one
# more bit for those to come.
HEADER_BYTES = 64
_MAGIC = b"vtrt"
_CAPABILITY_BITS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
_KEPT_LINES = 1000  # of TensorRT's messages that nobody has taken


@dataclass(frozen=True)
class Messages:
    """TensorRT's messages, oldest first, each in one line."""

    errors: tuple[str, ...]
    notes: tuple[str, ...]  # warnings and information

    @property
    def why(self) -> str:
        """The errors as half a sentence."""
        return "; ".join(self.errors) if self.errors else "it says no more"


@dataclass(frozen=True)
class Library:
    """An imported TensorRT. `log` is its one logger in this process: it ignores every other."""

    module: Any
    flavour: Flavour
    version: str
    log: Any

    def take_messages(self) -> Messages:
        """Return and forget the messages since the last call."""
        messages = Messages(tuple(self.log.errors), tuple(self.log.notes))
        self.log.errors.clear()
        self.log.notes.clear()
        return messages


def import_tensorrt(flavour: str = AUTO) -> Library:
    """Import the installed TensorRT; "auto" prefers that for RTX. Raises EngineUnavailable if it is not installed."""
    reasons = []
    for name in (RTX, CLASSIC) if flavour == AUTO else (flavour,):
        try:
            with _importing:
                return _imported(name)
        except ImportError as error:  # of the wheel, or of a library that it needs
            reasons.append(" ".join(str(error).split()))
    extra = "tensorrt" if flavour == CLASSIC else "'ldm-runtime[tensorrt]'"
    raise EngineUnavailable(
        f"{NAMES[flavour]} cannot be imported ({'; '.join(reasons)}); install it with `pip install {extra}`"
    )


def installed() -> list[Library]:
    """Return every flavour that can be imported here."""
    libraries = []
    for flavour in (RTX, CLASSIC):
        with contextlib.suppress(EngineUnavailable):
            libraries.append(import_tensorrt(flavour))
    return libraries


_importing = threading.Lock()  # a cache alone would let two threads make a logger each


@functools.cache
def _imported(flavour: str) -> Library:
    if flavour == RTX:
        import tensorrt_rtx as module
    else:
        import tensorrt as module

    return Library(module, RTX if flavour == RTX else CLASSIC, module.__version__, _logger(module))


def _logger(module: Any) -> Any:
    class Log(module.ILogger):  # type: ignore[misc, name-defined]
        """A log of TensorRT's messages. It must not raise: TensorRT would swallow it."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=_KEPT_LINES)
            self.notes: deque[str] = deque(maxlen=_KEPT_LINES)

        def log(self, severity: Any, message: str) -> None:
            line = " ".join(message.split())
            if "catchCudaError" in line:  # follows every error where there is no driver, and says no more
                return
            if severity in (module.ILogger.INTERNAL_ERROR, module.ILogger.ERROR):
                self.errors.append(line)
            elif severity in (module.ILogger.WARNING, module.ILogger.INFO):
                self.notes.append(line)

    return Log()


@dataclass(frozen=True)
class PlanHeader:
    """The first bytes of a plan by TensorRT for RTX."""

    version: str
    capabilities: tuple[str, ...]
    size: int  # bytes that the whole plan should have


def read_header(path: Path) -> PlanHeader:
    """Read a plan's header. Raises PackageError if the file is not such a plan, or not all of one."""
    with refused():
        try:
            with open(path, "rb") as file:
                head = file.read(HEADER_BYTES)
            size = path.stat().st_size
        except OSError as error:
            raise unreadable(path, error) from error
    if len(head) < HEADER_BYTES or head[:4] != _MAGIC:
        raise PackageError(f"{path} is not a plan of TensorRT for RTX; build the package again", code="plan.format")
    (total,) = struct.unpack_from("<Q", head, 16)
    if total != size:
        damage = "truncated" if size < total else "too long"
        raise PackageError(
            f"{path} is {damage}: it has {size} bytes, but says {total} itself; fetch or build it again",
            code="plan.format",
        )
    (bits,) = struct.unpack_from("<I", head, 32)
    capabilities = tuple(name for index, name in enumerate(_CAPABILITY_BITS) if bits >> index & 1)
    version = ".".join(str(part) for part in head[24:28])
    return PlanHeader(version, capabilities, total)
