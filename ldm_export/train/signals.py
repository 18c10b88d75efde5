"""Ctrl-C and requests to end: within the steps of a training they wait for a save, elsewhere they end it cleanly."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")  # the last where a terminal was closed; Windows has none


def ending(number: int) -> BaseException:
    """The exception that a signal stands for: exit codes 130, 143 and 129 as of any program that it ends."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


@contextlib.contextmanager
def raised_signals() -> Iterator[None]:
    """Turn each signal to end into an exception at once, so that what is being written is cleaned up."""

    def end(number: int, frame: FrameType | None) -> None:
        raise ending(number)

    with _handled(end):
        yield


@contextlib.contextmanager
def deferred_signals() -> Iterator[Callable[[], BaseException | None]]:
    """Turn the first signal to end into an exception to raise after the step; a second one is raised at once.

    Yields a function that gives that exception, or None. Outside the main thread signals stay as they are.
    """
    wanted: list[BaseException] = []

    def note(number: int, frame: FrameType | None) -> None:
        if wanted:
            raise wanted[0]
        wanted.append(ending(number))

    with _handled(note):
        yield lambda: wanted[0] if wanted else None


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = {name: getattr(signal, name) for name in _ENDING if hasattr(signal, name)}
    # One who starts a program by nohup wants it to outlive the terminal.
    numbers = [each for name, each in known.items() if name != "SIGHUP" or signal.getsignal(each) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
