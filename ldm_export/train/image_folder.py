"""A folder of captioned images in memory: rows selected and split, images composed over colours, captions varied.

Everything random here is a pure function of (seed, step), so a resumed training draws what an uninterrupted one draws.
"""

import hashlib
import math
import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ldm_export.errors import TrainingError
from ldm_export.recipes.train import Background, DataRecipe, Where
from ldm_runtime.checks import shown
from ldm_runtime.errors import InputError, refused_as
from ldm_runtime.files import strict_json
from ldm_runtime.files.links import blobs_of
from ldm_runtime.image import open_image
from ldm_runtime.memory import available_memory

ROWS_FILE, ORIGIN_FILE = "captions.jsonl", "ORIGIN.md"
MAX_ROWS_BYTES = 2**28  # a million rows
MAX_ORIGIN_BYTES = 2**16
MAX_TEXT = 4096  # characters
MAX_TAGS = 256
MAX_LISTED = 10  # images that one error lists


@dataclass(frozen=True)
class Images:
    """Captioned images: some rows of a decoded folder, whose pixels several sets share.

    pixels: uint8 (M, size, size, 4), alpha not premultiplied. places: int64 (N,), where in it these images are;
    `captions` and `tags` belong to the same N.
    """

    pixels: np.ndarray
    places: np.ndarray
    captions: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.captions)

    def rgba(self, index: int | slice) -> np.ndarray:
        """Return the pixels of one image, uint8 (size, size, 4), or of several, (n, size, size, 4)."""
        return np.asarray(self.pixels[self.places[index]])


class Split(NamedTuple):
    """The images to train on, and those that are held out."""

    trained: Images
    held_out: Images


def load_images(recipe: DataRecipe, *wheres: Where) -> list[Split]:
    """Load the rows that each selection keeps, decoding every row once; without selections, those of the recipe.

    A caption alone decides whether its image is held out, so the split survives new images.

    Raises:
        TrainingError: no such folder, a malformed row, images that are missing, damaged or of another size (they
            are listed), one that lies elsewhere, a held-out caption that no row has, or no row left.
    """
    rows = read_rows(recipe.folder)
    splits = [_split(rows, recipe, where) for where in (wheres if wheres else (recipe.where,))]
    used = sorted({number for split in splits for part in split for number in part})
    pixels = _decode([rows[number] for number in used], recipe)
    place = {number: index for index, number in enumerate(used)}

    def images(part: Sequence[int]) -> Images:
        chosen = [rows[number] for number in part]
        return Images(
            pixels=pixels,
            places=np.array([place[number] for number in part], np.int64),
            captions=tuple(row["caption"] for row in chosen),
            tags=tuple(tuple(row.get("tags", ())) for row in chosen),
        )

    return [Split(images(trained), images(held_out)) for trained, held_out in splits]


def _split(rows: Sequence[dict[str, Any]], recipe: DataRecipe, where: Where) -> tuple[list[int], list[int]]:
    """Return the numbers of the selected rows to train on, and of those held out."""
    selected = [number for number, row in enumerate(rows) if _selected(row, where)]
    held_out = held_out_captions(recipe, {rows[number]["caption"] for number in selected})
    trained = [number for number in selected if rows[number]["caption"] not in held_out]
    if not trained:
        raise TrainingError(f"{recipe.folder}/{ROWS_FILE} has no row to train on that fits {where}")
    return trained, [number for number in selected if rows[number]["caption"] in held_out]


def held_out_captions(recipe: DataRecipe, captions: set[str]) -> set[str]:
    """Return the captions that are not to be trained on."""
    if recipe.held_out_captions is None:
        return {caption for caption in captions if _falls_into(caption, recipe.held_out)}
    listed = listed_captions(recipe.held_out_captions)
    unknown = sorted(listed - captions)
    if unknown:
        raise TrainingError(
            f"{recipe.held_out_captions} holds out {unknown[0]!r}, which no image in {recipe.folder} has "
            f"({len(unknown)} such lines); fetch the images that the recipe was written for, or take the lines out"
        )
    return listed


def listed_captions(file: Path) -> set[str]:
    """Read the lines of a file of held-out captions; empty ones and a byte order mark do not count."""
    lines = _read_text(file, f"the held-out captions {file}", MAX_ROWS_BYTES).removeprefix("\ufeff").split("\n")
    return {line.removesuffix("\r") for line in lines} - {""}


def data_file(folder: Path, name: str) -> Path:
    """Return the path of a data folder's file, links followed. Raises TrainingError if it is outside the folder.

    A data folder comes from somebody else: a name or a link in it could lead to any file of the user's. In a hub's
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
    """Read the origin and licences of a data folder's images, without the heading; "" where none are recorded."""
    file = data_file(folder, ORIGIN_FILE)
    if not file.exists():
        return ""
    return _read_text(file, str(file), MAX_ORIGIN_BYTES).partition("\n")[2].strip()


def _read_text(file: Path, what: str, limit: int) -> str:
    try:
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise TrainingError(f"cannot read {what}: it is not a regular file of at most {limit} bytes")
        content = file.read_bytes()
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TrainingError(f"cannot read {what}: line {line} is not UTF-8; save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise TrainingError(f"cannot read {what}: {error}") from None


def read_rows(folder: Path, advice: str = "fetch the images with: ldm-export data") -> list[dict[str, Any]]:
    """Read the rows of a data folder. Raises TrainingError for the first that is malformed, with `advice`."""
    file = data_file(folder, ROWS_FILE)
    if not file.exists():
        raise TrainingError(f"{folder} is not a folder of captioned images: {folder / ROWS_FILE} is missing; {advice}")
    text = _read_text(file, str(folder / ROWS_FILE), MAX_ROWS_BYTES)
    if text.startswith("\ufeff"):
        raise TrainingError(f"{folder / ROWS_FILE}, line 1 begins with a byte order mark; save it without, or {advice}")
    rows: list[dict[str, Any]] = []
    lines: dict[tuple[str, str], int] = {}  # (image, caption) -> the line that has them
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() == "":
            continue
        row = _read_row(line, f"{folder / ROWS_FILE}, line {number}", advice)
        first = lines.setdefault((posixpath.normpath(row["file"]), row["caption"]), number)
        if first != number:
            raise TrainingError(
                f"{folder / ROWS_FILE}, line {number} has the image and caption of line {first}; remove it, or {advice}"
            )
        rows.append(row)
    return rows


def _read_row(line: str, where: str, advice: str) -> dict[str, Any]:
    with refused_as(TrainingError, f"correct that line, or {advice}"):
        row = strict_json.parse(line, where)
    if not isinstance(row, dict) or not all(_is_text(row.get(key)) for key in ("file", "caption")):
        raise TrainingError(
            f"{where}: expected an object with the strings 'file' and 'caption', of at most {MAX_TEXT} characters and "
            f"not blank; correct that line, or {advice}"
        )
    tags = row.get("tags", [])
    if not isinstance(tags, list) or not all(map(_is_text, tags)) or len(tags) > MAX_TAGS:
        raise TrainingError(
            f"{where}: tags are {shown(tags)}; expected a list of at most {MAX_TAGS} strings that are not blank"
        )
    return row


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and not value.isspace() and value != ""


def _selected(row: dict[str, Any], where: Where) -> bool:
    return all(row.get(key) in values for key, values in where.items())


def _falls_into(caption: str, share: float) -> bool:
    digest = hashlib.sha256(caption.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _decode(rows: Sequence[dict[str, Any]], recipe: DataRecipe) -> np.ndarray:
    """Read the rows' images into one array, uint8 (N, size, size, 4)."""
    needed, free = len(rows) * recipe.size**2 * 4, available_memory()
    if free is not None and needed > free:
        raise TrainingError(
            f"the {len(rows)} images of {recipe.size}x{recipe.size} in {recipe.folder} need {needed / 1e9:.1f} GB of "
            f"memory; available are {free / 1e9:.1f} GB: choose fewer by data.where, or a smaller data.size"
        )
    pixels = np.empty((len(rows), recipe.size, recipe.size, 4), dtype=np.uint8)
    faults = []
    for index, row in enumerate(rows):
        try:
            pixels[index] = _read_image(recipe, row["file"])
        except TrainingError as error:
            faults.append(str(error))
    if faults:
        more = f"; and {len(faults) - MAX_LISTED} more" if len(faults) > MAX_LISTED else ""
        raise TrainingError("; ".join(faults[:MAX_LISTED]) + more)
    return pixels


def _read_image(recipe: DataRecipe, file: str) -> np.ndarray:
    """Read one image of the recipe's size, uint8 (size, size, 4)."""
    path = data_file(recipe.folder, file)
    try:
        image = open_image(path)
    except InputError as error:
        raise TrainingError(f"{recipe.folder}/{ROWS_FILE}: {error}") from None
    if image.size != (recipe.size, recipe.size):
        raise TrainingError(f"{path} is {image.width}x{image.height}; the recipe's data.size is {recipe.size}")
    return np.asarray(image.convert("RGBA"))


def compose_on_backgrounds(images: Images, backgrounds: Sequence[Background], limit: int) -> np.ndarray:
    """Compose at most `limit` images, evenly chosen, on the backgrounds in turn: uint8 (N, size, size, 3)."""
    rgba = images.rgba(slice(None, None, max(1, math.ceil(len(images) / limit))))
    colours = np.array([backgrounds[index % len(backgrounds)].colour for index in range(len(rgba))])
    return compose(rgba, colours[:, None, None])


def compose(rgba: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Compose images (..., 4) over colours in 0…255 that broadcast to them: uint8 (..., 3)."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    over = rgba[..., :3] * alpha + np.asarray(colours, np.float32) * (1 - alpha)
    return np.rint(over).astype(np.uint8)


def step_random(seed: int, stage: int, step: int) -> np.random.Generator:
    """Make the generator of one training step."""
    return np.random.default_rng([seed, stage, step])


def batch_indices(count: int, batch_size: int, step: int, seed: int, stage: int) -> np.ndarray:
    """Choose the `batch_size` rows of a step: an endless walk through reshuffled epochs of `count` rows."""
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
    """Cut a caption after its first comma at the rate `short`, and add one to three tags at the rate `tag`."""
    shortened, extended = random.random(2) < (short, tag)
    if shortened:
        caption = caption.partition(",")[0]
    if not extended or not tags:
        return caption
    count = min(int(random.integers(1, 4)), len(tags))
    return ", ".join([caption, *(tags[i] for i in random.permutation(len(tags))[:count])])


def caption_on(caption: str, background: Background) -> str:
    """Name the background in an image's caption, if it has a name."""
    return f"{caption}, {background.name} background" if background.name else caption
