"""A captioned picture folder in memory: rows selected and split, pictures composed over colours, captions varied.

Everything random here is a pure function of (seed, step), so a resumed training sees what an uninterrupted one sees.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldm_export.recipe import DataRecipe, Ground, Where
from ldm_runtime.errors import InputError, TrainingError
from ldm_runtime.image import open_image


@dataclass(frozen=True)
class Pictures:
    """`rgba` is uint8 (N, size, size, 4), alpha not premultiplied; `captions` and `tags` belong to the same N."""

    rgba: np.ndarray
    captions: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.captions)


def load_pictures(recipe: DataRecipe, where: Where | None = None) -> tuple[Pictures, Pictures]:
    """The pictures to train on, and the held-out ones: a choice by each caption alone, so it survives new pictures.

    Raises:
        TrainingError: no such folder, a malformed row, a picture that is missing or has another size, a held-out
            caption that no row has, or no row left.
    """
    rows = [row for row in _read_rows(recipe.folder) if _selected(row, recipe.where if where is None else where)]
    held_out = held_out_captions(recipe, {row["caption"] for row in rows})
    trained = [row for row in rows if row["caption"] not in held_out]
    if not trained:
        raise TrainingError(f"{recipe.folder}/captions.jsonl has no row to train on that fits {recipe.where}")
    return _load(trained, recipe), _load([row for row in rows if row["caption"] in held_out], recipe)


def held_out_captions(recipe: DataRecipe, captions: set[str]) -> set[str]:
    """Those of the captions that are not to be trained on."""
    if recipe.held_out_captions is None:
        return {caption for caption in captions if _falls_into(caption, recipe.held_out)}
    listed = listed_captions(recipe.held_out_captions)
    unknown = sorted(listed - captions)
    if unknown:
        raise TrainingError(
            f"{recipe.held_out_captions} holds out {unknown[0]!r}, which no picture in {recipe.folder} has "
            f"({len(unknown)} such lines); fetch the pictures that the recipe was written for, or take the lines out"
        )
    return listed


def listed_captions(file: Path) -> set[str]:
    """The lines of a file of held-out captions."""
    try:
        return set(file.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"cannot read the held-out captions {file}: {error}") from None


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


def _falls_into(caption: str, share: float) -> bool:
    digest = hashlib.sha256(caption.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _load(rows: list[dict[str, Any]], recipe: DataRecipe) -> Pictures:
    rgba = np.empty((len(rows), recipe.size, recipe.size, 4), dtype=np.uint8)
    for index, row in enumerate(rows):
        rgba[index] = _read_picture(recipe, row["file"])
    return Pictures(
        rgba=rgba,
        captions=tuple(row["caption"] for row in rows),
        tags=tuple(tuple(row.get("tags", ())) for row in rows),
    )


def _read_picture(recipe: DataRecipe, file: str) -> np.ndarray:
    """uint8 (size, size, 4)."""
    folder = recipe.folder.resolve()
    path = (folder / file).resolve()
    if not path.is_relative_to(folder):
        raise TrainingError(f"{recipe.folder}/captions.jsonl names the picture {file!r}, which lies outside the folder")
    try:
        picture = open_image(path)
    except InputError as error:
        raise TrainingError(f"{recipe.folder}/captions.jsonl: {error}") from None
    if picture.size != (recipe.size, recipe.size):
        size = f"{picture.width}x{picture.height}"
        raise TrainingError(f"{path} is {size}; the recipe's data.size is {recipe.size}")
    return np.asarray(picture.convert("RGBA"))


def compose(rgba: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """uint8 (..., 3): pictures (..., 4) over colours of a shape that broadcasts to theirs, in 0…255."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    over = rgba[..., :3] * alpha + np.asarray(colours, np.float32) * (1 - alpha)
    return np.rint(over).astype(np.uint8)


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


def vary_caption(
    caption: str, tags: tuple[str, ...], random: np.random.Generator, *, tag: float = 0.0, short: float = 0.0
) -> str:
    """The caption, cut after its first comma at the rate `short`, and with one to three tags at the rate `tag`."""
    shortened, extended = random.random(2) < (short, tag)
    if shortened:
        caption = caption.partition(",")[0]
    if not extended or not tags:
        return caption
    count = min(int(random.integers(1, 4)), len(tags))
    return ", ".join([caption, *(tags[i] for i in random.permutation(len(tags))[:count])])


def caption_with_ground(caption: str, ground: Ground) -> str:
    """The caption of a picture that stands on `ground`."""
    return f"{caption}, {ground.name} background" if ground.name else caption
