"""The folder of a diffusers pipeline as a checkpoint; checked against diffusers 0.39."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm_export.checkpoint.checkpoint import (
    DOCUMENTS,
    MAX_FILES,
    Checkpoint,
    assemble,
    notes_on,
    read_configs,
    unused_notes,
)
from ldm_export.checkpoint.json_files import MAX_CONFIG_BYTES, read_object
from ldm_export.checkpoint.pipeline_changes import sampler_as_called, scheduler_as_run
from ldm_export.checkpoint.pipeline_class import read_pipeline_class
from ldm_export.checkpoint.scheduler import ignored_options, read_scheduler_config
from ldm_export.checkpoint.tensors import find_tensors
from ldm_export.configs.inert import short
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families.family import Configs, Family
from ldm_runtime.checks import shown
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.sampling.schedule import Schedule
from ldm_runtime.sampling.solvers import Sampler


@dataclass(frozen=True)
class Outline:
    """What the small files of a diffusers folder say, without its weights."""

    family: Family
    configs: Configs
    sampling: tuple[Schedule, Sampler]
    scheduler_config: dict[str, Any]
    dropped: tuple[str, ...]
    said: tuple[str, ...]
    ignored: Mapping[Path, tuple[str, ...]]  # keys of each file that its class ignores
    zero_negative: bool


def open_folder(folder: ModelFolder, variant: str | None) -> Checkpoint:
    """Open a diffusers folder. Raises as `open_checkpoint`."""
    outline = read_outline(folder)
    parts = outline.family.parts
    found = {name: find_tensors(folder, name, part.stem, part.rules, variant) for name, part in parts.items()}
    if variant is not None and not any(is_variant for _, is_variant, _ in found.values()):
        raise CheckpointError(
            f"{folder.path} has no weights of the variant {shown(variant)}, in none of {', '.join(found)}; leave the "
            f"variant out, or name one that it has"
        )
    documents = [name for name in folder.names(most=MAX_FILES) if name.lower().startswith(DOCUMENTS)]
    left_out = {name: names for name, (_, _, names) in found.items()}
    tensors = {name: tensors for name, (tensors, _, _) in found.items()}
    return assemble(
        folder,
        outline.family,
        outline.configs,
        outline.sampling,
        outline.scheduler_config,
        outline.dropped,
        tensors,
        documents,
        notes=(*outline.said, *unused_notes(folder.path, outline.ignored, left_out), *notes_on(tensors)),
        zero_negative=outline.zero_negative,
    )


def read_outline(folder: ModelFolder) -> Outline:
    """Read the small files of a diffusers folder. Raises as `open_checkpoint`, but for weights and tokenizers."""
    index_file = folder.path / "model_index.json"
    index = read_object(index_file, folder=folder, limit=MAX_CONFIG_BYTES)
    pipeline = read_pipeline_class(index, index_file)
    family = pipeline.family
    configs, ignored = read_configs(folder, family, {part: part for part in family.parts})
    run_as = family.pipeline_of(configs) if pipeline.name is None else pipeline.name
    scheduler_file = folder.path / "scheduler" / "scheduler_config.json"
    scheduler_config, said = _scheduler_config(folder, scheduler_file, index["scheduler"][-1])
    scheduler_config = scheduler_as_run(scheduler_config, family.pipelines[run_as])
    try:
        schedule, sampler = read_scheduler_config(scheduler_config)
    except ConfigError as error:
        raise ConfigError(f"{scheduler_file}: {error}", code=error.code) from None
    return Outline(
        family,
        configs,
        (schedule, sampler_as_called(sampler, family.calls.get(run_as, {}))),
        scheduler_config,
        pipeline.dropped,
        said if pipeline.said is None else (pipeline.said, *said),
        {**ignored, scheduler_file: ignored_options(scheduler_config)},
        _zero_negative(family, index, index_file),
    )


def _scheduler_config(folder: ModelFolder, file: Path, named: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read the scheduler's config as one of the class that is `named`, and say so if it has another."""
    config = read_object(file, infinity=True, folder=folder, limit=MAX_CONFIG_BYTES)
    own = config.get("_class_name")
    if not isinstance(named, str) or named == own:
        return config, ()
    said = f"the scheduler is the {short(named)} that model_index.json names, as in diffusers, not {shown(own)}"
    return {**config, "_class_name": named}, (said,)


def _zero_negative(family: Family, index: Mapping[str, Any], file: Path) -> bool:
    """Return the value of the family's `zeros_key` in model_index.json."""
    zeros = False if family.zeros_key is None else index.get(family.zeros_key, True)
    if not isinstance(zeros, bool):
        raise ConfigError(f"{file} has {family.zeros_key} = {shown(zeros)}; expected true or false")
    return zeros
