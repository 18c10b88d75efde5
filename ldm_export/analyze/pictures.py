"""The images that are analysed: a folder of the trainer's format, or a plain folder of images without captions."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm_export.analyze.report_folder import is_report
from ldm_export.errors import AnalysisError
from ldm_export.recipes.train import Background
from ldm_export.train.image_folder import ROWS_FILE, caption_on, compose, data_file, read_rows
from ldm_runtime.checks import check_path
from ldm_runtime.errors import InputError, refused_as
from ldm_runtime.image import open_image
from ldm_runtime.memory import available_memory

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")
MAX_FILES = 1_000_000
WITHOUT_CAPTIONS = f"take {ROWS_FILE} out to analyse the images without captions"
MOST_LISTED = 5  # damaged images that one error lists
PLAIN = Background("", (255, 255, 255))
# An image while it is analysed: itself with its mask, as it was read, as floats, its reconstruction, a copy of each.
BYTES_PER_PIXEL = 4 + 4 + 4 * 12


@dataclass(frozen=True)
class Pictures:
    """Images of one size, composed over their backgrounds.

    pixels: uint8 (N, H, W, 3). alpha: uint8 (N, H, W), where their objects are; None where no image is transparent.
    captions: () where there are none. files: of each image, relative to the folder. backgrounds: of each image; "" is
    the plain one, or none. labels: what captions.jsonl says besides in every row, such as "group", by its name.
    """

    folder: Path
    pixels: np.ndarray
    alpha: np.ndarray | None
    captions: tuple[str, ...]
    files: tuple[str, ...]
    backgrounds: tuple[str, ...]
    available: int  # images in the folder, of which these were chosen
    cropped: int  # of these, that were cut to the shape of the model's images, or scaled down
    too_small: int = 0  # that were met and left out, since they are smaller than the model's images
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height."""
        return self.pixels.shape[2], self.pixels.shape[1]

    def parts(self) -> dict[str, tuple[str, ...]]:
        """Return level -> the label of each image: the parts of captions like "red apple, 3d style, blue background".

        The background is "plain" where the caption names none. {} where captions differ in their number of parts, or
        there is one part alone.
        """
        bare = [
            caption.removesuffix(f", {ground} background") if ground else caption
            for caption, ground in zip(self.captions, self.backgrounds, strict=bool(self.captions))
        ]
        split = [tuple(part.strip() for part in caption.split(",")) for caption in bare]
        counts = {len(parts) for parts in split}
        if len(counts) != 1:
            return {}
        (count,) = counts
        names = ("concept", "style", *(f"part {number}" for number in range(3, count + 1)))[:count]
        found = {name: tuple(parts[place] for parts in split) for place, name in enumerate(names)}
        if any(self.backgrounds):
            found["background"] = tuple(ground or "plain" for ground in self.backgrounds)
        return found if len(found) > 1 else {}


def load_pictures(
    folder: Path,
    count: int,
    size: tuple[int, int],
    seed: int,
    backgrounds: Sequence[Background],
    out: Path | None = None,
) -> Pictures:
    """Choose at most `count` images, by the seed, and read them at `size` (width, height).

    Larger images are scaled down and cut in the middle; smaller ones are left out. Transparent ones are composed over
    the backgrounds in turn, the plain one every second time; captions name the background. out: a folder of a report,
    whose pictures are none to read.

    Raises AnalysisError for a folder without images of that size, for more than fit into memory, and for damaged ones,
    InputError for a path that cannot be.
    """
    folder = check_path("the folder of images", folder)
    rows = _rows(folder, out)
    require_memory(min(count, len(rows)), size, folder)
    random = np.random.default_rng([seed, 1])
    chosen = _read_first(folder, rows, random.permutation(len(rows)), min(count, len(rows)), size)
    rows_read = [rows[number] for number in chosen.numbers]
    named = [each for each in backgrounds if each.name]
    under = [named[place // 2 % len(named)] if named and place % 2 else PLAIN for place in range(len(rows_read))]
    order = random.permutation(len(rows_read))  # so that a background is not tied to a place in the folder
    under = [under[place] for place in order]
    captions = tuple(row.get("caption", "") for row in rows_read)
    is_transparent = bool((chosen.rgba[..., 3] < 255).any())
    if is_transparent:
        captions = tuple(caption_on(each, ground) if each else "" for each, ground in zip(captions, under, strict=True))
    return Pictures(
        folder=folder,
        pixels=_composed(chosen.rgba, np.array([background.colour for background in under])),
        alpha=np.ascontiguousarray(chosen.rgba[..., 3]) if is_transparent else None,
        captions=captions if all(captions) else (),
        files=tuple(row["file"] for row in rows_read),
        backgrounds=tuple(each.name if is_transparent else "" for each in under),
        available=len(rows),
        cropped=chosen.cropped,
        too_small=chosen.too_small,
        labels=_labels(rows_read),
    )


def require_memory(count: int, size: tuple[int, int], folder: Path) -> None:
    """Raise AnalysisError unless `count` images of `size` can be analysed in the memory that is left."""
    each, free = BYTES_PER_PIXEL * size[0] * size[1], available_memory()
    if free is not None and count * each > free:
        raise AnalysisError(
            f"{count} images of {size[0]}x{size[1]} from {folder} need about {count * each / 1e9:.3g} GB of memory; "
            f"available are {free / 1e9:.3g} GB: lower --samples to {max(1, free // each)} or fewer"
        )


@dataclass(frozen=True)
class _Chosen:
    """Images as they are in the folder. rgba: uint8 (N, H, W, 4). numbers: of their rows, rising."""

    rgba: np.ndarray
    numbers: list[int]
    cropped: int
    too_small: int


def _read_first(
    folder: Path, rows: list[dict[str, Any]], order: np.ndarray, count: int, size: tuple[int, int]
) -> _Chosen:
    """Read the first `count` images of that order that are large enough, and all that fail until then."""
    rgba = np.empty((count, size[1], size[0], 4), np.uint8)
    numbers: list[int] = []
    faults: list[str] = []
    cropped = too_small = 0
    for number in order:
        if len(numbers) + len(faults) == count:
            break
        try:
            image = _open(folder, rows[number]["file"]).convert("RGBA")
        except InputError as error:
            faults.append(str(error))
            continue
        if image.width < size[0] or image.height < size[1]:
            too_small += 1
            continue
        rgba[len(numbers)] = fitted(image, size)
        numbers.append(int(number))
        cropped += image.size != size
    if faults:
        more = f"; and {len(faults) - MOST_LISTED} more" if len(faults) > MOST_LISTED else ""
        raise AnalysisError("; ".join(faults[:MOST_LISTED]) + more + "; take them out of the folder")
    if not numbers:
        raise AnalysisError(
            f"{folder} has {len(rows)} images, all smaller than the model's, which are {size[0]}x{size[1]}; give "
            f"larger ones, or scale these up"
        )
    rising = np.argsort(numbers)
    return _Chosen(rgba[: len(numbers)][rising], [numbers[place] for place in rising], cropped, too_small)


def _open(folder: Path, name: str) -> Image.Image:
    """Read an image of the folder. Raises InputError, TrainingError if it lies outside."""
    place = folder / name
    if os.path.islink(place) and not os.path.exists(place):
        raise InputError(f"the image {place} is a link to nothing")
    return open_image(data_file(folder, name))


def fitted(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Return an image that is at least of `size`, scaled down and cut in the middle: uint8 (H, W, 4)."""
    if image.size == size:
        return np.asarray(image)
    scale = max(size[0] / image.width, size[1] / image.height)
    width, height = (max(round(side * scale), least) for side, least in zip(image.size, size, strict=True))
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    return np.asarray(scaled.crop((left, top, left + size[0], top + size[1])))


def _composed(rgba: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Compose images (N, H, W, 4) over the colours (N, 3), one after the other: uint8 (N, H, W, 3)."""
    pixels = np.empty((*rgba.shape[:3], 3), np.uint8)
    for place, (image, colour) in enumerate(zip(rgba, colours, strict=True)):
        pixels[place] = compose(image, colour)
    return pixels


def _rows(folder: Path, out: Path | None) -> list[dict[str, Any]]:
    """Return a row for each image, with its file and perhaps its caption."""
    if not folder.is_dir():
        raise AnalysisError(f"{folder} is not a folder; expected a folder of images, with or without {ROWS_FILE}")
    if os.path.lexists(folder / ROWS_FILE):
        with refused_as(AnalysisError, f"correct it, or {WITHOUT_CAPTIONS}"):
            return _require_some(folder, read_rows(folder, WITHOUT_CAPTIONS))
    return _require_some(folder, [{"file": name} for name in _image_names(folder, out)])


def _image_names(folder: Path, out: Path | None) -> list[str]:
    """Return the paths of images in a folder and its folders, but for hidden ones and reports of this program."""
    names: list[str] = []
    out = None if out is None else folder / os.path.relpath(os.path.realpath(out), os.path.realpath(folder))

    def unreadable(error: OSError) -> None:
        raise AnalysisError(f"cannot read {error.filename}: {error.strerror}; choose another folder") from error

    for place, folders, files in os.walk(folder, onerror=unreadable):
        below = [Path(place, each) for each in folders]
        try:
            folders[:] = [
                each.name for each in below if not (each.name.startswith(".") or is_report(each) or each == out)
            ]
        except OSError as error:
            unreadable(error)
        names += [
            Path(place, file).relative_to(folder).as_posix()
            for file in files
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        ]
        if len(names) > MAX_FILES:
            raise AnalysisError(f"{folder} has more than {MAX_FILES} images; choose a folder of fewer")
    return sorted(names)


def _labels(rows: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return the fields that are a text in every row, but for its file and caption."""
    names = [name for name in rows[0] if name not in ("file", "caption")]
    columns: dict[str, tuple[Any, ...]] = {name: tuple(row.get(name) for row in rows) for name in names}
    return {name: column for name, column in columns.items() if all(isinstance(value, str) for value in column)}


def _require_some(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not rows:
        raise AnalysisError(f"{folder} has no images; expected {', '.join(SUFFIXES)} files, or {ROWS_FILE}")
    return rows
