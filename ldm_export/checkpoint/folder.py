"""The folder of a diffusers pipeline as a checkpoint; checked against diffusers 0.39."""

from collections.abc import Mapping
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
from ldm_export.families.family import Family
from ldm_runtime.checks import shown
from ldm_runtime.files.links import ModelFolder


def open_folder(folder: ModelFolder, variant: str | None) -> Checkpoint:
    """Open a diffusers folder. Raises as `open_checkpoint`."""
    index_file = folder.path / "model_index.json"
    index = read_object(index_file, folder=folder, limit=MAX_CONFIG_BYTES)
    pipeline = read_pipeline_class(index, index_file)
    family = pipeline.family
    configs, ignored = read_configs(folder, family, {part: part for part in family.parts})
    scheduler_file = folder.path / "scheduler" / "scheduler_config.json"
    scheduler_config = read_object(scheduler_file, infinity=True, folder=folder, limit=MAX_CONFIG_BYTES)
    said = [] if pipeline.said is None else [pipeline.said]
    named, own = index["scheduler"][-1], scheduler_config.get("_class_name")
    if isinstance(named, str) and named != own:
        said.append(
            f"the scheduler is the {short(named)} that model_index.json names, as in diffusers, not {shown(own)}"
        )
        scheduler_config["_class_name"] = named
    run_as = family.pipeline_of(configs) if pipeline.name is None else pipeline.name
    scheduler_config = scheduler_as_run(scheduler_config, family.pipelines[run_as])
    found = {name: find_tensors(folder, name, part.stem, part.rules, variant) for name, part in family.parts.items()}
    if variant is not None and not any(is_variant for _, is_variant, _ in found.values()):
        raise CheckpointError(
            f"{folder.path} has no weights of the variant {shown(variant)}, in none of {', '.join(found)}; leave the "
            f"variant out, or name one that it has"
        )
    try:
        schedule, sampler = read_scheduler_config(scheduler_config)
    except ConfigError as error:
        raise ConfigError(f"{scheduler_file}: {error}", code=error.code) from None
    documents = [name for name in folder.names(most=MAX_FILES) if name.lower().startswith(DOCUMENTS)]
    sampling = schedule, sampler_as_called(sampler, family.calls.get(run_as, {}))
    ignored[scheduler_file] = ignored_options(scheduler_config)
    left_out = {name: names for name, (_, _, names) in found.items()}
    tensors = {name: tensors for name, (tensors, _, _) in found.items()}
    return assemble(
        folder,
        family,
        configs,
        sampling,
        scheduler_config,
        pipeline.dropped,
        tensors,
        documents,
        notes=(*said, *unused_notes(folder.path, ignored, left_out), *notes_on(tensors)),
        zero_negative=_zero_negative(family, index, index_file),
    )


def _zero_negative(family: Family, index: Mapping[str, Any], file: Path) -> bool:
    """Return the value of the family's `zeros_key` in model_index.json."""
    zeros = False if family.zeros_key is None else index.get(family.zeros_key, True)
    if not isinstance(zeros, bool):
        raise ConfigError(f"{file} has {family.zeros_key} = {shown(zeros)}; expected true or false")
    return zeros
