"""Standard streams that cannot break a verb: missing, full and closed ones, narrow encodings, terminal commands."""

import io
import os
import select
import sys
from typing import Any

from ldm_runtime.errors import printable

_MODES = {0: os.O_RDONLY, 1: os.O_WRONLY, 2: os.O_WRONLY}


class Guarded(io.RawIOBase):
    """The bytes of a standard stream. No write raises: bytes that it refuses are dropped, the error is in `lost`."""

    def __init__(self, descriptor: int, *, closed: bool = False) -> None:
        self._descriptor, self._was_closed = descriptor, closed
        self.lost: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        total = len(left)
        if self._was_closed:
            self.lost = OSError("it is closed")
        while self.lost is None and len(left) > 0:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # a pipe that another program has set to not wait
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.lost = error
        return total

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


def guard_streams() -> tuple[Guarded, Guarded]:
    """Replace `sys.stdout` and `sys.stderr` by guarded streams; call it before a file is opened.

    A descriptor from 0 to 2 that is closed becomes /dev/null: the next file to be opened would get its number, and
    then what a library says to stderr. A console of Windows stays: text reaches it by calls of its own, not as bytes.
    """
    closed = [descriptor for descriptor in _MODES if _fill(descriptor)]
    guarded = []
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        raw, before = Guarded(descriptor, closed=descriptor in closed), getattr(sys, name)
        guarded.append(raw)
        if _is_windows_console(before):
            before.reconfigure(errors="backslashreplace")
            continue
        encoding = getattr(before, "encoding", "utf-8")  # there is no stream where it was closed
        lines = name == "stderr" or raw.isatty()
        stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=lines)
        setattr(sys, name, stream)
    return guarded[0], guarded[1]


def _is_windows_console(stream: Any) -> bool:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return type(raw).__name__ == "_WindowsConsoleIO"  # there on Windows alone


def _fill(descriptor: int) -> bool:
    """Open /dev/null for a closed descriptor; return whether it was closed."""
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, _MODES[descriptor])  # the lowest number that is free: this one
        assert opened == descriptor
        os.set_inheritable(opened, True)
        return True
    return False


def echo(text: str, *, err: bool = False) -> None:
    """Print one or several lines for a person: characters that command a terminal are escaped."""
    print(printable(text), file=sys.stderr if err else sys.stdout, flush=True)


def echo_json(text: str) -> None:
    """Print JSON in ASCII: characters that command a terminal are escaped as JSON does."""
    escaped = (f"\\u{unit:04x}" if unit > 0x7E else chr(unit) for unit in _utf16(text))
    print("".join(escaped).rstrip("\n"), flush=True)


def _utf16(text: str) -> memoryview:
    return memoryview(text.encode("utf-16-le" if sys.byteorder == "little" else "utf-16-be", "surrogatepass")).cast("H")
