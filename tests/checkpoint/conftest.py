"""A tiny pipeline as diffusers saves it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.oracles import build_tiny_sd


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole pipeline saved by diffusers; read only."""
    return build_tiny_sd(tmp_path_factory.mktemp("checkpoints") / "sd15")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Models so small gain nothing from threads, and wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the pipeline that the test may damage."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))
