"""The tool `ldm`, built once, and packages of a test's own."""

import os
from pathlib import Path

import pytest

from tests.cpp.cpp_build import built
from tests.verify import perturbations


@pytest.fixture(scope="session")
def tool() -> Path:
    """The tool. The variable LDM_CPP_TOOL may name one."""
    given = os.environ.get("LDM_CPP_TOOL")
    return built("cpp") / "ldm" if given is None else Path(given)


@pytest.fixture
def private_cache(tmp_path, monkeypatch):
    """Hashes remembered by a test stay with that test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def copy(proven, tmp_path) -> Path:
    return perturbations.copy(proven("sd15"), tmp_path / "package")
