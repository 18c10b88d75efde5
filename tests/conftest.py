"""The marks `quick` and `slow`, Ctrl-C in tests, and the tiny built package that many tests share."""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.once import make_once, shared_folder

if TYPE_CHECKING:
    from tests.tiny_build import TinyBuild

BUILDS = {"tiny_build", "proven", "trained"}  # fixtures that trace or train a whole pipeline

if "PYTEST_XDIST_WORKER" in os.environ:  # a core per worker; set before anything imports NumPy or torch
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_configure() -> None:
    """Hear Ctrl-C, which tests send to processes: what a shell starts in the background inherits not to."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Let garbage collections, which some tests ask for, pass over what was imported."""
    gc.collect()  # what is garbage now would stay for good
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if BUILDS & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
        if item.get_closest_marker("slow") is None:
            item.add_marker("quick")
    items[:] = slow_first(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def slow_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Order the tests so that the share of each pytest worker begins with its slow ones.

    What a worker that has finished takes over from another is then quick, and both end together.
    """
    slow, quick = ([item for item in items if item.get_closest_marker(mark)] for mark in ("slow", "quick"))
    ordered = []
    for worker in range(workers):
        for part in (slow, quick):
            ordered += part[len(part) * worker // workers : len(part) * (worker + 1) // workers]
    return ordered


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Let ONNX Runtime have one thread where a worker asks for no number: it has a core.

    A thread for each core of the machine takes twice the processor's time of the same image, by waiting.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    from ldm_runtime.engines.ort import session

    made = session._session_options
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "_session_options", lambda ort, threads, reorder: made(ort, threads or 1, reorder))
        yield


@pytest.fixture(scope="session")
def tiny_build(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[str], TinyBuild]":
    """Return kind -> the tiny pipeline of that kind, exported and packaged once per run; read only."""

    def build(kind: str) -> "TinyBuild":
        from tests import tiny_build as builder  # torch, diffusers: only for the tests that ask

        return make_once(tmp_path_factory, kind, lambda folder: builder.make(folder, kind))

    return cache(build)


@pytest.fixture(scope="session")
def proven(tiny_build: "Callable[[str], TinyBuild]", tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return kind -> the same package with its reference and proof, as `build` leaves it; read only."""

    def prove(kind: str) -> Path:
        from tests import tiny_build as builder

        make = lambda folder: builder.prove(tiny_build(kind), folder / "package")  # noqa: E731
        return make_once(tmp_path_factory, f"{kind}-proven", make)

    return cache(prove)


@pytest.fixture(scope="session")
def lossy_package(proven: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return a function of the tiny package with every variant that this machine can measure; read only."""

    def make() -> Path:
        from tests.lossy.making import make_varied

        return make_once(tmp_path_factory, "lossy", lambda folder: make_varied(proven("sd15"), folder / "package"))

    return cache(make)


@pytest.fixture
def remembered_traces(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Export and prove in this process what the test builds, and trace it once per run: see `tests.traces`."""
    from tests import traces

    traces.remember_in_builds(shared_folder(tmp_path_factory) / "traces", monkeypatch)
