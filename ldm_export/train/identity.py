"""Identities: hashes of all that each part of a run folder depends on, stored with it and compared before use.

A part's identity holds the recipe's values and the *content* of the data that its weights follow from: a changed image,
caption or perceptual weight is another training, a moved data folder is not. Settings that change no weight
(`checkpoint_every`, `gradient_checkpointing`, the samples) are left out, and so is what no recipe states: the versions
of torch and Pillow, the device and the number of threads, on which the rounding of sums depends.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from ldm_export.recipes.train import TrainRecipe
from ldm_export.train.image_folder import Split
from ldm_runtime.files.hash_cache import sha256_of

# Raise it when a recipe's default changes, or the computation of a step: older versions trained something else then.
VERSION = 1


@dataclass(frozen=True)
class DataDigests:
    """Hexadecimal SHA-256 of the content of a recipe's data folder."""

    images: str  # pixels and split, of stages 2 and 3
    captions: str  # with their tags
    wider: str  # pixels and split, of the autoencoder
    perceptual: str


@dataclass(frozen=True)
class Identities:
    """The identity of each part of the run folder; a restart is part of the checkpoint's, see `identity_at`."""

    tokenizer: str
    autoencoder: str
    latents: str
    text_encoder: str
    diffusion: str
    decoder: str
    checkpoint: str


def digest_data(recipe: TrainRecipe, images: Split, wider: Split) -> DataDigests:
    pixels = _pixels(images)
    weights = recipe.autoencoder.perceptual_weights if recipe.autoencoder.perceptual > 0 else None
    return DataDigests(
        images=pixels,
        captions=_hash([(part.captions, part.tags) for part in images]),
        wider=pixels if wider is images else _pixels(wider),
        perceptual="" if weights is None else sha256_of(weights),
    )


def identities(recipe: TrainRecipe, digests: DataDigests | None) -> Identities:
    """Compute the identities of a run folder's parts; without digests, those by the recipe alone, reading no file."""
    if digests is None:
        by_recipe = _hash(recipe.data, recipe.autoencoder.where)
        digests = DataDigests(by_recipe, by_recipe, by_recipe, str(recipe.autoencoder.perceptual_weights))
    stage, backgrounds = recipe.autoencoder, recipe.data.all_backgrounds
    colours = [background.colour for background in backgrounds]
    learnt = replace(stage, where=None, perceptual_weights=None)  # the files that these name are in the digests
    how = (recipe.seed, recipe.mixed_precision)
    tokenizer = _hash(recipe.tokenizer, digests.captions, backgrounds)
    autoencoder = _hash(how, recipe.data.size, recipe.vae, learnt, colours, digests.wider, digests.perceptual)
    latents = _hash(autoencoder, digests.images)
    text_encoder = _hash(latents, tokenizer, recipe.text_encoder, recipe.captions)
    diffusion = _hash(text_encoder, recipe.unet, recipe.schedule, recipe.diffusion)
    decoder = _hash(latents, recipe.decoder)
    model = [diffusion, recipe.diffusion.restart, decoder, recipe.save_precision]
    return Identities(tokenizer, autoencoder, latents, text_encoder, diffusion, decoder, _hash(model))


def _pixels(images: Split) -> str:
    """Hash the images to train on and the held-out ones, in their order."""
    digest = hashlib.sha256()
    for part in images:
        digest.update(repr((len(part), *part.pixels.shape[1:])).encode())
        for index in range(len(part)):
            digest.update(part.rgba(index).data)
    return digest.hexdigest()


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr((VERSION, plain(parts))).encode("utf-8", "surrogatepass")).hexdigest()


def plain(value: Any) -> object:
    """Turn a recipe's value into numbers, strings and lists, the same in later versions and on every system.

    A dataclass becomes the fields that differ from their defaults, so a field added by a later version disowns
    nothing that was trained without it.
    """
    if is_dataclass(value):
        values = [(field.name, getattr(value, field.name)) for field in fields(value) if field.repr]
        defaults = {field.name: _default(field) for field in fields(value)}
        return [(name, plain(part)) for name, part in values if part != defaults[name]]
    if isinstance(value, Mapping):
        return [(name, plain(part)) for name, part in value.items()]
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value.as_posix() if isinstance(value, Path) else value


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()
