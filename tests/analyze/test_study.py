"""What sections share: blocks that an interrupted analysis goes on at, and arrays that are held once."""

import os
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ldm_export.analyze.similarity import squared_errors
from ldm_export.analyze.study import Study, levels
from tests.analyze.codec_study import fill_cell, mean_of_cell, study_of

MOST = 2.0  # times the result: what a function may hold while it makes it


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_of(mean_of_cell, fill_cell, tmp_path)


def peak_over_result(work: Callable[[], np.ndarray]) -> float:
    """Return the most memory that was held, over that of the result."""
    tracemalloc.start()
    result = work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / result.nbytes


def test_blocks_are_made_once(study: Study) -> None:
    asked: list[list[int]] = []

    def make(part: Sequence[int]) -> np.ndarray:
        asked.append(list(part))
        if part[0] == 4 and len(asked) == 3:
            raise KeyboardInterrupt
        return np.array([[each, each**2] for each in part])

    with pytest.raises(KeyboardInterrupt):
        study.in_blocks("squares", range(5), 2, make)
    found = study.in_blocks("squares", range(5), 2, make)
    assert asked == [[0, 1], [2, 3], [4], [4]]
    assert found.tolist() == [[0, 0], [1, 1], [2, 4], [3, 9], [4, 16]]


def _plain(path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.zeros((2, 9)))


def _zip(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, other=np.zeros(2))


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40] ^= 1  # in the last number: its header is whole
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit": _flip,
    "another array": _plain,
    "several arrays": _zip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "cut to less than a digest": lambda path: path.write_bytes(b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "half a header": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((((\n" + bytes(99)),
    "nearly a zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(99)),
    "of a huge shape": lambda path: path.write_bytes(path.read_bytes().replace(b"(2, 2)", b"(2, 2000000000000)")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_array_is_made_again(study: Study, damage: Callable[[Path], object]) -> None:
    def make(part: Sequence[int]) -> np.ndarray:
        return np.array([[each, each**2] for each in part])

    whole = study.in_blocks("squares", range(4), 2, make)
    damage(study.folder / "squares-2.npy")
    assert study.in_blocks("squares", range(4), 2, make).tolist() == whole.tolist()
    np.testing.assert_array_equal(np.load(study.folder / "squares-2.npy"), whole[2:])


@pytest.mark.parametrize("what", ["link", "dangling link", "folder", "pipe"])
def test_what_is_in_the_place_of_a_kept_array_makes_way(study: Study, tmp_path: Path, what: str) -> None:
    """A link leads to an array that is whole: it was not kept here all the same."""
    outside, said = tmp_path / "outside", []
    outside.mkdir()
    study.kept("mine", lambda: np.arange(3))
    kept = study.folder / "mine.npy"
    if what == "link":
        kept.rename(outside / "mine.npy")
    else:
        kept.unlink()
    if what == "folder":
        (kept / "within").mkdir(parents=True)
        (kept / "within" / "link").symlink_to(outside)
    elif what == "pipe":
        os.mkfifo(kept)
    else:
        kept.symlink_to(outside / "mine.npy")
    (outside / "theirs").write_text("theirs")
    before = sorted(each.name for each in outside.iterdir())
    study.say = said.append
    assert study.kept("mine", lambda: np.arange(4)).tolist() == [0, 1, 2, 3]
    assert said == [f"what was kept in {kept} is damaged: it is made again"]
    assert kept.is_file() and not kept.is_symlink() and study.kept("mine", lambda: np.zeros(0)).tolist() == [0, 1, 2, 3]
    assert sorted(each.name for each in outside.iterdir()) == before and (outside / "theirs").read_text() == "theirs"


def test_a_block_of_another_length_is_a_fault(study: Study) -> None:
    with pytest.raises(ValueError, match="ones: 1 of 3 items were made"):
        study.in_blocks("ones", range(3), 3, lambda part: np.ones((1, 2)))


def test_levels_are_those_of_the_pixels(study: Study) -> None:
    np.testing.assert_array_equal(levels(study.pixels), study.pictures.pixels)
    beyond = np.array([-9, -1, 0.001, 1, 9], np.float32).reshape(1, 1, 1, 5).repeat(3, axis=1)
    assert levels(beyond)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_squared_errors_are_of_grey_levels() -> None:
    one, other = np.full((2, 4, 4, 3), 250, np.uint8), np.full((2, 4, 4, 3), 250, np.uint8)
    other[1] = 7
    assert squared_errors(one, other).tolist() == [0, 243**2]


def test_no_function_holds_the_images_several_times(study: Study) -> None:
    pixels = np.zeros((64, 3, 32, 32), np.float32)
    assert peak_over_result(lambda: levels(pixels)) < MOST
    assert peak_over_result(lambda: study.in_blocks("zeros", pixels, 8, lambda part: np.stack(list(part)))) < MOST
    assert peak_over_result(lambda: study.pixels) < MOST


@pytest.mark.parametrize(("side", "at_once"), [(64, 8), (128, 8), (256, 2), (512, 1)])
def test_fewer_of_large_images_are_computed_at_once(study: Study, side: int, at_once: int) -> None:
    object.__setattr__(study.pictures, "pixels", np.zeros((1, side, side, 3), np.uint8))
    assert study.at_once(8) == at_once
