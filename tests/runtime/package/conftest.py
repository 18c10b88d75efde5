"""The manifest that tests change."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def good(tiny: Path) -> str:
    return (tiny / "manifest.json").read_text(encoding="utf-8")
