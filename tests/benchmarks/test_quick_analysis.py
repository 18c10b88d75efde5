"""The bounds of the quick analysis: what exceeds one is named, and the images are of the trainer's form."""

from pathlib import Path

import pytest

from benchmarks.quick_analysis import MOST_BYTES, MOST_SECONDS, SIDE, faults, write_images
from ldm_export.analyze.pictures import load_pictures
from ldm_export.analyze.run import SECTIONS, require


def report(**problems: str) -> dict:
    return {"sections": {name: {"problem": problems.get(name)} for name in ("text", "quality")}}


@pytest.mark.parametrize(
    ("problems", "seconds", "peak", "expected"),
    [
        ({}, MOST_SECONDS, MOST_BYTES, []),
        ({"text": "no captions"}, 1, 1, ["text: no captions"]),
        ({}, MOST_SECONDS + 1, 1, ["it took 301 s; expected at most 300 s"]),
        ({}, 1, 1.1 * MOST_BYTES, ["it held 6.60 GB; expected at most 6 GB"]),
    ],
)
def test_what_exceeds_a_bound_is_named(problems, seconds: float, peak: float, expected: list[str]) -> None:
    assert faults(report(**problems), seconds, peak) == expected


def test_the_images_are_what_every_section_needs(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 64)
    pictures = load_pictures(tmp_path / "images", 64, (SIDE, SIDE), 0, [])
    for section in SECTIONS.values():
        require(section, pictures)
    assert pictures.alpha is not None and 0.03 < (pictures.alpha > 0).mean() < 0.4
    parts = pictures.parts()
    assert {style: parts["style"].count(style) for style in set(parts["style"])} == {"flat style": 32, "3d style": 32}
