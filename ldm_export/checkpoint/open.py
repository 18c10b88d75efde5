"""Opening a checkpoint on disk, light: the folder of a diffusers pipeline, or a package of this project."""

import os
from pathlib import Path

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.folder import open_folder
from ldm_export.checkpoint.json_files import checkpoint_folder, refused
from ldm_export.checkpoint.package import open_package_checkpoint
from ldm_export.errors import CheckpointError
from ldm_runtime.checks import check_path
from ldm_runtime.package.open import Check, is_package


def open_checkpoint(path: Path | str, variant: str | None = None, *, check: Check = "cached") -> Checkpoint:
    """Read configs, schedule and the headers of all weight files; `variant` as in diffusers, such as "fp16".

    check: how the files of a package are compared with its hashes, as in `open_package`; a diffusers folder has none.

    Raises:
        CheckpointError: not a model's folder, or files missing, truncated, pickled, Git-LFS stubs, links to elsewhere.
        PackageError: a package whose manifest is not valid, or of which a file is not what the manifest says.
        ConfigError: another kind of pipeline, or an option that is not supported: named with its value.
    """
    path = Path(path)
    try:
        return _open(path, variant, check)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; expected a model's folder") from error


@refused()
def _open(path: Path, variant: str | None, check: Check) -> Checkpoint:
    path = check_path("path", path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; expected the folder of a diffusers pipeline")
    if not path.is_dir():
        raise CheckpointError(
            f"{path} is a file; expected the folder of a diffusers pipeline: convert a single-file checkpoint with "
            f"diffusers' StableDiffusionPipeline.from_single_file and save_pretrained, and give that folder"
        )
    if is_package(path):
        if variant is not None:
            raise CheckpointError(f"{path} is a package, which has no variant {variant!r}; leave it out")
        return open_package_checkpoint(path, check)
    if os.path.lexists(path / "model_index.json"):
        return open_folder(checkpoint_folder(path), variant)
    raise CheckpointError(f"{path} is not a model's folder: it has neither model_index.json nor manifest.json")
