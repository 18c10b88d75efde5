"""Runs a heavy stage in a process of its own, so that its memory is returned to the machine when it ends."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from ldm_runtime.errors import LdmError


class Stage(NamedTuple):
    """What one isolated stage cost, for a table."""

    name: str
    seconds: float
    peak_bytes: int  # the largest resident set of its process


@dataclass(frozen=True)
class Outcome:
    """What an isolated stage returned, and what it cost."""

    value: Any
    peak_bytes: int  # the largest resident set of the process
    seconds: float

    def stage(self, name: str) -> Stage:
        return Stage(name, self.seconds, self.peak_bytes)


def run_isolated(
    function: Callable[..., Any], *args: Any, progress: Callable[[str], None] | None = None, **kwargs: Any
) -> Outcome:
    """Call a module-level `function` in a spawned process and return its value, peak memory and time.

    With `progress`, the function gets a keyword argument `progress` too, and what it says is passed on here.

    Raises:
        Whatever `function` raised; `LdmError` if the process was killed (most often: out of memory).
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    started = time.monotonic()
    process = context.Process(
        target=_child, args=(sender, os.getpid(), function, args, kwargs, progress is not None), daemon=True
    )
    process.start()
    sender.close()
    try:
        kind, content = _receive(receiver, progress)
        process.join()
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        receiver.close()
    if kind == "value":
        value, peak_bytes = content
        return Outcome(value, peak_bytes, time.monotonic() - started)
    if kind == "error":
        error, text = content
        if not isinstance(error, LdmError):
            error.add_note(f"in the isolated stage {function.__name__}:\n{text}")
        raise error
    code = process.exitcode
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
    raise LdmError(
        f"the stage {function.__name__} {how} before it finished; most often the machine ran out of memory: "
        f"close other programs or use a machine with more memory"
    )


def _receive(receiver: Connection, progress: Callable[[str], None] | None) -> tuple[str, Any]:
    """Pass progress on until the result arrives; ("lost", None) when the process ends without one."""
    while True:
        try:
            kind, content = receiver.recv()
        except EOFError:
            return "lost", None
        if kind != "progress":
            return kind, content
        if progress is not None:
            progress(content)


def _child(
    sender: Connection,
    parent: int,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    with_progress: bool,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and kills this process
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    if with_progress:
        kwargs = {**kwargs, "progress": lambda text: sender.send(("progress", text))}
    try:
        value = function(*args, **kwargs)
        sender.send(("value", (value, peak_memory())))
    except BaseException as error:
        sender.send(("error", (_portable(error), traceback.format_exc())))


def peak_memory() -> int:
    """The largest resident set of this process so far, in bytes.

    Linux's `ru_maxrss` counts the parent's memory in a spawned child, so `VmHWM` is read there.
    """
    if sys.platform == "linux":
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    import resource

    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum if sys.platform == "darwin" else maximum * 1024


def available_memory() -> int | None:
    """Bytes that new processes may take without swapping, or None where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    lines = meminfo.read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _die_with(parent: int) -> None:
    """End this process when its parent is gone, however the parent went."""
    while os.getppid() == parent:
        time.sleep(0.5)
    with contextlib.suppress(ProcessLookupError):
        os.kill(os.getpid(), signal.SIGKILL)


def _portable(error: BaseException) -> BaseException:
    """The error itself if it survives pickling, else one of a plain type with the same text."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
