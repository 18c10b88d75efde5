"""Whether a folder of images that `ldm-export data` made is finished and undamaged."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ldm_export.errors import TrainingError
from ldm_export.train.hashes import HASHES_FILE, require_hashes
from ldm_export.train.image_folder import ORIGIN_FILE, ROWS_FILE, data_file, read_rows
from ldm_runtime.checks import shown
from ldm_runtime.errors import InputError, refused_as
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.image import open_image
from ldm_runtime.package.safetensors import read_header

FACTS_FILE, VGG_FILE = "dataset.json", "vgg16.safetensors"
FETCH_AGAIN = "remove the folder and fetch it again"


def count_finished(out: Path, request: dict[str, Any]) -> int:
    """Return the number of images in a finished folder of the same request.

    Every file has the hash that was recorded with it. A folder of an earlier version has no hashes: there every image
    is decoded, and each row has an image of its own.

    Raises InputError for a folder of something else, TrainingError where files are missing or damaged.
    """
    count = _recorded_count(out / FACTS_FILE, request)
    if count is None:
        raise InputError(f"{out} exists and holds something else; choose another folder or remove it")
    files = [row["file"] for row in read_rows(out, FETCH_AGAIN)]
    missing = [file for file in files if not data_file(out, file).is_file()]
    if missing:
        raise TrainingError(f"{out} lacks {len(missing)} images such as {shown(missing[0])}; {FETCH_AGAIN}")
    if len(files) != count:
        raise TrainingError(f"{out / ROWS_FILE} has {len(files)} rows, expected {count}; {FETCH_AGAIN}")
    with refused_as(TrainingError, FETCH_AGAIN):
        read_header(out / VGG_FILE)
        if os.path.lexists(out / HASHES_FILE):
            folder = ModelFolder(out, "folder of images", TrainingError)
            require_hashes(folder, [*files, ROWS_FILE, ORIGIN_FILE, FACTS_FILE, VGG_FILE])
            return count
    _require_images(out, files, request["size"])
    return count


def _recorded_count(file: Path, request: dict[str, Any]) -> int | None:
    try:
        facts = json.loads(file.read_text()) if file.is_file() else {}
    except (OSError, ValueError, RecursionError):
        facts = {}
    count = facts.pop("pictures", None) if isinstance(facts, dict) else None
    return count if type(count) is int and facts == request else None


def _require_images(out: Path, files: Sequence[str], size: int) -> None:
    """Decode every image. Raises TrainingError for one that is damaged, of another size or in two rows."""
    seen: set[str] = set()
    for file in files:
        if file in seen:
            raise TrainingError(f"{out / ROWS_FILE} has the image {shown(file)} twice; {FETCH_AGAIN}")
        seen.add(file)
        try:
            image = open_image(data_file(out, file))
        except InputError as error:
            raise TrainingError(f"{error}; {FETCH_AGAIN}") from None
        if image.size != (size, size):
            what = f"{out / file} is {image.width}x{image.height}, expected {size}x{size}"
            raise TrainingError(f"{what}; {FETCH_AGAIN}")
