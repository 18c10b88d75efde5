"""What is kept of an analysis, so that an interrupted one goes on: by which key, and that there is room for it."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from ldm_export.analyze.perceptual_pairs import WEIGHTS
from ldm_export.analyze.pictures import Pictures
from ldm_export.analyze.report_folder import WORK
from ldm_runtime.errors import OutputError
from ldm_runtime.files.atomic import make_folder
from ldm_runtime.files.trouble import refused

KEY_LETTERS = 16
DIGEST_BYTES = 32  # of the SHA-256 after an array, which numpy does not read
_READ_BYTES = 2**20
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


def is_kept_file(path: Path) -> bool:
    """Return whether a file of its own has that name. A link, which may lead anywhere, and a folder were not kept."""
    return path.is_file() and not path.is_symlink()


def make_way(path: Path) -> None:
    """Remove what is in the place of a kept file and none; of a link, the link alone. Raises OutputError."""
    if not os.path.lexists(path) or is_kept_file(path):
        return
    with refused(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def write_array(array: np.ndarray, file: BinaryIO) -> None:
    """Write an array as .npy and the SHA-256 of that after it. file: new, and open for reading too."""
    np.save(file, array, allow_pickle=False)
    file.write(_digest_of(file, file.tell()))


def read_array(path: Path) -> np.ndarray | None:
    """Return a kept array; None if there is none, or it is damaged: it is not what was written, to the last byte."""
    if not is_kept_file(path):
        return None
    with contextlib.suppress(OSError), open(path, "rb") as file:  # what cannot be read is as good as damaged
        length = max(0, file.seek(0, 2) - DIGEST_BYTES)
        if _digest_of(file, length) == file.read():
            file.seek(0)
            return np.asarray(np.load(file, allow_pickle=False))
    return None


def _digest_of(file: BinaryIO, length: int) -> bytes:
    """Return the SHA-256 of the first bytes of a file, and leave it at their end."""
    file.seek(0)
    digest = hashlib.sha256()
    for start in range(0, length, _READ_BYTES):
        digest.update(file.read(min(_READ_BYTES, length - start)))
    return digest.digest()


def sealed(facts: dict[str, Any]) -> dict[str, Any]:
    """Return values for JSON with the SHA-256 of them all."""
    return {**facts, "sha256": hashlib.sha256(json.dumps(facts).encode()).hexdigest()}


def unsealed(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what was sealed. Raises ValueError for anything else, TypeError or KeyError if it is no such object."""
    bare = {name: value for name, value in facts.items() if name != "sha256"}
    if facts["sha256"] != sealed(bare)["sha256"]:
        raise ValueError("it is not what was written")
    return bare


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
    if (out / WORK).is_symlink():
        return  # a place that others may keep something in
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
        trouble = error.__cause__ if isinstance(error, OutputError) else error
        is_full = isinstance(trouble, OSError) and trouble.errno in FULL
        raise KeepError(
            f"{what}; the analysis ends here, and what it has done is kept in {folder}: "
            f"{'make room, and run' if is_full else 'without that trouble, run'} the same command again"
        ) from error
