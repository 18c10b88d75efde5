"""Folders of images: captions or none, sizes, transparency, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldm_export.analyze.pictures import load_pictures
from ldm_export.errors import AnalysisError, TrainingError
from ldm_export.recipes.train import Background
from ldm_runtime.errors import LdmError
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
        (lambda folder: write_images(folder, 2, (64, 64), captions=False), "has 64x64 pixels, but the model's images"),
        (lambda folder: (folder.mkdir(), (folder / "a.png").write_bytes(b"no")), r"a\.png"),
        (lambda folder: (folder.mkdir(), (folder / "captions.jsonl").write_text("{}\n")), "line 1: expected an object"),
    ],
)
def test_refusals(tmp_path: Path, prepare, pattern: str) -> None:
    prepare(tmp_path / "data")
    with pytest.raises(LdmError, match=pattern) as caught:
        load_pictures(tmp_path / "data", 8, SIZE, 0, [])
    assert isinstance(caught.value, AnalysisError | TrainingError)


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
