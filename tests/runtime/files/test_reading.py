"""A file that is to be small is read with the memory that it takes itself, whatever may be read at most."""

import io
import tracemalloc
from pathlib import Path

import pytest

from ldm_export.recipes import toml
from ldm_runtime.errors import PackageError
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.files.reading import read_at_most
from tests.golden_images import RGB, noise, png

LIMIT = 2**28


def peak(read: object) -> int:
    """Return the most memory that a call took beyond what there was."""
    assert callable(read)
    read()  # imports
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_small_file_of_a_model_takes_little_memory(tmp_path: Path) -> None:
    (tmp_path / "small.json").write_bytes(b"{}")
    folder = ModelFolder(tmp_path, "package", PackageError)
    assert folder.read("small.json", LIMIT) == b"{}"
    assert peak(lambda: folder.read("small.json", LIMIT)) < 2**17


def test_a_small_recipe_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toml, "MAX_FILE_BYTES", LIMIT)
    (tmp_path / "recipe.toml").write_text("a = 1\n")
    assert peak(lambda: toml.read_text(tmp_path / "recipe.toml")) < 2**17


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 5000])
def test_a_file_is_whole_up_to_its_limit_and_longer_beyond(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * 20
    (tmp_path / "file").write_bytes(content[:size])
    with open(tmp_path / "file", "rb") as file:
        found = read_at_most(file, 100)
    assert (found == content[:size]) if size <= 100 else len(found) == 101


def test_what_a_file_has_before_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with open(tmp_path / "file", "rb") as file:
        file.read(4)
        assert read_at_most(file, 100) == b"456789"


class Grown(io.BytesIO):
    """A file whose system says that it has nothing, as those of /proc, and which gives a few bytes at a time."""

    def __init__(self, content: bytes, empty: io.BufferedReader) -> None:
        super().__init__(content)
        self._empty = empty

    def fileno(self) -> int:
        return self._empty.fileno()


@pytest.mark.parametrize("size", [1, 99, 100, 101, 200_000])
def test_a_file_that_is_longer_than_the_system_says_is_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with open(tmp_path / "empty", "rb") as empty:
        assert read_at_most(Grown(b"x" * size, empty), 150_000) == b"x" * min(size, 150_001)


def test_a_small_png_takes_little_memory(tmp_path: Path) -> None:
    from ldm_runtime.image import open_image

    (tmp_path / "a.png").write_bytes(png(noise(3, (6, 7, 3), 200), 8, RGB))
    assert peak(lambda: open_image(tmp_path / "a.png")) < 2**22
