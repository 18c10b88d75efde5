"""Termination requests: they unwind, so that nothing half-written stays, but never wait for an endless call."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

GRACE_SECONDS = 10.0  # for native code to come back to Python, where the request is heard


def end_on_request() -> None:
    """Let SIGTERM raise SystemExit in the main thread, the caller; if that has no effect, end the process.

    Python runs a handler between two of its own instructions. A call of a library that takes long, or never returns,
    would keep it waiting: a thread sees the signal at once, and ends the process after GRACE_SECONDS without an
    answer, or at the second request. What is half-written then is swept by the next call for the same output.
    Who puts a handler of its own in the place of this one, as training does to save, answers for the first request.
    A forked process ends at once: it has no such thread, and to unwind would sweep what its parent is writing.
    """
    heard = threading.Event()

    def unwind(number: int, frame: FrameType | None) -> None:
        heard.set()
        sys.exit(128 + number)

    if sys.platform == "win32":
        signal.signal(signal.SIGTERM, unwind)
        return
    import socket  # not at every start

    wakes, woken = socket.socketpair()
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, unwind)

    def forget() -> None:
        signal.set_wakeup_fd(-1)  # the parent's: it would take this process' signals for its own
        if signal.getsignal(signal.SIGTERM) is unwind:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    os.register_at_fork(after_in_child=forget)
    threading.Thread(target=_watch, args=(wakes, woken, heard, unwind), daemon=True).start()


def _watch(wakes: "socket.socket", woken: "socket.socket", heard: threading.Event, unwind: Any) -> None:
    """Read signals, one byte each. `woken` is a parameter so that it lives as long as this thread."""
    requests = 0
    while True:
        for number in wakes.recv(64):
            if number != signal.SIGTERM:
                continue
            requests += 1
            allowed = 1 if signal.getsignal(number) is unwind else 2  # training stops at once at the second
            if requests > allowed:
                os._exit(128 + number)
            if allowed == 1:
                threading.Thread(target=_expect, args=(heard, number), daemon=True).start()


def _expect(heard: threading.Event, number: int) -> None:
    if not heard.wait(GRACE_SECONDS):
        os._exit(128 + number)
