"""A file in one of the original layouts (`ldm_export.families.original`), and the parts of a checkpoint in it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ldm_export.checkpoint.checkpoint import require_total
from ldm_export.checkpoint.other_files import refuse_other_files, refuse_other_models
from ldm_export.checkpoint.stored import StoredTensor, Tensors, listed
from ldm_export.checkpoint.tensors import renamed
from ldm_export.checkpoint.weight_files import named_file, read_weights
from ldm_export.configs.strict import StrictConfig
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families import FAMILIES
from ldm_export.families.family import Family, Part
from ldm_export.families.keymaps import as_matrix
from ldm_export.families.original.layout import Origin, OriginalLayout, OriginalPart, Prediction
from ldm_runtime.checks import shown
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package import safetensors

VELOCITY, ZERO_SNR = "v_pred", "ztsnr"  # keys whose presence alone counts
_SPEC = "modelspec.prediction_type"
_PREDICTIONS: Mapping[str, Prediction] = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
}


@dataclass(frozen=True)
class SingleFile:
    """An opened file, before its parts are read."""

    file: Path
    folder: ModelFolder
    stored: Mapping[str, StoredTensor]  # by key
    metadata: Mapping[str, str]


class PartialFileError(CheckpointError):
    """A file holds some parts of a checkpoint and not all; `opened` is that file."""

    def __init__(self, opened: SingleFile, message: str) -> None:
        super().__init__(message)
        self.opened = opened


class OriginalModel(NamedTuple):
    """A part as a file has it. told: the options of its config that shapes tell. unused: keys that it does without."""

    config: Any
    told: Mapping[str, Any]
    tensors: Tensors
    unused: tuple[str, ...]


def read_single_file(path: Path) -> SingleFile:
    """Read names and shapes of a file's tensors. Raises CheckpointError for files of other kinds, by name."""
    folder, file = named_file(path)
    refuse_other_files(path, folder.file(file.name))
    tensors, metadata = read_weights(folder, file)
    opened = SingleFile(file, folder, {tensor.name: tensor for tensor in tensors}, metadata)
    refuse_other_models(file, opened.stored)
    return opened


def layouts_of(keys: Mapping[str, StoredTensor]) -> list[tuple[Family, OriginalLayout]]:
    """Return the kinds of checkpoints that the keys are of: those with a text encoder of theirs."""
    kinds = [(family, layout) for family in FAMILIES.values() for layout in family.originals]
    return [(family, layout) for family, layout in kinds if layout.recognises(keys)]


def find_part(layouts: tuple[OriginalLayout, ...], name: str, opened: SingleFile) -> OriginalPart | None:
    """Return how the file has a part in the first of the layouts that knows its keys; None: in none."""
    parts = [layout.parts[name] for layout in layouts if name in layout.parts]
    return next((part for part in parts if part.prefix_in(opened.stored) is not None), None)


def parts_in(opened: SingleFile) -> tuple[str, ...]:
    """Return the names of the parts that keys of the file are of, in an original layout or in diffusers' names."""
    found: dict[str, None] = {}
    for family in FAMILIES.values():
        for name, part in family.parts.items():
            is_original = find_part(family.originals, name, opened) is not None
            if is_original or any(re.match(part.begins, key) for key in opened.stored):
                found[name] = None
    return tuple(found)


def models_in(opened: SingleFile) -> dict[str, tuple[tuple[str, ...], OriginalModel]]:
    """Return part -> the families that it is of by its shapes, and the part as the file has it.

    Only what is in an original layout is looked at. Raises what `read_part` does for a part that is of no family.
    """
    found: dict[str, tuple[tuple[str, ...], OriginalModel]] = {}
    faults: dict[str, CheckpointError | ConfigError] = {}
    for family in FAMILIES.values():
        for name, part in family.parts.items():
            original = find_part(family.originals, name, opened)
            if original is None:
                continue
            try:
                model = read_part(opened, original, part, name)
                with torch.device("meta"):
                    empty = part.make(model.config)
                require_total(empty, model.tensors, f"the weights of {name} in {opened.file}")
            except (CheckpointError, ConfigError) as error:
                faults.setdefault(name, error)
                continue
            names = (*found[name][0], family.name) if name in found else (family.name,)
            found[name] = names, model
    for name in faults.keys() - found.keys():
        raise faults[name]
    return found


def option_of(name: str) -> str:
    """Return the option of `build` that takes a part from elsewhere."""
    return f"--{name.replace('_', '-')}"


def said_prediction(opened: SingleFile) -> Prediction | None:
    """Return what the file says that its model predicts. Raises ConfigError for a prediction that is not supported."""
    spec = opened.metadata.get(_SPEC)
    if spec is not None and spec.lower() not in _PREDICTIONS:
        raise ConfigError(f"{opened.file} has {_SPEC} = {shown(spec)}; supported are {', '.join(_PREDICTIONS)}")
    if VELOCITY in opened.stored:
        return "v_prediction"
    return None if spec is None else _PREDICTIONS[spec.lower()]


def read_part(
    opened: SingleFile, original: OriginalPart, part: Part, name: str, own: StrictConfig | None = None
) -> OriginalModel:
    """Return one part of a file that has it, by its shapes and keys.

    own: the config of the part that it replaces, of which it has the options that no shape tells.

    Raises:
        CheckpointError: the keys are not those of the part, all differences listed. ConfigError: a size is absurd.
    """
    prefix = original.prefix_in(opened.stored) or ""
    stored = [tensor for key, tensor in opened.stored.items() if key.startswith(prefix)]
    inside, dropped = renamed(stored, part.rules, opened.file, prefix)
    where = f"the {name} in {opened.file}"
    try:
        values = original.config({key: stored.shape for key, stored in inside.items()})
    except CheckpointError as error:
        raise CheckpointError(f"{opened.file}: {error}") from None
    told = {key: value for key, value in values.items() if key not in original.assumed}
    config = part.config.from_dict({**own.to_dict(), **told} if type(own) is part.config else values, where)
    with torch.device("meta"):
        parameters = part.make(config).state_dict()
    _require_once(opened, original, prefix, parameters, where)
    origins = original.origins(config, parameters)
    used = {origin.key for origin in origins.values()}
    unused = [key for key in inside if key not in used]
    missing = [name for name in parameters if name not in origins or origins[name].key not in inside]
    extra = [key for key in unused if re.fullmatch(original.unused(config), key) is None]
    if missing or extra:
        prefixed = [prefix + (origins[name].key if name in origins else name) for name in missing]
        raise CheckpointError(
            f"{where} is not of a known kind: {listed('missing', prefixed)}"
            f"{listed('unexpected', [prefix + key for key in extra])}fetch the file again"
        )
    placed = {name: _placed(inside[origin.key], origin, where) for name, origin in origins.items()}
    tensors = {
        name: replace(stored, shape=as_matrix(part.rules, name, stored.shape)) for name, stored in placed.items()
    }
    return OriginalModel(config, told, tensors, (*dropped, *(prefix + key for key in unused)))


def _require_once(
    opened: SingleFile, original: OriginalPart, prefix: str, parameters: Mapping[str, Any], where: str
) -> None:
    """Raise CheckpointError for a part that lies in the file under other names too."""
    if not prefix:
        return  # all keys of the file are those of the part then, and each must be known
    again = [key for key in opened.stored if key in parameters or re.match(original.bare, key)]
    if again:
        raise CheckpointError(
            f"{where} begins with {prefix!r}, but the file has {listed('of its keys under other names', again)}"
            f"expected it once: fetch the file again"
        )


def _placed(stored: StoredTensor, origin: Origin, where: str) -> StoredTensor:
    """Return where a parameter lies in a tensor of the file."""
    if origin.third is not None:
        return _third(stored, origin.third, where)
    if origin.turned:
        if stored.transpose is not None or len(stored.shape) != 2:
            raise CheckpointError(f"{where} has {shown(stored.name)} in a form that is not known; fetch the file again")
        return replace(stored, shape=stored.shape[::-1], transpose=(1, 0))
    return stored


def _third(stored: StoredTensor, index: int, where: str) -> StoredTensor:
    rows = stored.shape[0] // 3 if stored.shape else 0
    if stored.transpose is not None or rows * 3 != (stored.shape or (1,))[0]:
        raise CheckpointError(
            f"{where} has {shown(stored.name)} of shape {list(stored.shape)}; expected query, key and value in one"
        )
    part = replace(stored, shape=(rows, *stored.shape[1:]))
    return replace(part, offset=stored.offset + index * part.count * safetensors.DTYPES[stored.dtype].itemsize)
