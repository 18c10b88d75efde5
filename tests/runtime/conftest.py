"""Packages for the runtime's tests: one that is shared, and copies that may be damaged."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ldm_runtime
from ldm_runtime.engines.choice import choose, open_engine
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import Pipeline
from tests.runtime import tiny_package
from tests.runtime.watched import Watched


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good package; read only."""
    return tiny_package.make(tmp_path_factory.mktemp("packages") / "tiny")


@pytest.fixture(scope="module")
def pipe(tiny: Path) -> Iterator[Pipeline]:
    """The good package, opened."""
    with ldm_runtime.load(tiny) as opened:
        yield opened


@pytest.fixture
def unet(tiny: Path) -> Watched:
    """The good package's denoiser, watched."""
    return Watched(open_engine(choose(), open_package(tiny), "unet").engine)


@pytest.fixture
def watched(tiny: Path, unet: Watched) -> Iterator[Pipeline]:
    """The good package, opened with that denoiser."""
    with Pipeline(open_package(tiny), choose(), engines={"unet": unet}) as pipe:
        yield pipe


@pytest.fixture
def unet_batches(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch size of every UNet evaluation."""
    batches: list[int] = []
    engine = pipe.engines["unet"]
    run = engine.run

    def recording(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        batches.append(len(feeds["sample"]))
        return run(feeds)

    monkeypatch.setattr(engine, "run", recording)
    return batches


@pytest.fixture
def package_copy(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the good package that the test may damage."""
    return Path(shutil.copytree(tiny, tmp_path / "package"))


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes remembered by a test stay with that test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
