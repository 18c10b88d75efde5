"""Marks every test that is not `slow` as `quick`; hears Ctrl-C; the tiny built package that many tests share."""

import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.tiny_build import TinyBuild


def pytest_configure() -> None:
    """A shell has what it starts in the background ignore Ctrl-C, and that is inherited: tests send it to processes."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") is None:
            item.add_marker("quick")


@pytest.fixture(scope="session")
def tiny_build(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[str], TinyBuild]":
    """kind -> the tiny pipeline of that kind, exported and packaged once per session; read only."""
    from tests import tiny_build as builder  # torch, diffusers: only for the tests that ask

    return cache(lambda kind: builder.make(tmp_path_factory.mktemp(kind), kind))


@pytest.fixture(scope="session")
def proven(tiny_build: "Callable[[str], TinyBuild]", tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """kind -> the same package with its reference and proof, as `build` leaves it; read only."""
    from tests.tiny_build import prove

    return cache(lambda kind: prove(tiny_build(kind), tmp_path_factory.mktemp(f"{kind}-proven") / "package"))
