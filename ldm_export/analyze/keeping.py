"""What is kept of an analysis, so that an interrupted one goes on: by which key, and that there is room for it."""

import contextlib
import errno
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ldm_export.analyze.perceptual_pairs import WEIGHTS
from ldm_export.analyze.pictures import Pictures
from ldm_export.analyze.report_folder import WORK
from ldm_runtime.errors import OutputError
from ldm_runtime.files.atomic import make_folder

KEY_LETTERS = 16
IMAGES_KEPT = 4  # float32 images that all sections together keep of one that is analysed, by the whole report
LEAST_ROOM = 100_000_000  # bytes: drawn images, features and maps, which do not grow with the folder
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


class KeepError(OutputError):
    """What was computed cannot be kept. It ends the analysis: the sections that follow could keep nothing either."""


def key_of(facts: dict[str, Any], pictures: Pictures) -> str:
    """Return what the kept results belong to: program, model, options, machine, and all that is known of the images.

    The machine belongs to it because times do. The weights of the perceptual distance lie beside the images.
    """
    known = [facts[name] for name in ("tool", "model", "options", "machine")]
    digest = hashlib.sha256(json.dumps([*known, torch.get_num_threads()]).encode())
    for array in (pictures.pixels, pictures.alpha):
        if array is not None:
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
    labels = sorted(pictures.labels.items())
    digest.update(repr((pictures.captions, pictures.files, pictures.backgrounds, labels)).encode())
    weights = pictures.folder / WEIGHTS
    if weights.is_file():
        status = weights.stat()
        digest.update(repr((status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:KEY_LETTERS]


def open_kept(out: Path, key: str, pictures: Pictures) -> Path:
    """Make the folder of what is kept under a key. Raises OutputError if there is no room for it."""
    folder = out / WORK / key
    make_folder(folder)
    width, height = pictures.size
    needed = LEAST_ROOM + 12 * IMAGES_KEPT * width * height * len(pictures)
    needed -= sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{folder} will need about {needed / 1e9:.2g} GB for what is kept of {len(pictures)} images; free on that "
            f"disk are {free / 1e9:.2g} GB: make room, give another --out, or lower --samples"
        )
    return folder


def remove_others(out: Path, key: str) -> None:
    """Remove what was kept of other analyses, whose report this one has replaced."""
    for folder in (out / WORK).iterdir():
        if folder.name != key and re.fullmatch(f"[0-9a-f]{{{KEY_LETTERS}}}", folder.name) and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed stays: the report is written


@contextlib.contextmanager
def ends_analysis(folder: Path) -> Iterator[None]:
    """Make of an output that cannot be written, and of a full disk, the sentence that ends the analysis."""
    try:
        yield
    except (OutputError, OSError) as error:
        if isinstance(error, KeepError) or (isinstance(error, OSError) and error.errno not in FULL):
            raise
        what = str(error) if isinstance(error, OutputError) else error.strerror
        raise KeepError(
            f"{what}; the analysis ends here, and what it has done is kept in {folder}: make room, and run the same "
            f"command again"
        ) from error
