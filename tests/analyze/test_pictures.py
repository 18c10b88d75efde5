"""Folders of images: captions or none, sizes, transparency, and what is refused."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ldm_export.analyze import pictures as pictures_module
from ldm_export.analyze import report_folder
from ldm_export.analyze.pictures import load_pictures
from ldm_export.errors import AnalysisError, TrainingError
from ldm_export.recipes.train import Background
from ldm_runtime.errors import InputError, LdmError
from tests.analyze.conftest import write_images

RED = Background("red", (255, 0, 0))
SIZE = (128, 128)


def test_transparent_images_get_backgrounds_that_captions_name(images: Path) -> None:
    pictures = load_pictures(images, 8, SIZE, 0, [RED])
    assert pictures.alpha is not None and pictures.pixels.shape == (8, 128, 128, 3)
    corners = {
        ground: tuple(pixels[0, 0]) for ground, pixels in zip(pictures.backgrounds, pictures.pixels, strict=True)
    }
    assert corners == {"": (255, 255, 255), "red": (255, 0, 0)}
    for caption, ground in zip(pictures.captions, pictures.backgrounds, strict=True):
        assert caption.endswith("style, red background" if ground else "style")


def test_parts_of_captions(images: Path) -> None:
    parts = load_pictures(images, 8, SIZE, 0, []).parts()
    assert list(parts) == ["concept", "style"]
    assert set(parts["style"]) == {"flat style", "3d style"}


def test_the_seed_chooses(images: Path) -> None:
    chosen = [load_pictures(images, 4, SIZE, seed, []).files for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_plain_folder_of_larger_images(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 3, (300, 200), captions=False)
    Image.new("L", (128, 128), 90).save(tmp_path / "photos" / "grey.JPG")
    pictures = load_pictures(tmp_path / "photos", 10, SIZE, 0, [])
    assert (len(pictures), pictures.available, pictures.cropped, pictures.captions) == (4, 4, 3, ())
    assert pictures.size == SIZE and pictures.parts() == {}


@pytest.mark.parametrize("captions", [True, False])
def test_images_that_are_too_small_make_way_for_others(tmp_path: Path, captions: bool) -> None:
    write_images(tmp_path / "data", 6, captions=captions)
    for number in (0, 3):
        Image.new("RGB", (127, 300)).save(tmp_path / "data" / f"{number:03}.png")
    pictures = load_pictures(tmp_path / "data", 6, SIZE, 0, [])
    assert (len(pictures), pictures.available, pictures.too_small) == (4, 6, 2)
    assert pictures.files == ("001.png", "002.png", "004.png", "005.png")
    if captions:
        assert [each.partition(",")[0] for each in pictures.captions] == ["disc 1", "disc 2", "disc 4", "disc 5"]
    assert all(len(load_pictures(tmp_path / "data", 3, SIZE, seed, [])) == 3 for seed in range(4))


def test_hidden_files_and_the_pictures_of_reports_are_no_images(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "data" / "out"
    write_images(data / "within", 1, captions=False)
    for folder in (data / ".thumbnails", data / "earlier" / "pictures", out / "pictures", data / "other"):
        write_images(folder, 1, captions=False)
    (data / "within" / "._000.png").write_bytes(b"no image")
    (data / "earlier" / "report.json").write_text('{\n "schema_version": 1,\n "tool": "ldm-export 1.0"}')
    (data / "other" / "report.json").write_text('{"tool": "another"}')
    assert load_pictures(data, 8, SIZE, 0, [], out).files == ("other/000.png", "within/000.png")
    (tmp_path / "link").symlink_to(out)
    assert load_pictures(data, 8, SIZE, 0, [], tmp_path / "link").files == ("other/000.png", "within/000.png")
    assert "out/pictures/000.png" in load_pictures(data, 8, SIZE, 0, []).files


def test_an_unreadable_folder_among_the_images_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether such a folder holds a report cannot even be asked, which was a fault of the program."""
    place = tmp_path / "data" / "sub"
    write_images(place, 1, captions=False)
    scandir = os.scandir

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: object, *arguments: object, **options: object) -> object:
            if str(path) == str(place / "report.json") or (real is scandir and str(path) == str(place)):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return real(path, *arguments, **options)

        return call

    monkeypatch.setattr(os, "scandir", refusing(scandir))
    monkeypatch.setattr(os, "stat", refusing(os.stat))
    with pytest.raises(AnalysisError, match=f"cannot read {place}: Permission denied; choose another folder"):
        load_pictures(tmp_path / "data", 8, SIZE, 0, [])


def test_an_unreadable_report_among_the_images_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "data" / "sub" / "report.json"
    write_images(report.parent, 1, captions=False)
    report.write_text("{}")

    def refuse(path: Path, mode: str) -> object:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(report_folder, "open", refuse, raising=False)
    with pytest.raises(AnalysisError, match=f"cannot read {report}: Permission denied; choose another folder"):
        load_pictures(tmp_path / "data", 8, SIZE, 0, [])


def test_more_images_than_fit_into_memory_are_refused_before_one_is_read(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = pictures_module.BYTES_PER_PIXEL * SIZE[0] * SIZE[1]
    monkeypatch.setattr(pictures_module, "available_memory", lambda: 5 * each)
    assert len(load_pictures(images, 5, SIZE, 0, [])) == 5
    monkeypatch.setattr(pictures_module, "open_image", None)
    with pytest.raises(AnalysisError, match=r"8 images of 128x128 from .* GB: lower --samples to 5 or fewer"):
        load_pictures(images, 100_000, SIZE, 0, [])


def test_scaling_keeps_the_middle(tmp_path: Path) -> None:
    levels = np.zeros((256, 512, 3), np.uint8)
    levels[:, 128:384] = 200  # what stays
    (tmp_path / "one").mkdir()
    Image.fromarray(levels).save(tmp_path / "one" / "wide.png")
    pictures = load_pictures(tmp_path / "one", 1, SIZE, 0, [])
    assert (pictures.pixels[0, :, 4:-4] == 200).all()


@pytest.mark.parametrize(
    ("prepare", "pattern"),
    [
        (lambda folder: None, "is not a folder"),
        (lambda folder: folder.mkdir(), "has no images; expected .png"),
        (
            lambda folder: write_images(folder, 2, (64, 64), captions=False),
            "has 2 images, all smaller than the model's",
        ),
        (lambda folder: (folder.mkdir(), (folder / "a.png").write_bytes(b"no")), r"a\.png"),
        (lambda folder: (folder.mkdir(), (folder / "captions.jsonl").write_text("{}\n")), "line 1: expected an object"),
    ],
)
def test_refusals(tmp_path: Path, prepare, pattern: str) -> None:
    prepare(tmp_path / "data")
    with pytest.raises(LdmError, match=pattern) as caught:
        load_pictures(tmp_path / "data", 8, SIZE, 0, [])
    assert isinstance(caught.value, AnalysisError | TrainingError)


@pytest.mark.parametrize("target", ["gone.png", "../gone.png"])
def test_a_link_to_nothing_is_named(tmp_path: Path, target: str) -> None:
    write_images(tmp_path / "data", 1, captions=False)
    (tmp_path / "data" / "link.png").symlink_to(target)
    with pytest.raises(AnalysisError, match=r"data/link\.png is a link to nothing; take them out of the folder"):
        load_pictures(tmp_path / "data", 8, SIZE, 0, [])


def test_a_path_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="the folder of images is .* cannot be looked up: File name too long"):
        load_pictures(Path("x" * 5000), 8, SIZE, 0, [])


def test_an_image_elsewhere_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "data", 1, captions=False)
    write_images(tmp_path / "other", 1, captions=False)
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "other" / "000.png")
    with pytest.raises(TrainingError, match="lies outside the folder"):
        load_pictures(tmp_path / "data", 8, SIZE, 0, [])


def test_parts_of_captions_leave_the_background_apart(images: Path) -> None:
    parts = load_pictures(images, 8, SIZE, 0, [RED]).parts()
    assert list(parts) == ["concept", "style", "background"]
    assert set(parts["style"]) == {"flat style", "3d style"}
    assert sorted(set(parts["background"])) == ["plain", "red"]


def test_labels_are_the_fields_that_every_row_has_as_a_text(images: Path) -> None:
    rows = [json.loads(line) for line in (images / "captions.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"group": f"group {number % 2}", "number": number, "tags": ["a"]} | ({"some": "x"} if number else {})
    (images / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pictures = load_pictures(images, 8, SIZE, 0, [])
    assert list(pictures.labels) == ["group"]
    numbers = [int(file.removesuffix(".png")) for file in pictures.files]
    assert pictures.labels["group"] == tuple(f"group {number % 2}" for number in numbers)


@pytest.mark.parametrize(
    ("prepare", "pattern"),
    [
        (lambda file: file.write_text("{}\n"), "line 1: expected an object"),
        (lambda file: file.symlink_to("absent"), "captions.jsonl is missing"),
        (lambda file: file.mkdir(), "it is not a regular file"),
    ],
    ids=["malformed", "a link to nothing", "a folder"],
)
def test_captions_that_cannot_be_read_are_refused(tmp_path: Path, prepare, pattern: str) -> None:
    write_images(tmp_path / "data", 1, captions=False)
    prepare(tmp_path / "data" / "captions.jsonl")
    with pytest.raises(LdmError, match=pattern) as caught:
        load_pictures(tmp_path / "data", 1, (128, 128), 0, ())
    assert "ldm-export data" not in str(caught.value), "whose images these are not"
