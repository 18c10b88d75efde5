"""Parts of a checkpoint that are taken from elsewhere: another autoencoder, a distilled UNet."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ldm_export.checkpoint.checkpoint import Checkpoint, defaults_of, notes_on, unused_notes
from ldm_export.checkpoint.json_files import MAX_CONFIG_BYTES, checkpoint_folder, read_object, refused
from ldm_export.checkpoint.stored import Tensors
from ldm_export.checkpoint.tensors import file_tensors, find_tensors
from ldm_export.checkpoint.weight_files import named_file
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families.family import Part
from ldm_runtime.checks import check_path
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package.open import is_package

CONFIG = "config.json"
ENDINGS = (".safetensors", ".bin")


@dataclass(frozen=True)
class _Found:
    """A part that was found elsewhere. config: None where the file has weights alone."""

    folder: ModelFolder
    config: Any
    tensors: Tensors
    notes: tuple[str, ...]  # what of it is not used


@refused()
def with_parts(checkpoint: Checkpoint, sources: Mapping[str, Path], variant: str | None = None) -> Checkpoint:
    """Return the checkpoint with parts from elsewhere: part -> the folder of one, of a pipeline, or a file of weights.

    Of a pipeline the part of the same name is taken. A file has the names of diffusers, and the checkpoint's config.
    Only headers are read. Raises CheckpointError and ConfigError, as `open_checkpoint`, and for parts that do not fit.
    """
    if not sources:
        return checkpoint
    found = {name: _find(checkpoint, name, path, variant) for name, path in sources.items()}
    configs = {**checkpoint.configs, **{name: each.config for name, each in found.items() if each.config is not None}}
    changed = replace(
        checkpoint,
        configs=configs,
        tensors={**checkpoint.tensors, **{name: each.tensors for name, each in found.items()}},
        notes=(
            *checkpoint.notes,
            *(note for each in found.values() for note in each.notes),
            *notes_on({name: each.tensors for name, each in found.items()}),
        ),
        replaced={**checkpoint.replaced, **{name: each.folder for name, each in found.items()}},
    )
    try:
        checkpoint.family.check(configs)
    except ConfigError as error:
        where = " and ".join(str(path) for path in sources.values())
        raise ConfigError(f"{where} in {checkpoint.path}: {error}") from None
    if checkpoint.hashes:  # a package has defaults of its own
        return changed
    file = None if checkpoint.path.is_dir() else checkpoint.path
    zero_negative = checkpoint.defaults.run.zero_negative
    defaults = defaults_of(checkpoint.folder, file, checkpoint.family, configs, checkpoint.sampler, zero_negative)
    return replace(changed, defaults=defaults)


def _find(checkpoint: Checkpoint, name: str, path: Path, variant: str | None) -> _Found:
    path = check_path(name, path)
    part = checkpoint.family.parts.get(name)
    if part is None:
        known = ", ".join(checkpoint.family.parts)
        raise CheckpointError(f"{checkpoint.path} has no {name} that {path} could replace; it has {known}")
    if path.is_dir():
        return _in_folder(name, part, path, variant)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; expected the folder or the file of a {name}")
    if path.suffix not in ENDINGS:
        raise CheckpointError(f"{path} is no {' or '.join(ENDINGS)} file; expected one, or the folder of a {name}")
    folder, file = named_file(path)
    tensors, left_out = file_tensors(folder, file, part.rules)
    return _Found(folder, None, tensors, unused_notes(folder.path, {}, {name: left_out}))


def _in_folder(name: str, part: Part, path: Path, variant: str | None) -> _Found:
    if is_package(path):
        raise CheckpointError(f"{path} is a package; expected the folder of a {name}, or of a diffusers pipeline")
    inner = "." if (path / CONFIG).exists() else name
    place = path / inner
    if not (place / CONFIG).exists():
        raise CheckpointError(f"{path} is no folder of a {name}: it has neither {CONFIG} nor {name}/{CONFIG}")
    folder = checkpoint_folder(path)
    raw = part.as_run(read_object(place / CONFIG, folder=folder, limit=MAX_CONFIG_BYTES))
    config = part.read_config(raw, str(place / CONFIG))
    tensors, _, left_out = find_tensors(folder, inner, part.stem, part.rules, variant)
    ignored = {place / CONFIG: type(config).unknown(raw)}
    return _Found(folder, config, tensors, unused_notes(folder.path, ignored, {name: left_out}))
