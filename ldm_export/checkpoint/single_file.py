"""A single-file checkpoint in one of the original layouts (`ldm_export.families.original`), safetensors or `.ckpt`.

The file says neither its kind nor its configs: both follow from names and shapes. What it lacks comes from elsewhere:
CLIP's vocabulary is carried here, the scheduler is the one that such models were published with, and what the model
predicts is said by the file (marker keys, or modelspec metadata) or asked for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ldm_export.checkpoint.checkpoint import Checkpoint, assemble, notes_on
from ldm_export.checkpoint.clip_vocabulary import ClipVocabulary
from ldm_export.checkpoint.other_files import refuse_other_files, refuse_other_models
from ldm_export.checkpoint.pipeline_changes import scheduler_as_run
from ldm_export.checkpoint.scheduler import read_scheduler_config
from ldm_export.checkpoint.stored import StoredTensor, Tensors, listed
from ldm_export.checkpoint.tensors import renamed
from ldm_export.checkpoint.weight_files import named_file, stored_in
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families import FAMILIES
from ldm_export.families.family import Family, Part
from ldm_export.families.keymaps import as_matrix
from ldm_export.families.original.layout import Origin, OriginalLayout, OriginalPart, Prediction
from ldm_runtime.checks import shown
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package import safetensors

# Tensors that belong to no part and say nothing that is not known: the schedule's own numbers, and counters.
_BUFFERS = re.compile(
    r"betas|alphas_cumprod|alphas_cumprod_prev|(?:sqrt|log|posterior)_\w+|logvar|denoiser\.(?:log_)?sigmas|scale_factor"
)
_EMA = "model_ema."  # averaged weights beside the model's own, which are the ones that diffusers reads
_VELOCITY, _ZERO_SNR = "v_pred", "ztsnr"  # keys whose presence alone counts
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


def open_single_file(path: Path, prediction: Prediction | None, zero_snr: bool) -> Checkpoint:
    """Open a single-file checkpoint; `prediction` and `zero_snr` are what it may leave open."""
    opened = read_single_file(path)
    family, layout = _kind(opened)
    configs, tensors = {}, {}
    for name in layout.parts:
        configs[name], tensors[name] = read_part(opened, family, layout, name)
    predicts = _prediction(opened, layout, prediction)
    configs = _with_sizes(configs, layout.sizes[predicts])
    try:
        family.check(configs)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    scheduler_config = _scheduler(layout, predicts, zero_snr or _ZERO_SNR in opened.stored)
    scheduler_config = scheduler_as_run(scheduler_config, family.pipelines[family.pipeline_of(configs)])
    return assemble(
        opened.folder,
        family,
        configs,
        read_scheduler_config(scheduler_config),
        scheduler_config,
        (),
        tensors,
        [],
        notes=(*notes_on(tensors), *_left_out(opened, layout, configs, tensors)),
        path=opened.file,
        tokenizers={name: ClipVocabulary(pad) for name, pad in layout.pads.items()},
        layout=layout.name,
        zero_negative=family.zeros_key is not None,  # what their classes do where nothing is said
    )


def read_single_file(path: Path) -> SingleFile:
    """Read names and shapes of a file's tensors. Raises CheckpointError for files of other kinds, by name."""
    refuse_other_files(path)
    folder, path = named_file(path)
    tensors = stored_in(folder, path)
    metadata = safetensors.read_header(folder.file(path.name)).metadata if path.suffix == ".safetensors" else {}
    opened = SingleFile(path, folder, {tensor.name: tensor for tensor in tensors}, metadata)
    refuse_other_models(path, opened.stored)
    return opened


def _kind(opened: SingleFile) -> tuple[Family, OriginalLayout]:
    """Return the family and the layout that the keys are of. Raises CheckpointError for none, or for two at once."""
    found = [
        (family, layout)
        for family in FAMILIES.values()
        for layout in family.originals
        if layout.recognises(opened.stored)
    ]
    if len(found) > 1:
        names = " and ".join(layout.name for _, layout in found)
        raise CheckpointError(f"{opened.file} has keys of {names}; expected those of one model: fetch the file again")
    if not found:
        raise CheckpointError(f"{opened.file} {_what_else(opened.stored)}")
    family, layout = found[0]
    for name, part in layout.parts.items():
        if not any(key.startswith(part.prefix) for key in opened.stored):
            raise CheckpointError(
                f"{opened.file} is a checkpoint of {layout.name} without its {name} (no key begins with "
                f"{part.prefix!r}); fetch the whole checkpoint"
            )
    return family, layout


def _what_else(keys: Mapping[str, StoredTensor]) -> str:
    """Say what a file is that no layout recognises."""
    if any(key.startswith(("model.diffusion_model.input_blocks.", "input_blocks.")) for key in keys):
        return "holds a UNet without a text encoder; expected a whole checkpoint"
    if any(key.startswith(("first_stage_model.", "encoder.", "decoder.")) for key in keys):
        return "holds an autoencoder alone; expected a whole checkpoint"
    first = next(iter(keys), "none")
    return f"is no checkpoint of a known kind (its first key is {shown(first)}); expected Stable Diffusion or SDXL"


def read_part(opened: SingleFile, family: Family, layout: OriginalLayout, name: str) -> tuple[Any, Tensors]:
    """Return the config and the parameters of one part, of its shapes and keys.

    Raises:
        CheckpointError: the keys are not those of the part, all differences listed. ConfigError: a size is absurd.
    """
    original, part = layout.parts[name], family.parts[name]
    stored = [tensor for key, tensor in opened.stored.items() if key.startswith(original.prefix)]
    inside, _ = renamed(stored, part.rules, opened.file, original.prefix)
    where = f"the {name} in {opened.file}"
    try:
        values = original.config({key: stored.shape for key, stored in inside.items()})
    except CheckpointError as error:
        raise CheckpointError(f"{opened.file}: {error}") from None
    config = part.config.from_dict(values, where)
    return config, _part_tensors(inside, original, part, config, where)


def _part_tensors(
    inside: Mapping[str, StoredTensor], original: OriginalPart, part: Part, config: Any, where: str
) -> Tensors:
    """Return where each parameter of the model that `config` describes lies, if the keys are exactly those of it."""
    with torch.device("meta"):
        parameters = part.model(config).state_dict()
    origins = original.origins(config, parameters)
    missing = [name for name in parameters if name not in origins or origins[name].key not in inside]
    used = {origin.key for origin in origins.values()}
    extra = [key for key in inside if key not in used and re.fullmatch(original.unused(config), key) is None]
    if missing or extra:
        prefixed = [original.prefix + (origins[name].key if name in origins else name) for name in missing]
        raise CheckpointError(
            f"{where} is not of a known kind: {listed('missing', prefixed)}"
            f"{listed('unexpected', [original.prefix + key for key in extra])}fetch the file again"
        )
    tensors = {name: _placed(inside[origin.key], origin, where) for name, origin in origins.items()}
    return {name: replace(stored, shape=as_matrix(part.rules, name, stored.shape)) for name, stored in tensors.items()}


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


def _with_sizes(configs: dict[str, Any], latents: int) -> dict[str, Any]:
    """Add the sizes that the models were trained at, which no weight tells."""
    unet, vae = configs["unet"], configs["vae"]
    sizes = {"unet": replace(unet, sample_size=latents), "vae": replace(vae, sample_size=latents * vae.downsample)}
    return {**configs, **sizes}


def _prediction(opened: SingleFile, layout: OriginalLayout, chosen: Prediction | None) -> Prediction:
    """Return what the model predicts: by the file, or else by the user, or else as all models of the kind."""
    spec = opened.metadata.get(_SPEC)
    if spec is not None and spec.lower() not in _PREDICTIONS:
        raise ConfigError(f"{opened.file} has {_SPEC} = {shown(spec)}; supported are {', '.join(_PREDICTIONS)}")
    said = "v_prediction" if _VELOCITY in opened.stored else None if spec is None else _PREDICTIONS[spec.lower()]
    if chosen is not None and said is not None and chosen != said:
        raise ConfigError(f"{opened.file} says that its model predicts {said}, not {chosen}; leave --prediction out")
    found = said or chosen or layout.prediction
    if found is None:
        raise ConfigError(
            f"{opened.file} is a checkpoint of {layout.name}, which predicts noise or velocity, and does not say "
            f"which; add --prediction v_prediction (models for 768x768 pixels) or --prediction epsilon (for 512x512)"
        )
    return found


def _scheduler(layout: OriginalLayout, prediction: Prediction, zero_snr: bool) -> dict[str, Any]:
    if not zero_snr:
        return dict(layout.schedulers[prediction])
    # Steps must begin where the noise is pure; the scheduler of velocity is one that knows such a schedule.
    config = {**layout.schedulers["v_prediction"], "prediction_type": prediction}
    return {**config, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def _left_out(
    opened: SingleFile, layout: OriginalLayout, configs: Mapping[str, Any], tensors: Mapping[str, Tensors]
) -> tuple[str, ...]:
    """Say which tensors are not used, but for those that every such file has."""
    prefixes = tuple(part.prefix for part in layout.parts.values())
    others = [
        key
        for key in opened.stored
        if not key.startswith(prefixes) and key not in (_VELOCITY, _ZERO_SNR) and _BUFFERS.fullmatch(key) is None
    ]
    averaged = [key for key in others if key.startswith(_EMA)]
    unknown = [key for key in others if not key.startswith(_EMA)]
    notes = []
    if averaged:
        notes.append(
            f"{opened.file} has {len(averaged)} averaged weights ({_EMA}…) too, which are left out, as by diffusers"
        )
    if unknown:
        notes.append(f"{listed(f'tensors of {opened.file} are of none of its models', unknown)}they are left out")
    return tuple(notes)
