"""Packages for the runtime's tests: one that is shared, and copies that may be damaged."""

import shutil
from pathlib import Path

import pytest

from tests.runtime import tiny_package


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good package; read only."""
    return tiny_package.make(tmp_path_factory.mktemp("packages") / "tiny")


@pytest.fixture
def package_copy(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the good package that the test may damage."""
    return Path(shutil.copytree(tiny, tmp_path / "package"))


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes remembered by a test stay with that test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
