"""The folder of a diffusers pipeline as a checkpoint; checked against diffusers 0.39."""

from collections.abc import Mapping
from pathlib import Path

from ldm_export.checkpoint.checkpoint import DOCUMENTS, MAX_FILES, Checkpoint, assemble, read_configs
from ldm_export.checkpoint.json_files import MAX_CONFIG_BYTES, read_object
from ldm_export.checkpoint.pipeline_changes import scheduler_as_run
from ldm_export.checkpoint.scheduler import ignored_options, read_scheduler_config
from ldm_export.checkpoint.tensors import find_tensors, listed
from ldm_export.configs.inert import short
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families import FAMILIES
from ldm_export.families.family import Family
from ldm_runtime.files.links import ModelFolder


def open_folder(folder: ModelFolder, variant: str | None) -> Checkpoint:
    """Open a diffusers folder. Raises as `open_checkpoint`."""
    family, pipeline_class, dropped = _read_model_index(folder)
    configs, ignored = read_configs(folder, family, {part: part for part in family.parts})
    scheduler_file = folder.path / "scheduler" / "scheduler_config.json"
    scheduler_config = read_object(scheduler_file, infinity=True, folder=folder, limit=MAX_CONFIG_BYTES)
    scheduler_config = scheduler_as_run(scheduler_config, family.pipelines[pipeline_class])
    found = {name: find_tensors(folder, name, part.stem, part.rules, variant) for name, part in family.parts.items()}
    try:
        sampling = read_scheduler_config(scheduler_config)
    except ConfigError as error:
        raise ConfigError(f"{scheduler_file}: {error}", code=error.code) from None
    documents = [name for name in folder.names(most=MAX_FILES) if name.lower().startswith(DOCUMENTS)]
    ignored[scheduler_file] = ignored_options(scheduler_config)
    notes = _notes(folder, ignored, {name: dropped for name, (_, dropped) in found.items()})
    tensors = {name: tensors for name, (tensors, _) in found.items()}
    return assemble(folder, family, configs, sampling, scheduler_config, dropped, tensors, documents, {}, notes=notes)


def _notes(
    folder: ModelFolder, ignored: Mapping[Path, tuple[str, ...]], left_out: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Say what of the folder is not used: `ignored` keys of configs, tensors `left_out` of parts."""
    keys = [
        f"{file.relative_to(folder.path)} has {', '.join(map(short, keys))}, which diffusers ignores too"
        for file, keys in ignored.items()
        if keys
    ]
    tensors = [
        f"{listed(f'tensors of {part} are not of its model', map(short, names))}diffusers leaves them out too"
        for part, names in left_out.items()
        if names
    ]
    return (*keys, *tensors)


def _read_model_index(folder: ModelFolder) -> tuple[Family, str, tuple[str, ...]]:
    """Return the family, the pipeline's class, and the entries that are not used here."""
    file = folder.path / "model_index.json"
    index = read_object(file, folder=folder, limit=MAX_CONFIG_BYTES)
    name = index.get("_class_name")
    family = next((each for each in FAMILIES.values() if name in each.pipelines), None)
    if family is None:
        known = [repr(pipeline) for each in FAMILIES.values() for pipeline in each.pipelines]
        raise ConfigError(f"{file} is for a {name!r}; supported are {', '.join(known[:-1])} and {known[-1]}")
    # A model is a pair [library, class], both null where the pipeline does without it.
    entries = {name for name, value in index.items() if isinstance(value, list) and any(value)}
    needed = set(family.folders)
    if not needed <= entries:
        raise CheckpointError(f"{file} has no {', '.join(sorted(needed - entries))}; the model is not complete")
    return family, str(name), tuple(sorted(entries - needed))
