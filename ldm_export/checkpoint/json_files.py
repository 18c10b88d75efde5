"""The JSON files of a model's folder: read strictly, written the same way everywhere."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldm_export.errors import CheckpointError
from ldm_runtime.errors import FormatError, refused_as
from ldm_runtime.files import strict_json
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package import safetensors

MAX_CONFIG_BYTES = 2**20  # published ones have a few thousand
MAX_JSON_BYTES = 2**24  # an index or a tokenizer; CLIP's has 4 million


# Raises the FormatError of a checkpoint's file as a CheckpointError.
refused = functools.partial(refused_as, CheckpointError, "fetch or make the checkpoint again")


def checkpoint_folder(path: Path) -> ModelFolder:
    """Return the folder of a checkpoint, or a part of one, whose files are read by `ldm_runtime.files.links`."""
    return ModelFolder(path, "checkpoint", CheckpointError)


def read_object(
    path: Path, *, infinity: bool = False, folder: ModelFolder | None = None, limit: int = MAX_JSON_BYTES
) -> dict[str, Any]:
    """Read a JSON file that holds an object; `infinity`: it may have Infinity, as diffusers' scheduler configs do.

    folder: the model's, None for the one that the file is in. limit: bytes.
    Raises CheckpointError where it is missing, too large or a link to elsewhere, FormatError if it is not an object.
    """
    folder = checkpoint_folder(path.parent) if folder is None else folder
    data = folder.read(path.relative_to(folder.path).as_posix(), limit)
    safetensors.refuse_lfs_stub(data, path)
    value = strict_json.parse(strict_json.decode(data, str(path)), str(path), infinity=infinity)
    if not isinstance(value, dict):
        raise FormatError(str(path), f"is not a JSON object but {type(value).__name__}", "json.type")
    return value


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a config as diffusers and transformers do: indented, keys in order."""
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
