"""What each part of a run folder depends on, as a hash that is stored with it and compared before it is used.

A part's identity holds the recipe's values and the *content* of the data that its weights follow from: a changed
picture, caption or perceptual weight is another training, a moved data folder is not. Left out is what changes no
weight (`checkpoint_every`, `gradient_checkpointing`, the samples), and what no recipe says: the versions of torch and
Pillow, the device and the number of threads, by which sums are rounded.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ldm_export.recipes.train import TrainRecipe
from ldm_export.train.image_folder import Pictures

# Raise it when a recipe's default changes, or what a step computes: what older versions trained is not the same then.
VERSION = 1


@dataclass(frozen=True)
class DataDigests:
    """Of the content that a recipe's data folder has: hexadecimal SHA-256."""

    pictures: str  # pixels and split, of stages 2 and 3
    captions: str  # with their tags
    wider: str  # pixels and split, of the autoencoder
    perceptual: str


@dataclass(frozen=True)
class Identities:
    """One for each part of the run folder; the restart is part of the checkpoint's, see `StageRun` for its own."""

    tokenizer: str
    autoencoder: str
    latents: str
    text_encoder: str
    diffusion: str
    decoder: str
    checkpoint: str


def digest_data(
    recipe: TrainRecipe, pictures: tuple[Pictures, Pictures], wider: tuple[Pictures, Pictures]
) -> DataDigests:
    pixels = _pixels(pictures)
    weights = recipe.autoencoder.perceptual_weights if recipe.autoencoder.perceptual > 0 else None
    return DataDigests(
        pictures=pixels,
        captions=_hash([(part.captions, part.tags) for part in pictures]),
        wider=pixels if wider is pictures else _pixels(wider),
        perceptual="" if weights is None else _file_digest(weights),
    )


def identities(recipe: TrainRecipe, digests: DataDigests | None) -> Identities:
    """What a run folder's parts must have; without digests, what the recipe alone says of them, no file being read."""
    if digests is None:
        by_recipe = _hash(recipe.data, recipe.autoencoder.where)
        digests = DataDigests(by_recipe, by_recipe, by_recipe, str(recipe.autoencoder.perceptual_weights))
    stage, grounds = recipe.autoencoder, recipe.data.grounds
    colours = [ground.colour for ground in grounds]
    learnt = replace(stage, where=None, perceptual_weights=None)  # what these name is in the digests
    how = (recipe.seed, recipe.mixed_precision)
    tokenizer = _hash(recipe.tokenizer, digests.captions, grounds)
    autoencoder = _hash(how, recipe.data.size, recipe.vae, learnt, colours, digests.wider, digests.perceptual)
    latents = _hash(autoencoder, digests.pictures)
    text_encoder = _hash(latents, tokenizer, recipe.text_encoder, recipe.captions)
    diffusion = _hash(text_encoder, recipe.unet, recipe.schedule, recipe.diffusion)
    decoder = _hash(latents, recipe.decoder)
    model = [diffusion, recipe.diffusion.restart, decoder, recipe.save_precision]
    return Identities(tokenizer, autoencoder, latents, text_encoder, diffusion, decoder, _hash(model))


def _pixels(pictures: tuple[Pictures, Pictures]) -> str:
    """Of the pictures to train on and the held-out ones, in their order."""
    digest = hashlib.sha256()
    for part in pictures:
        digest.update(repr(part.rgba.shape).encode())
        digest.update(np.ascontiguousarray(part.rgba).data)
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr((VERSION, plain(parts))).encode("utf-8", "surrogatepass")).hexdigest()


def plain(value: Any) -> object:
    """Numbers, texts and lists that stand for a value of a recipe, the same in later versions and on every system.

    Of a dataclass it has the fields that differ from their defaults, so a field that a later version adds disowns
    nothing that was trained without it.
    """
    if is_dataclass(value):
        given = [(field.name, getattr(value, field.name)) for field in fields(value) if field.repr]
        defaults = {field.name: _default(field) for field in fields(value)}
        return [(name, plain(part)) for name, part in given if part != defaults[name]]
    if isinstance(value, Mapping):
        return [(name, plain(part)) for name, part in value.items()]
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value.as_posix() if isinstance(value, Path) else value


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()
