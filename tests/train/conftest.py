"""A tiny folder of captioned images: coloured shapes with transparent surroundings, and random perceptual weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ldm_runtime.package import safetensors

RECIPES = Path(__file__).parents[2] / "export_configs"
COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "yellow": (240, 220, 40)}
SHAPES = ("square", "disc", "bar")


def write_images(folder: Path, size: int = 32) -> None:
    """Write twelve RGBA images with captions and tags, and vgg16.safetensors with narrow random layers."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for colour, rgb in COLOURS.items():
        for shape in SHAPES:
            image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
            pen = ImageDraw.Draw(image)
            box = (size // 8, size // 4 if shape == "bar" else size // 8, size * 7 // 8, size * 6 // 8)
            (pen.ellipse if shape == "disc" else pen.rectangle)(box, fill=(*rgb, 255))
            file = f"images/{colour}-{shape}.png"
            image.save(folder / file)
            rows.append({"file": file, "caption": f"{colour} {shape}", "tags": [colour, shape, "toy"], "kind": shape})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    safetensors.write(folder / "vgg16.safetensors", vgg_tensors(), {})


def vgg_tensors() -> dict[str, np.ndarray]:
    """Two blocks of narrow random convolutions."""
    random = np.random.default_rng(0)
    shapes = {"conv1_1": (4, 3), "conv1_2": (4, 4), "conv2_1": (8, 4), "conv2_2": (8, 8)}
    tensors = {}
    for name, (out, into) in shapes.items():
        tensors[f"{name}.weight"] = random.normal(0, 0.2, (out, into, 3, 3)).astype(np.float32)
        tensors[f"{name}.bias"] = random.normal(0, 0.2, out).astype(np.float32)
    return tensors


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images")
    return tmp_path / "images"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder in which the smoke recipe's relative paths lead to images."""
    write_images(tmp_path / "data-cache" / "smoke")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def smoke_recipe(folder: Path, *changes: tuple[str, str]) -> Path:
    """Copy export_configs/smoke.toml with strings replaced, each of which must occur."""
    text = (RECIPES / "smoke.toml").read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "recipe.toml"
    path.write_text(text)
    return path
