"""A single-file checkpoint in one of the original layouts (`ldm_export.families.original`), safetensors or `.ckpt`.

The file says neither its kind nor its configs: both follow from names and shapes. What it lacks comes from elsewhere:
CLIP's vocabulary is carried here, the scheduler is the one that such models were published with, what the model
predicts is said by the file (marker keys, or modelspec metadata) or asked for, and a part that is not in it is given
beside it.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from ldm_export.checkpoint.checkpoint import Checkpoint, assemble, notes_on
from ldm_export.checkpoint.clip_vocabulary import ClipVocabulary
from ldm_export.checkpoint.original_parts import (
    VELOCITY,
    ZERO_SNR,
    PartialFileError,
    SingleFile,
    layouts_of,
    option_of,
    parts_in,
    read_part,
    read_single_file,
    said_prediction,
)
from ldm_export.checkpoint.pipeline_changes import scheduler_as_run
from ldm_export.checkpoint.replaced import find_elsewhere, taken
from ldm_export.checkpoint.scheduler import read_scheduler_config
from ldm_export.checkpoint.stored import Tensors, listed
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families.family import Family
from ldm_export.families.original.layout import OriginalLayout, Prediction
from ldm_runtime.checks import shown

# Tensors that belong to no part and say nothing that is not known: the schedule's own numbers, and counters.
_BUFFERS = re.compile(
    r"betas|alphas_cumprod|alphas_cumprod_prev|(?:sqrt|log|posterior)_\w+|logvar|denoiser\.(?:log_)?sigmas|scale_factor"
)
_EMA = "model_ema."  # averaged weights beside the model's own, which are the ones that diffusers reads


def open_single_file(
    path: Path, prediction: Prediction | None, zero_snr: bool, elsewhere: Mapping[str, Path]
) -> Checkpoint:
    """Open a single-file checkpoint; `prediction` and `zero_snr` are what it may leave open.

    elsewhere: part -> where another one is. Those that the file lacks are taken from there, the others are left.
    """
    opened = read_single_file(path)
    family, layout = _kind(opened)
    lacking = _lacking(opened, layout, elsewhere)
    found = {name: find_elsewhere(path, family, name, elsewhere[name], layouts=(layout,)) for name in lacking}
    predicts = _prediction(opened, layout, prediction)
    configs: dict[str, Any] = {}
    tensors: dict[str, Tensors] = {}
    for name, original in layout.parts.items():
        if name in found:
            configs[name], tensors[name] = found[name].config, found[name].tensors
            continue
        model, size = read_part(opened, original, family.parts[name], name), layout.sizes[predicts].get(name)
        configs[name] = model.config if size is None else replace(model.config, sample_size=size)
        tensors[name] = model.tensors
    try:
        family.check(configs)
    except ConfigError as error:
        where = " and ".join([*(str(elsewhere[name]) for name in lacking), str(path)])
        raise ConfigError(f"{where}: {error}") from None
    scheduler_config = _scheduler(layout, predicts, zero_snr or ZERO_SNR in opened.stored)
    scheduler_config = scheduler_as_run(scheduler_config, family.pipelines[family.pipeline_of(configs)])
    checkpoint = assemble(
        opened.folder,
        family,
        configs,
        read_scheduler_config(scheduler_config),
        scheduler_config,
        (),
        tensors,
        [],
        notes=(*notes_on(tensors), *_left_out(opened, layout)),
        path=opened.file,
        tokenizers={name: ClipVocabulary(pad) for name, pad in layout.pads.items()},
        layout=layout.name,
        zero_negative=family.zeros_key is not None,  # what their classes do where nothing is said
    )
    return taken(checkpoint, found)


def _lacking(opened: SingleFile, layout: OriginalLayout, elsewhere: Collection[str]) -> list[str]:
    """Return the parts that the file does not have. Raises CheckpointError for one that is not elsewhere either."""
    lacking = [
        name for name, part in layout.parts.items() if not any(key.startswith(part.prefix) for key in opened.stored)
    ]
    for name in lacking:
        if name not in elsewhere:
            raise PartialFileError(
                opened,
                f"{opened.file} is a checkpoint of {layout.name} without its {name} (no key begins with "
                f"{layout.parts[name].prefix!r}); give one with {option_of(name)}, or fetch the whole checkpoint",
            )
    return lacking


def _kind(opened: SingleFile) -> tuple[Family, OriginalLayout]:
    """Return the family and the layout that the keys are of. Raises CheckpointError for none, or for two at once."""
    found = layouts_of(opened.stored)
    if len(found) > 1:
        names = " and ".join(layout.name for _, layout in found)
        raise CheckpointError(f"{opened.file} has keys of {names}; expected those of one model: fetch the file again")
    if not found:
        _refuse_unknown(opened)
    return found[0]


def _refuse_unknown(opened: SingleFile) -> NoReturn:
    """Raise CheckpointError for a file that no layout recognises, for what it is."""
    parts = parts_in(opened)
    if parts:
        options = " or ".join(map(option_of, parts))
        raise PartialFileError(
            opened,
            f"{opened.file} holds {' and '.join(parts)} without the rest of a checkpoint; give it by {options} beside "
            f"a whole one",
        )
    first = next(iter(opened.stored), "none")
    raise CheckpointError(
        f"{opened.file} is no checkpoint of a known kind (its first key is {shown(first)}); expected Stable Diffusion "
        f"or SDXL"
    )


def _prediction(opened: SingleFile, layout: OriginalLayout, chosen: Prediction | None) -> Prediction:
    """Return what the model predicts: by the file, or else by the user, or else as all models of the kind."""
    said = said_prediction(opened)
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


def _left_out(opened: SingleFile, layout: OriginalLayout) -> tuple[str, ...]:
    """Say which tensors are not used, but for those that every such file has."""
    prefixes = tuple(part.prefix for part in layout.parts.values())
    others = [
        key
        for key in opened.stored
        if not key.startswith(prefixes) and key not in (VELOCITY, ZERO_SNR) and _BUFFERS.fullmatch(key) is None
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
