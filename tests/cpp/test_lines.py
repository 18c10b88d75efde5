"""The C++ runtime's own sources: no line has more than 120 columns, and pixels are an image."""

from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "runtime" / "cpp"
ENDINGS = {".c", ".cpp", ".h", ".hpp"}


FOLDERS = ["core", "examples", "fuzz", "include", "plugins", "python", "src", "tests"]
KEY_OF_THE_KIT = '"/picture"'  # of a tensor in tests/golden/runs.safetensors


def lines(folder: str) -> Iterator[tuple[str, str]]:
    """Yield each line of a folder's sources, after its place."""
    for file in sorted((SOURCES / folder).rglob("*")):
        if file.suffix in ENDINGS:
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                yield f"{file.relative_to(SOURCES)}:{number}", line


@pytest.mark.parametrize("folder", FOLDERS)
def test_lines_fit(folder: str) -> None:
    assert [f"{place} has {len(line)} columns" for place, line in lines(folder) if len(line) > 120] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_has_pixels_is_called_image(folder: str) -> None:
    found = [place for place, line in lines(folder) if "picture" in line.replace(KEY_OF_THE_KIT, "").lower()]
    assert found == []
