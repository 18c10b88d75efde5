"""The tool `ldm`, built once, and packages of a test's own."""

from pathlib import Path

import pytest

from tests.cpp.cpp_build import built
from tests.verify import perturbations


@pytest.fixture(scope="session")
def tool() -> Path:
    return built("cpp") / "ldm"


@pytest.fixture
def private_cache(tmp_path, monkeypatch):
    """Hashes remembered by a test stay with that test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def copy(proven, tmp_path) -> Path:
    return perturbations.copy(proven("sd15"), tmp_path / "package")
