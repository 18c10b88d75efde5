"""The tiny package, and a cache folder of each test's own."""

from pathlib import Path

import pytest

from ldm_runtime.files import hash_cache
from tests.runtime import tiny_package


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good package; read only."""
    return tiny_package.make(tmp_path_factory.mktemp("packages") / "tiny")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = hash_cache.cache_folder()
    assert folder is not None and tmp_path in folder.parents
    return folder
