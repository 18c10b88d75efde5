"""The images that are analysed: a folder of the trainer's format, or a plain folder of images without captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm_export.errors import AnalysisError
from ldm_export.recipes.train import Background
from ldm_export.train.image_folder import ROWS_FILE, caption_on, compose, data_file, read_rows
from ldm_runtime.errors import InputError, refused_as
from ldm_runtime.image import open_image

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")
MAX_FILES = 1_000_000
MOST_LISTED = 5  # damaged images that one error lists
PLAIN = Background("", (255, 255, 255))


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
    folder: Path, count: int, size: tuple[int, int], seed: int, backgrounds: Sequence[Background]
) -> Pictures:
    """Choose at most `count` images, by the seed, and read them at `size` (width, height).

    Larger images are scaled down and cut in the middle. Transparent ones are composed over the backgrounds in turn, the
    plain one every second time; captions name the background.

    Raises AnalysisError for a folder without images, and for images that are damaged or smaller than `size`.
    """
    rows = _rows(folder)
    random = np.random.default_rng([seed, 1])
    chosen = sorted(random.permutation(len(rows))[:count])
    faults: list[str] = []
    images = []
    for number in chosen:
        try:
            images.append(_read(folder, rows[number]["file"], size))
        except (AnalysisError, InputError) as error:
            faults.append(str(error))
    if faults:
        more = f"; and {len(faults) - MOST_LISTED} more" if len(faults) > MOST_LISTED else ""
        raise AnalysisError("; ".join(faults[:MOST_LISTED]) + more + "; take them out of the folder, or scale them up")
    rgba = np.stack([image for image, _ in images])
    named = [each for each in backgrounds if each.name]
    under = [named[place // 2 % len(named)] if named and place % 2 else PLAIN for place in range(len(rgba))]
    order = random.permutation(len(rgba))  # so that a background is not tied to a place in the folder
    under = [under[place] for place in order]
    colours = np.array([background.colour for background in under])
    captions = tuple(rows[number].get("caption", "") for number in chosen)
    is_transparent = bool((rgba[..., 3] < 255).any())
    if is_transparent:
        captions = tuple(caption_on(each, ground) if each else "" for each, ground in zip(captions, under, strict=True))
    return Pictures(
        folder=folder,
        pixels=compose(rgba, colours[:, None, None]),
        alpha=rgba[..., 3] if is_transparent else None,
        captions=captions if all(captions) else (),
        files=tuple(rows[number]["file"] for number in chosen),
        backgrounds=tuple(each.name if is_transparent else "" for each in under),
        available=len(rows),
        cropped=sum(is_cropped for _, is_cropped in images),
        labels=_labels([rows[number] for number in chosen]),
    )


def _rows(folder: Path) -> list[dict[str, Any]]:
    """Return a row for each image, with its file and perhaps its caption."""
    if not folder.is_dir():
        raise AnalysisError(f"{folder} is not a folder; expected a folder of images, with or without {ROWS_FILE}")
    if (folder / ROWS_FILE).exists():
        with refused_as(AnalysisError, "correct it, or take the file out to analyse the images without captions"):
            rows = read_rows(folder)
        return _require_some(folder, rows)
    with refused_as(AnalysisError, "choose another folder"):
        names = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES
        )
    if len(names) > MAX_FILES:
        raise AnalysisError(f"{folder} has {len(names)} images; expected at most {MAX_FILES}")
    return _require_some(folder, [{"file": name} for name in names])


def _labels(rows: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return the fields that are a text in every row, but for its file and caption."""
    names = [name for name in rows[0] if name not in ("file", "caption")]
    columns: dict[str, tuple[Any, ...]] = {name: tuple(row.get(name) for row in rows) for name in names}
    return {name: column for name, column in columns.items() if all(isinstance(value, str) for value in column)}


def _require_some(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not rows:
        raise AnalysisError(f"{folder} has no images; expected {', '.join(SUFFIXES)} files, or {ROWS_FILE}")
    return rows


def _read(folder: Path, name: str, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Read an image as uint8 (H, W, 4), and whether it was cut or scaled."""
    file = data_file(folder, name)
    image = open_image(file).convert("RGBA")
    if image.size == size:
        return np.asarray(image), False
    scale = max(size[0] / image.width, size[1] / image.height)
    if scale > 1:
        raise AnalysisError(
            f"{file} has {image.width}x{image.height} pixels, but the model's images have {size[0]}x{size[1]}"
        )
    width, height = (max(round(side * scale), least) for side, least in zip(image.size, size, strict=True))
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    return np.asarray(scaled.crop((left, top, left + size[0], top + size[1]))), True
