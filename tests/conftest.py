"""Marks every test that is not `slow` as `quick`; the tiny built package that many tests share."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.tiny_build import TinyBuild


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
