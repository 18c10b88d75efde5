"""Opening a checkpoint on disk, light: a diffusers folder, a single file, or a package of this project."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.folder import open_folder
from ldm_export.checkpoint.json_files import checkpoint_folder, refused
from ldm_export.checkpoint.other_files import refuse_other_folder, refuse_prediction
from ldm_export.checkpoint.package import open_package_checkpoint
from ldm_export.checkpoint.replaced import with_parts
from ldm_export.checkpoint.single_file import open_single_file
from ldm_export.errors import CheckpointError
from ldm_export.families.original.layout import Prediction
from ldm_runtime.checks import check_path, shown
from ldm_runtime.package.open import Check, is_package


def open_checkpoint(
    path: Path | str,
    variant: str | None = None,
    *,
    parts: Mapping[str, Path] | None = None,
    check: Check = "cached",
    prediction: Prediction | None = None,
    zero_snr: bool = False,
) -> Checkpoint:
    """Read configs, schedule and the headers of all weight files; `variant` as in diffusers, such as "fp16".

    parts: parts from elsewhere, as in `with_parts`, in place of the checkpoint's own or of what a single file lacks.
    check: how the files of a package are compared with its hashes, as in `open_package`; a diffusers folder has none.
    prediction, zero_snr: what the model of a single file predicts, and that its schedule ends in pure noise, where the
    file does not say so.

    Raises:
        CheckpointError: no model, or files missing, truncated, Git-LFS stubs, links to elsewhere, pickles with code.
        PackageError: a package whose manifest is not valid, or of which a file is not what the manifest says.
        ConfigError: another kind of pipeline, or an option that is not supported: named with its value.
    """
    path = Path(path)
    try:
        checkpoint = _open(path, variant, parts or {}, check, prediction, zero_snr)
        others = {name: place for name, place in (parts or {}).items() if name not in checkpoint.replaced}
        return with_parts(checkpoint, others, variant)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; expected a model's folder") from error


@refused()
def _open(
    path: Path,
    variant: str | None,
    parts: Mapping[str, Path],
    check: Check,
    prediction: Prediction | None,
    zero_snr: bool,
) -> Checkpoint:
    path = check_path("path", path)
    if prediction is not None and prediction not in get_args(Prediction):
        raise CheckpointError(f"prediction is {shown(prediction)}; expected {' or '.join(get_args(Prediction))}")
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; expected the folder of a diffusers pipeline, or a file")
    if not path.is_dir():
        if variant is not None:
            raise CheckpointError(f"{path} is a file, which has no variant {variant!r}; leave it out")
        return open_single_file(path, prediction, zero_snr, parts)
    if prediction is not None or zero_snr:
        refuse_prediction(path)
    if is_package(path):
        if variant is not None:
            raise CheckpointError(f"{path} is a package, which has no variant {variant!r}; leave it out")
        return open_package_checkpoint(path, check)
    if os.path.lexists(path / "model_index.json"):
        return open_folder(checkpoint_folder(path), variant)
    refuse_other_folder(path)
