"""A captioned picture folder in memory: rows selected and split, pictures composed over colours, captions varied.

Everything random here is a pure function of (seed, step), so a resumed training sees what an uninterrupted one sees.
"""

import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldm_export.process.isolate import available_memory
from ldm_export.recipes.train import DataRecipe, Ground, Where
from ldm_runtime.checks import shown
from ldm_runtime.errors import InputError, TrainingError
from ldm_runtime.files.links import blobs_of
from ldm_runtime.image import open_image

ROWS_FILE = "captions.jsonl"
MAX_ROWS_BYTES = 2**28  # a million rows
MAX_ORIGIN_BYTES = 2**16
MAX_TEXT = 4096  # characters
MAX_TAGS = 256
MAX_TOLD = 10  # pictures that one error lists
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


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
        TrainingError: no such folder, a malformed row, pictures that are missing, damaged or of another size (they
            are listed), one that lies elsewhere, a held-out caption that no row has, or no row left.
    """
    rows = [row for row in _read_rows(recipe.folder) if _selected(row, recipe.where if where is None else where)]
    held_out = held_out_captions(recipe, {row["caption"] for row in rows})
    trained = [row for row in rows if row["caption"] not in held_out]
    if not trained:
        raise TrainingError(
            f"{recipe.folder}/{ROWS_FILE} has no row to train on that fits {recipe.where if where is None else where}"
        )
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
    """The lines of a file of held-out captions; empty ones do not count."""
    lines = _read_text(file, f"the held-out captions {file}", MAX_ROWS_BYTES).split("\n")
    return {line.removesuffix("\r") for line in lines} - {""}


def data_file(folder: Path, name: str) -> Path:
    """Where a data folder's file is, links followed. Raises TrainingError if that is outside the folder.

    A data folder comes from somebody else: a name or a link in it could lead to any file of the reader's. In a hub's
    cache the contents of its repository count as the folder's, by the rule of `ldm_runtime.files.links`.
    """
    try:
        real, place = folder.resolve(), (folder / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        raise TrainingError(f"{folder} names the file {shown(name)}, which cannot be: {error}") from None
    if not place.is_relative_to(real) and (place.parent != blobs_of(real) or not (folder / name).is_symlink()):
        raise TrainingError(f"{folder} names the file {shown(name)}, which lies outside the folder; copy it into it")
    return place


def read_origin(folder: Path) -> str:
    """What a data folder says of its pictures' origin and licences, without its heading; "" where it says nothing."""
    file = data_file(folder, "ORIGIN.md")
    if not file.exists():
        return ""
    return _read_text(file, str(file), MAX_ORIGIN_BYTES).partition("\n")[2].strip()


def _read_text(file: Path, what: str, limit: int) -> str:
    try:
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise TrainingError(f"cannot read {what}: it is no regular file of at most {limit} bytes")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the name
        raise TrainingError(f"cannot read {what}: {error}") from None


def _read_rows(folder: Path) -> list[dict[str, Any]]:
    file = data_file(folder, ROWS_FILE)
    if not file.is_file():
        raise TrainingError(
            f"{folder} is no folder of captioned pictures: {folder / ROWS_FILE} is missing; fetch one with: "
            f"ldm-export data"
        )
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_read_text(file, str(folder / ROWS_FILE), MAX_ROWS_BYTES).split("\n"), start=1):
        if line.strip() == "":
            continue
        rows.append(_read_row(line, f"{folder / ROWS_FILE}, line {number}"))
    return rows


def _read_row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of too many digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise TrainingError(f"{where}: not valid JSON: {reason}") from None
    if not isinstance(row, dict) or not all(_is_text(row.get(key)) for key in ("file", "caption")):
        raise TrainingError(
            f"{where}: expected an object with the texts 'file' and 'caption', of at most {MAX_TEXT} characters"
        )
    tags = row.get("tags", [])
    if not isinstance(tags, list) or not all(map(_is_text, tags)) or len(tags) > MAX_TAGS:
        raise TrainingError(f"{where}: tags are {shown(tags)}; expected a list of at most {MAX_TAGS} texts")
    return row


def _is_text(value: object) -> bool:
    """Unicode of a fitting length; JSON can spell half a character, which no tokenizer reads."""
    return isinstance(value, str) and len(value) <= MAX_TEXT and _LONE_SURROGATE.search(value) is None


def _selected(row: dict[str, Any], where: Where) -> bool:
    return all(row.get(key) in values for key, values in where.items())


def _falls_into(caption: str, share: float) -> bool:
    digest = hashlib.sha256(caption.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _load(rows: list[dict[str, Any]], recipe: DataRecipe) -> Pictures:
    needed, free = len(rows) * recipe.size**2 * 4, available_memory()
    if free is not None and needed > free:
        raise TrainingError(
            f"the {len(rows)} pictures of {recipe.size}x{recipe.size} in {recipe.folder} need {needed / 1e9:.1f} GB of "
            f"memory; available are {free / 1e9:.1f} GB: choose fewer by data.where, or a smaller data.size"
        )
    rgba = np.empty((len(rows), recipe.size, recipe.size, 4), dtype=np.uint8)
    faults = []
    for index, row in enumerate(rows):
        try:
            rgba[index] = _read_picture(recipe, row["file"])
        except TrainingError as error:
            faults.append(str(error))
    if faults:
        more = f"; and {len(faults) - MAX_TOLD} more" if len(faults) > MAX_TOLD else ""
        raise TrainingError("; ".join(faults[:MAX_TOLD]) + more)
    return Pictures(
        rgba=rgba,
        captions=tuple(row["caption"] for row in rows),
        tags=tuple(tuple(row.get("tags", ())) for row in rows),
    )


def _read_picture(recipe: DataRecipe, file: str) -> np.ndarray:
    """uint8 (size, size, 4)."""
    path = data_file(recipe.folder, file)
    try:
        picture = open_image(path)
    except InputError as error:
        raise TrainingError(f"{recipe.folder}/{ROWS_FILE}: {error}") from None
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
