"""Models as the folder of a diffusers pipeline, which `open_checkpoint` and diffusers open."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ldm_export.checkpoint.json_files import MAX_JSON_BYTES, checkpoint_folder, write_json
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.scheduler import write_scheduler_config
from ldm_export.checkpoint.tensors import write_tensors
from ldm_export.checkpoint.tokenizer import MAX_FILES as MAX_TOKENIZER_FILES
from ldm_export.errors import CheckpointError
from ldm_export.families.family import Family
from ldm_export.families.stable_diffusion import STABLE_DIFFUSION
from ldm_runtime.errors import LdmError
from ldm_runtime.files.atomic import atomic_folder
from ldm_runtime.files.replacing import refuse_foreign
from ldm_runtime.sampling.schedule import Schedule
from ldm_runtime.sampling.solvers import read_sampler

# Files that `save_checkpoint` and the trainer write besides the folders of parts and tokenizers.
_FILES = re.compile(
    r"(model_index|defaults)\.json|README\.md|SHA256SUMS|prompts\.txt|recipe\.(toml|sha256)|scheduler/scheduler_config\.json"
)
_TOKENIZER_FILES = re.compile(r"(vocab|tokenizer|tokenizer_config|special_tokens_map|added_tokens)\.json|merges\.txt")


def save_checkpoint(
    path: Path | str,
    models: Mapping[str, nn.Module],
    *,
    schedule: Schedule,
    tokenizer_folder: Path,
    dtype: torch.dtype | None = None,
    force: bool = False,
    family: Family = STABLE_DIFFUSION,
) -> None:
    """Write a folder that `open_checkpoint` and diffusers' pipeline open; whole or not at all.

    models: one for each part of the family. tokenizer_folder: becomes each of the
    family's tokenizers. The weights are rounded to `dtype`; None leaves them as they are. With `force` a complete
    checkpoint of this form that holds nothing else is replaced.
    Raises LdmError where `path` exists and may not be replaced or cannot be written, ConfigError where the models do
    not belong together, CheckpointError where the tokenizer is missing or a finite weight would become infinite.
    """
    if not tokenizer_folder.is_dir():
        raise CheckpointError(f"{tokenizer_folder} is not a folder; expected that of the tokenizer")
    assert models.keys() == family.parts.keys()
    configs: dict[str, Any] = {name: model.config for name, model in models.items()}
    family.check(configs)
    scheduler = write_scheduler_config(schedule, read_sampler("ddim"))
    replace = (lambda folder: _require_saved(folder, family)) if force else None
    with atomic_folder(Path(path), replace=replace) as folder:
        for name, model in models.items():
            (folder / name).mkdir()
            write_json(folder / name / "config.json", configs[name].to_dict())
            try:
                write_tensors(folder / name / f"{family.parts[name].stem}.safetensors", model, dtype)
            except CheckpointError as error:
                raise CheckpointError(f"cannot save the {name}: {error}") from None
        (folder / "scheduler").mkdir()
        write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
        for name in family.tokenizers:
            _copy_tokenizer(tokenizer_folder, folder / name)
        write_json(folder / "model_index.json", family.index_of(configs, scheduler["_class_name"]))


def _copy_tokenizer(source: Path, out: Path) -> None:
    out.mkdir()
    tokenizer = checkpoint_folder(source)
    for name in tokenizer.names(most=MAX_TOKENIZER_FILES):
        (out / name).write_bytes(tokenizer.read(name, MAX_JSON_BYTES))


def _require_saved(folder: Path, family: Family) -> None:
    """Raise LdmError unless a folder is a complete checkpoint as `save_checkpoint` writes it, and nothing else."""
    try:
        open_checkpoint(folder).check()
    except LdmError as error:
        reason = str(error).partition(";")[0]
        raise CheckpointError(
            f"{folder} is not replaced, for it is not a complete checkpoint: {reason}; choose another output"
        ) from error
    refuse_foreign(folder, lambda name: _is_saved(name, family), "the checkpoint")


def _is_saved(name: str, family: Family) -> bool:
    folder, _, file = name.rpartition("/")
    if folder in family.parts:
        return file in ("config.json", f"{family.parts[folder].stem}.safetensors")
    if folder in family.tokenizers:
        return _TOKENIZER_FILES.fullmatch(file) is not None
    return _FILES.fullmatch(name) is not None
