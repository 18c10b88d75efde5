"""A heavy stage in its own process: values, errors, progress and memory come back; a kill is said so."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from ldm_export.errors import CheckpointError
from ldm_export.process.isolate import StageTimeError, peak_memory, run_isolated
from ldm_export.process.limits import limit_time
from ldm_runtime.errors import LdmError


def add(a: int, b: int) -> int:
    return a + b


def refuse() -> None:
    raise CheckpointError("got a stub")


def break_down() -> None:
    raise ZeroDivisionError("a bug")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def speak(progress) -> str:
    progress("one")
    progress("two")
    return "done"


def allocate(size: int) -> int:
    return len(bytearray(os.urandom(1024) * (size // 1024)))


def compute_for_ever() -> None:
    limit_time(1)
    while True:
        pass


def sleep_in_child(path: str) -> None:
    with open(path, "w") as handle:
        handle.write(str(os.getpid()))
    time.sleep(600)


@pytest.mark.slow
def test_value_and_memory_come_back():
    outcome = run_isolated(allocate, 300 << 20)
    assert outcome.value == 300 << 20
    assert 300 << 20 <= outcome.peak_bytes < 800 << 20
    assert outcome.seconds > 0


@pytest.mark.slow
def test_peak_memory_of_the_parent_is_not_counted_in_the_child():
    ballast = bytearray(os.urandom(1024) * (400 << 10))
    assert peak_memory() >= len(ballast)
    assert run_isolated(add, 1, 2).peak_bytes < 300 << 20


def test_a_users_error_keeps_its_type_and_text():
    with pytest.raises(CheckpointError, match="^got a stub$"):
        run_isolated(refuse)


def test_a_bug_keeps_its_type_and_carries_the_childs_traceback():
    with pytest.raises(ZeroDivisionError) as caught:
        run_isolated(break_down)
    assert "in break_down\n" in str(caught.value.__cause__)


class Mute(Exception):
    def __init__(self, first: int, second: int) -> None:  # what pickle cannot call again
        super().__init__()

    def __str__(self) -> str:
        raise ZeroDivisionError


def break_down_mutely() -> None:
    raise Mute(1, 2)


def test_a_bug_that_cannot_tell_its_text_is_no_lack_of_memory():
    with pytest.raises(RuntimeError, match="^Mute: its text cannot be read, ZeroDivisionError$"):
        run_isolated(break_down_mutely)


def test_a_stage_runs_where_signals_cannot_be_masked(monkeypatch):
    """As on Windows."""
    monkeypatch.delattr(signal, "pthread_sigmask")
    assert run_isolated(add, 1, 2).value == 3


def test_a_killed_process_is_said_so():
    with pytest.raises(LdmError, match="killed by signal 9"):
        run_isolated(die)


def test_progress_is_passed_on_in_order():
    heard: list[str] = []
    assert run_isolated(speak, progress=heard.append).value == "done"
    assert heard == ["one", "two"]


def test_the_child_dies_with_its_parent(tmp_path):
    pid_file = tmp_path / "pid"
    parent = os.fork()
    if parent == 0:
        try:
            run_isolated(sleep_in_child, str(pid_file))
        finally:
            os._exit(1)
    deadline = time.monotonic() + 30
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = int(pid_file.read_text())
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    while os.path.exists(f"/proc/{child}") and "State:\tZ" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_stage_that_reaches_its_limit_of_time_is_ended_and_said_so():
    with pytest.raises(StageTimeError, match="compute_for_ever took more of the processor's time than it may"):
        run_isolated(compute_for_ever)
