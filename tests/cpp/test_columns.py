"""No line of the C++ runtime's own sources has more than 120 columns."""

from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "runtime" / "cpp"
ENDINGS = {".c", ".cpp", ".h", ".hpp"}


@pytest.mark.parametrize("folder", ["core", "examples", "fuzz", "include", "plugins", "python", "src", "tests"])
def test_lines_fit(folder: str) -> None:
    files = [file for file in sorted((SOURCES / folder).rglob("*")) if file.suffix in ENDINGS]
    long = [
        f"{file.relative_to(SOURCES)}:{number} has {len(line)} columns"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 120
    ]
    assert long == []
