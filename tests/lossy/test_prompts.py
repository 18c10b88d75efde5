"""Prompts that calibrate are never those that are measured, and a record says which they were."""

import hashlib
import os
from pathlib import Path

import pytest

from ldm_export.lossy.prompts import (
    CALIBRATION_SEED,
    FILE,
    HELD_OUT_SEED,
    OWN,
    digest,
    prompts_of,
    prompts_text,
    read_prompts,
    seeds,
)
from ldm_runtime.errors import InputError


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_our_own_prompts_are_sixteen_for_each_purpose_and_no_prompt_or_seed_is_for_both() -> None:
    assert len(OWN.calibration) == len(OWN.held_out) == 16
    assert len({*OWN.calibration, *OWN.held_out}) == 32
    assert not {*seeds(CALIBRATION_SEED, 16)} & {*seeds(HELD_OUT_SEED, 16)}


def test_lines_at_even_places_calibrate_and_those_at_odd_ones_are_held_out(tmp_path: Path) -> None:
    found = read_prompts(write(tmp_path / "a.txt", [f"prompt {index}" for index in range(17)]))
    assert found.calibration == tuple(f"prompt {index}" for index in range(0, 17, 2))
    assert found.held_out == tuple(f"prompt {index}" for index in range(1, 17, 2))


def test_a_repeated_prompt_is_not_for_both_purposes(tmp_path: Path) -> None:
    lines = [line for index in range(16) for line in (f"prompt {index}", "", f"prompt {index} ")]
    found = read_prompts(write(tmp_path / "a.txt", lines))
    assert not {*found.calibration} & {*found.held_out}
    assert len({*found.calibration, *found.held_out}) == 16


@pytest.mark.parametrize("again", ["A cat", "a  cat", "a\tcat", "  a cat", "Une CAFE\u0301", "une caf\u00e9 "])
def test_what_a_tokenizer_reads_as_the_same_prompt_is_one(again: str, tmp_path: Path) -> None:
    """Or the one at an odd place would be measured with what the other calibrated."""
    texts = ["a cat", "une caf\u00e9", *(f"prompt {index}" for index in range(16))]
    found = read_prompts(write(tmp_path / "a.txt", [*texts, again]))
    assert [*found.calibration, *found.held_out] == texts[0::2] + texts[1::2]


def test_of_a_long_file_prompts_are_taken_from_all_over_it(tmp_path: Path) -> None:
    found = read_prompts(write(tmp_path / "a.txt", [f"{index:03}" for index in range(200)]))
    assert len(found.calibration) == len(found.held_out) == 16
    assert found.held_out[0] < "010" and found.held_out[-1] > "180"
    assert not {*found.calibration} & {*found.held_out}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"a\nb\nc\n",
            "a.txt has 3 of the 16 different prompts that calibrating and measuring need, half of them for each$",
        ),
        (b"a cat\nA  cat\n" * 20, "a.txt has 1 of the 16 different prompts"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"a\n" * 2**20, "expected a list of prompts"),
        (b"\n".join(b"%d" % index for index in range(16)) + b"\x1b[2J", "no control characters"),
        (b"x" * 1001, "expected up to 1000 characters"),
    ],
)
def test_what_is_no_list_of_prompts_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_prompts(tmp_path / "a.txt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(InputError, match="cannot read the prompts .*a.txt: it is not a regular file; expected"):
        read_prompts(tmp_path / "a.txt")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no devices in /dev")
def test_of_a_device_nothing_is_read() -> None:
    with pytest.raises(InputError, match="cannot read the prompts /dev/zero: it is not a regular file"):
        read_prompts(Path("/dev/zero"))


def test_a_line_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(InputError, match="has more than 1048576 bytes"):
        read_prompts(tmp_path / "a.txt")


def test_a_mark_at_the_start_and_ends_of_lines_of_windows_are_no_part_of_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + b"".join(b"prompt %02d\r\n" % index for index in range(16)))
    found = read_prompts(tmp_path / "a.txt")
    assert found.calibration[0] == "prompt 00" and found.held_out[-1] == "prompt 15"


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the prompts .*: No such file"):
        read_prompts(tmp_path / "a.txt")


def test_a_given_file_comes_before_the_package_s_own_and_that_before_ours(tmp_path: Path) -> None:
    assert prompts_of([tmp_path / "README.md"], None) is OWN
    own = write(tmp_path / FILE, [f"own {index}" for index in range(16)])
    assert prompts_of([tmp_path / "README.md", own], None).held_out[0] == "own 1"
    given = write(tmp_path / "b.txt", [f"given {index}" for index in range(16)])
    assert prompts_of([own], given).held_out[0] == "given 1"


def test_who_builds_from_a_model_with_a_wrong_file_is_told_to_give_another(tmp_path: Path) -> None:
    own = write(tmp_path / FILE, ["a cat"])
    with pytest.raises(InputError, match="has 1 of the 16 different prompts .*; give other prompts with --prompts$"):
        prompts_of([own], None)


def test_captions_of_a_model_make_a_file_that_is_read_if_they_are_enough(tmp_path: Path) -> None:
    captions = [f"caption {index}" for index in range(16)]
    assert prompts_text(captions[1:]) is None and prompts_text([*captions[1:], "", "a\x00b"]) is None
    assert (
        prompts_text([*captions[1:], "two\u2028lines"]) is None and prompts_text([*captions[1:], "Caption 1"]) is None
    )
    text = prompts_text([*captions, captions[0]])
    assert text is not None
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    assert read_prompts(tmp_path / FILE).held_out == tuple(captions[1::2])


def test_the_digest_is_that_of_the_lines() -> None:
    expected = hashlib.sha256("101 a cat\n102 café\n".encode()).hexdigest()
    assert digest(("a cat", "café"), (101, 102)) == expected
    assert digest(("a cat", "café"), (101, 103)) != expected
