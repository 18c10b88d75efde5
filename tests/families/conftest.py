"""Checkpoints that several families' tests draw from."""

from pathlib import Path

import pytest

from tests.once import make_once
from tests.oracles import build_tiny_sd


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL, saved by diffusers; read only."""
    return make_once(tmp_path_factory, "sdxl-source", lambda folder: build_tiny_sd(folder / "sdxl", "sdxl"))
