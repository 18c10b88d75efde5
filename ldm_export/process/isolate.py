"""Heavy stages in processes of their own, which return their memory to the machine when they end."""

import contextlib
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from ldm_export.errors import ExportError
from ldm_export.process.faults import described
from ldm_runtime.errors import LdmError
from ldm_runtime.memory import available_memory


class StageCost(NamedTuple):
    """The cost of one isolated stage, for a table."""

    name: str
    seconds: float
    peak_bytes: int  # the largest resident set of its process


@dataclass(frozen=True)
class Outcome:
    """The value and the cost of an isolated stage."""

    value: Any
    peak_bytes: int  # the largest resident set of the process
    seconds: float

    def stage(self, name: str) -> StageCost:
        return StageCost(name, self.seconds, self.peak_bytes)


class StageTimeError(LdmError):
    """A stage took more of a processor's time than it let itself have (`limit_time`)."""


class StageTraceback(Exception):
    """The traceback of an error in the process where it was raised, as text."""


def run_isolated(
    function: Callable[..., Any], *args: Any, progress: Callable[[str], None] | None = None, **kwargs: Any
) -> Outcome:
    """Call a module-level `function` in a fresh process and return its value, peak memory and time.

    With `progress`, the function gets a keyword argument `progress` too, and what it says is passed on here. What the
    process prints goes to stderr. It finds modules where this one does, but never relative to the current folder: a
    folder that this process names by its whole path, as `python -m` does with the current one, stays.

    Raises:
        Whatever `function` raised, with a `StageTraceback` as its cause; `StageTimeError` if it set a limit of time
        and reached it; `LdmError` if the process was killed otherwise (most often: out of memory).
    """
    started = time.monotonic()
    work = pickle.dumps((function, args, kwargs, progress is not None))
    with _start() as process:  # on the way out closes the pipes and waits
        assert process.stdin is not None
        try:
            kind, content = _exchange(process, work, progress)
            process.wait()
        finally:
            process.kill()
            with contextlib.suppress(OSError):  # what it did not read
                process.stdin.close()
    if kind == "value":
        value, peak_bytes = content
        return Outcome(value, peak_bytes, time.monotonic() - started)
    if kind == "error":
        error, text = content
        raise error from StageTraceback(f"in the isolated stage {function.__name__}:\n{text}")
    code = process.returncode
    if code == -getattr(signal, "SIGXCPU", 0) != 0:
        raise StageTimeError(f"the stage {function.__name__} took more of the processor's time than it may")
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    raise LdmError(
        f"the stage {function.__name__} {how} before it finished; most often the machine ran out of memory: "
        f"close other programs or use a machine with more memory"
    )


# The folders of modules come as arguments; nothing may be imported before they are in place.
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from ldm_export.process.isolate import serve; serve()"


def _start() -> "subprocess.Popen[bytes]":
    """Start a Python like this one, but with -P: a pickle.py in the current folder is not imported."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    folders = [folder for folder in sys.path if os.path.isabs(folder)]  # "" is the current folder
    command = [sys.executable, *flags, "-P", "-c", _PROGRAM, *folders]
    # Ctrl-C is for the parent alone: on Windows a group of its own hears none.
    group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    with _interrupts_blocked():
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, creationflags=group)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block interrupts, also in a process that is started meanwhile. Windows has no such masks."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _exchange(
    process: "subprocess.Popen[bytes]", work: bytes, progress: Callable[[str], None] | None
) -> tuple[str, Any]:
    """Hand over the work, pass progress on until the result arrives; ("lost", None) if the process ends without one."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(OSError):  # it is gone: the reading says so
        process.stdin.write(_LENGTH.pack(len(work)) + work)
        process.stdin.flush()  # and stays open for as long as this process is there
    while True:
        head = process.stdout.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return "lost", None
        (length,) = _LENGTH.unpack(head)
        message = process.stdout.read(length)
        if len(message) < length:
            return "lost", None
        kind, content = pickle.loads(message)
        if kind != "progress":
            return kind, content
        if progress is not None:
            progress(content)


_LENGTH = struct.Struct("<Q")  # before each pickled message


def serve() -> None:
    """Serve in the child: read the work from stdin, do it, and write messages to the original stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and kills this process
    (length,) = _LENGTH.unpack(sys.stdin.buffer.read(_LENGTH.size))
    work = sys.stdin.buffer.read(length)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no message

    def send(kind: str, content: Any) -> None:
        message = pickle.dumps((kind, content))
        answers.write(_LENGTH.pack(len(message)) + message)
        answers.flush()

    try:
        send("value", _work(work, lambda text: send("progress", text)))
    except BaseException as error:
        with contextlib.suppress(OSError):  # the parent is gone
            send("error", (_portable(error), traceback.format_exc()))


def _work(work: bytes, say: Callable[[str], None]) -> tuple[Any, int]:
    """Call the function; return its value and the peak memory."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    function, args, kwargs, with_progress = pickle.loads(work)
    if with_progress:
        kwargs = {**kwargs, "progress": say}
    return function(*args, **kwargs), peak_memory()


def peak_memory() -> int:
    """Return the largest resident set of this process so far, in bytes.

    Linux's `ru_maxrss` counts the parent's memory in a spawned child, so `VmHWM` is read there.
    """
    if sys.platform == "linux":
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    if sys.platform == "win32":
        return _peak_memory_of_windows()
    import resource

    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum if sys.platform == "darwin" else maximum * 1024


def _peak_memory_of_windows() -> int:
    """Return `PeakWorkingSetSize` of PROCESS_MEMORY_COUNTERS."""
    import ctypes

    class Counters(ctypes.Structure):
        _fields_ = [("size", ctypes.c_uint32), ("page_faults", ctypes.c_uint32), ("peak", ctypes.c_size_t)]
        _fields_ += [(f"other_{number}", ctypes.c_size_t) for number in range(7)]

    counters = Counters(size=ctypes.sizeof(Counters))
    this_process = ctypes.c_void_p(-1)
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    if not kernel.K32GetProcessMemoryInfo(this_process, ctypes.byref(counters), counters.size):
        raise ctypes.WinError(ctypes.get_last_error())  # type: ignore[attr-defined]
    return int(counters.peak)


def require_memory(work: str, needed: int, max_memory: int | None) -> None:
    """Raise ExportError if `work` needs more than `max_memory` bytes (None: what the machine has available)."""
    limit = available_memory() if max_memory is None else max_memory
    if limit is not None and needed > limit:
        whose = "the machine has available" if max_memory is None else "--max-memory allows"
        raise ExportError(
            f"{work} needs about {needed / 1e9:.1f} GB, but {whose} {limit / 1e9:.1f} GB; free memory, "
            f"raise the limit, or use a larger machine"
        )


def _die_with_parent() -> None:
    """End this process when its parent is gone, however the parent went: then the system closes the pipe to stdin."""
    while os.read(0, 1):
        pass
    os._exit(1)


def _portable(error: BaseException) -> BaseException:
    """Return the error itself if it survives pickling, else one of a plain type with the same text."""
    with contextlib.suppress(Exception):
        copy = pickle.loads(pickle.dumps(error))
        if isinstance(copy, Exception):  # SystemExit would end the parent without a word
            return copy
    return RuntimeError(described(error))
