"""Parts of a checkpoint that are taken from elsewhere: another autoencoder, a distilled UNet."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ldm_export.checkpoint.checkpoint import Checkpoint, defaults_of, notes_on, unused_notes
from ldm_export.checkpoint.json_files import MAX_CONFIG_BYTES, checkpoint_folder, read_object, refused
from ldm_export.checkpoint.original_parts import (
    find_part,
    option_of,
    parts_in,
    read_part,
    read_single_file,
    said_prediction,
)
from ldm_export.checkpoint.stored import Tensors
from ldm_export.checkpoint.tensors import find_tensors, renamed
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families.family import Family, Part
from ldm_export.families.original.layout import OriginalLayout, Prediction
from ldm_runtime.checks import check_path
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package.open import is_package

CONFIG = "config.json"


@dataclass(frozen=True)
class Found:
    """A part that was found elsewhere. prediction: what the file says that its model predicts; None: nothing."""

    folder: ModelFolder
    config: Any
    tensors: Tensors
    notes: tuple[str, ...]  # what of it is not used
    prediction: Prediction | None = None


@refused()
def with_parts(checkpoint: Checkpoint, sources: Mapping[str, Path], variant: str | None = None) -> Checkpoint:
    """Return the checkpoint with parts from elsewhere: part -> the folder of one, of a pipeline, or a file of weights.

    Of a pipeline, or of a whole checkpoint in one file, the part of the same name is taken. A file in an original
    layout says its config as far as its shapes do; the rest, and all of one with the names of diffusers, is the
    checkpoint's own.
    Only headers are read. Raises CheckpointError and ConfigError, as `open_checkpoint`, and for parts that do not fit.
    """
    if not sources:
        return checkpoint
    family = checkpoint.family
    found = {
        name: find_elsewhere(checkpoint.path, family, name, path, variant, checkpoint.configs.get(name))
        for name, path in sources.items()
    }
    configs = {**checkpoint.configs, **{name: each.config for name, each in found.items()}}
    try:
        family.check(configs)
    except ConfigError as error:
        where = " and ".join(str(path) for path in sources.values())
        raise ConfigError(f"{where} in {checkpoint.path}: {error}") from None
    tensors = {**checkpoint.tensors, **{name: each.tensors for name, each in found.items()}}
    changed = taken(replace(checkpoint, configs=configs, tensors=tensors), found)
    changed = replace(changed, notes=(*changed.notes, *notes_on({name: each.tensors for name, each in found.items()})))
    if checkpoint.hashes:  # a package has defaults of its own
        return changed
    file = None if checkpoint.path.is_dir() else checkpoint.path
    zero_negative = checkpoint.defaults.run.zero_negative
    defaults = defaults_of(checkpoint.folder, file, family, configs, checkpoint.sampler, zero_negative)
    return replace(changed, defaults=defaults)


def taken(checkpoint: Checkpoint, found: Mapping[str, Found]) -> Checkpoint:
    """Return the checkpoint with a record of the parts in it that are from elsewhere.

    Raises ConfigError for a denoiser that says that it predicts what the scheduler does not expect.
    """
    denoiser = checkpoint.family.roles(checkpoint.configs).denoiser.component
    said = found[part].prediction if (part := checkpoint.specs[denoiser].part) in found else None
    expected = checkpoint.schedule.prediction_type
    if said not in (None, expected):
        raise ConfigError(
            f"{found[part].folder.path} has a {part} that says that it predicts {said}, but {checkpoint.path} is "
            f"sampled as one that predicts {expected}; take another checkpoint beside it, or for a file --prediction"
        )
    return replace(
        checkpoint,
        notes=(*checkpoint.notes, *(note for each in found.values() for note in each.notes)),
        replaced={**checkpoint.replaced, **{name: each.folder for name, each in found.items()}},
    )


def find_elsewhere(
    base: Path,
    family: Family,
    name: str,
    path: Path,
    variant: str | None = None,
    own: Any = None,
    layouts: tuple[OriginalLayout, ...] | None = None,
) -> Found:
    """Find a part in a folder or file. own: the config of the part of `base` that it replaces; None: there is none.

    layouts: the original ones that it may be of; None: all of the family's.
    """
    path = check_path(name, path)
    part = family.parts.get(name)
    if part is None:
        raise CheckpointError(f"{base} has no {name} that {path} could replace; it has {', '.join(family.parts)}")
    if path.is_dir():
        return _in_folder(name, part, path, variant)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; expected the folder or the file of a {name}")
    return _in_file(base, family, name, path, own, family.originals if layouts is None else layouts)


def _in_file(base: Path, family: Family, name: str, path: Path, own: Any, layouts: tuple[OriginalLayout, ...]) -> Found:
    opened = read_single_file(path)
    part = family.parts[name]
    original = find_part(layouts, name, opened)
    if original is not None:
        model = read_part(opened, original, part, name, own)
        notes = unused_notes(opened.folder.path, {}, {name: model.unused})
        return Found(opened.folder, model.config, model.tensors, notes, said_prediction(opened))
    others = parts_in(opened)
    if others and name not in others:
        options = " or ".join(map(option_of, others))
        raise CheckpointError(f"{path} holds no {name} but a {' or a '.join(others)}; give it by {options}")
    if own is None:
        raise CheckpointError(
            f"{path} has weights without a config.json, and {base} has no {name} whose config they could have; give "
            f"the folder of a {name}, or a file in the original layout"
        )
    tensors, left_out = renamed(list(opened.stored.values()), part.rules, opened.file)
    return Found(opened.folder, own, tensors, unused_notes(opened.folder.path, {}, {name: left_out}))


def _in_folder(name: str, part: Part, path: Path, variant: str | None) -> Found:
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
    return Found(folder, config, tensors, unused_notes(folder.path, ignored, {name: left_out}))
