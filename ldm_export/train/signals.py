"""Ctrl-C and requests to end: during the steps of a training they wait for a save, otherwise they end it cleanly."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")  # the last where a terminal was closed; Windows has none


def ending(number: int) -> BaseException:
    """Return the exception for a signal, with the usual exit codes: 130, 143 and 129."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


@contextlib.contextmanager
def raised_signals() -> Iterator[None]:
    """Turn each signal to end into an exception at once, so that partial files are cleaned up."""

    def end(number: int, frame: FrameType | None) -> None:
        raise ending(number)

    with _handled(end):
        yield


@contextlib.contextmanager
def deferred_signals() -> Iterator[Callable[[], BaseException | None]]:
    """Turn the first signal to end into an exception to raise after the step; a second one is raised at once.

    Yields a function that returns that exception, or None. Outside the main thread signals stay as they are.
    """
    pending: list[BaseException] = []

    def defer(number: int, frame: FrameType | None) -> None:
        if pending:
            raise pending[0]
        pending.append(ending(number))

    with _handled(defer):
        yield lambda: pending[0] if pending else None


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = {name: getattr(signal, name) for name in _ENDING if hasattr(signal, name)}
    # A program started by nohup should outlive the terminal.
    numbers = [each for name, each in known.items() if name != "SIGHUP" or signal.getsignal(each) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
