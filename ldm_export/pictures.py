"""A captioned picture folder in memory: rows selected and split, pictures composed over a colour, captions chosen.

Everything random here is a pure function of (seed, step), so a resumed training sees what an uninterrupted one sees.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm_export.recipe import DataRecipe, Where
from ldm_runtime.errors import TrainingError


@dataclass(frozen=True)
class Pictures:
    """`pixels` is uint8 (N, size, size, 3); `captions` and `tags` belong to the same N pictures."""

    pixels: np.ndarray
    captions: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.captions)


def load_pictures(recipe: DataRecipe, where: Where | None = None) -> tuple[Pictures, Pictures]:
    """The pictures to train on, and the held-out ones: a choice by each caption alone, so it survives new pictures.

    Raises:
        TrainingError: no such folder, a malformed row, a picture that is missing or has another size, or no row left.
    """
    rows = [row for row in _read_rows(recipe.folder) if _selected(row, recipe.where if where is None else where)]
    trained = [row for row in rows if not _is_held_out(row["caption"], recipe.held_out)]
    if not trained:
        raise TrainingError(f"{recipe.folder}/captions.jsonl has no row to train on that fits {recipe.where}")
    held_out = [row for row in rows if _is_held_out(row["caption"], recipe.held_out)]
    return _load(trained, recipe), _load(held_out, recipe)


def _read_rows(folder: Path) -> list[dict[str, Any]]:
    file = folder / "captions.jsonl"
    if not file.is_file():
        raise TrainingError(
            f"{folder} is no folder of captioned pictures: {file} is missing; fetch one with: ldm-export data"
        )
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise TrainingError(f"{file}, line {number}: not valid JSON: {error}") from None
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("file", "caption")):
            raise TrainingError(f"{file}, line {number}: expected an object with the texts 'file' and 'caption'")
        rows.append(row)
    return rows


def _selected(row: dict[str, Any], where: Where) -> bool:
    return all(row.get(key) in values for key, values in where.items())


def _is_held_out(caption: str, share: float) -> bool:
    digest = hashlib.sha256(caption.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _load(rows: list[dict[str, Any]], recipe: DataRecipe) -> Pictures:
    pixels = np.empty((len(rows), recipe.size, recipe.size, 3), dtype=np.uint8)
    for index, row in enumerate(rows):
        pixels[index] = _read_picture(recipe.folder / row["file"], recipe)
    return Pictures(
        pixels=pixels,
        captions=tuple(row["caption"] for row in rows),
        tags=tuple(tuple(row.get("tags", ())) for row in rows),
    )


def _read_picture(path: Path, recipe: DataRecipe) -> np.ndarray:
    """uint8 (size, size, 3), composed over the background."""
    try:
        with Image.open(path) as picture:
            rgba = picture.convert("RGBA")
    except OSError as error:
        raise TrainingError(f"cannot read the picture {path}: {error}") from None
    if rgba.size != (recipe.size, recipe.size):
        raise TrainingError(f"{path} is {rgba.width}x{rgba.height}; the recipe's data.size is {recipe.size}")
    ground = Image.new("RGBA", rgba.size, (*recipe.background, 255))
    return np.asarray(Image.alpha_composite(ground, rgba).convert("RGB"))


def step_random(seed: int, stage: int, step: int) -> np.random.Generator:
    """The random numbers of one training step."""
    return np.random.default_rng([seed, stage, step])


def batch_indices(count: int, batch_size: int, step: int, seed: int, stage: int) -> np.ndarray:
    """The `batch_size` rows of a step: an endless walk through reshuffled epochs of `count` rows."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    chosen = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(positions // count):
        order = np.random.default_rng([seed, stage, 2**32 + int(epoch)]).permutation(count)
        inside = positions // count == epoch
        chosen[inside] = order[positions[inside] % count]
    return chosen


def vary_caption(caption: str, tags: tuple[str, ...], random: np.random.Generator, *, drop: float, tag: float) -> str:
    """The caption, extended with one to three of its tags with probability `tag`, or empty with probability `drop`."""
    dropped, extended = random.random(2) < (drop, tag)
    if dropped:
        return ""
    if not extended or not tags:
        return caption
    count = min(int(random.integers(1, 4)), len(tags))
    return ", ".join([caption, *(tags[i] for i in random.permutation(len(tags))[:count])])
