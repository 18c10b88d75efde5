"""The texts of a run, or the embeddings in their place, and their checks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ldm_runtime.checks import check_integer, given, shown
from ldm_runtime.errors import InputError
from ldm_runtime.package.manifest import Contract
from ldm_runtime.request_values import check_shape, float_copy


def read_texts(
    contract: Contract, prompt: str | Sequence[str] | None, options: Mapping[str, Any]
) -> tuple[tuple[str, ...] | None, tuple[str, ...], np.ndarray | None]:
    """Return prompts, negatives and prompt_embeds of a run; of prompts and embeds one is None. Raises InputError."""
    most = contract.range_of(contract.sample.dims[0])[1]
    repeats = check_integer("count", options.get("count", 1), 1, most, "request.batch")
    embeds = _prompt_embeds(contract, prompt, options.get("prompt_embeds"), repeats, most)
    prompts = _prompts(prompt, repeats) if embeds is None else None
    batch = len(prompts) if prompts is not None else len(given(embeds))
    return prompts, _negatives(options.get("negative"), batch, repeats), embeds


def read_pooled(
    contract: Contract, options: Mapping[str, Any], embeds: np.ndarray | None, batch: int
) -> np.ndarray | None:
    """Return the pooled text beside `embeds`, one for each of `batch` images; None where there is none to read.

    Raises InputError where it is missing, or of no use.
    """
    pooled, reads = options.get("pooled_prompt_embeds"), contract.pooled_width > 0
    if pooled is not None and (embeds is None or not reads):
        beside = "without prompt_embeds" if reads else "but this model does not read it"
        raise InputError(f"pooled_prompt_embeds was given, {beside}; leave it out", code="request.array")
    if embeds is None or not reads:
        return None
    if pooled is None:
        raise InputError(
            "this model reads pooled text too, which prompt_embeds does not hold; give pooled_prompt_embeds, the "
            "second result of embed_pooled",
            code="request.array",
        )
    repeats = options.get("count", 1)
    array = check_shape("pooled_prompt_embeds", pooled, (batch // repeats, contract.pooled_width))
    return np.repeat(float_copy("pooled_prompt_embeds", array), repeats, axis=0)


def check_texts(name: str, value: str | Sequence[str]) -> tuple[str, ...]:
    """Return `value` as a tuple of texts, perhaps empty, or InputError."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise InputError(f"{name} is {shown(value)}; expected a text or a list of texts")
    return tuple(value)


def _prompts(prompt: str | Sequence[str] | None, repeats: int) -> tuple[str, ...]:
    if prompt is None:
        raise InputError('no prompt was given; give a prompt ("" is legal) or prompt_embeds')
    texts = check_texts("prompt", prompt)
    if not texts:
        raise InputError("prompt is an empty list; expected a text or a list of at least one")
    return tuple(text for text in texts for _ in range(repeats))


def _negatives(negative: str | Sequence[str] | None, batch: int, repeats: int) -> tuple[str, ...]:
    if negative is None:
        return ("",) * batch
    texts = check_texts("negative", negative)
    if isinstance(negative, str):
        return texts * batch
    if len(texts) * repeats != batch:
        raise InputError(f"negative has {len(texts)} texts for {batch // repeats} prompts; give one for each")
    return tuple(text for text in texts for _ in range(repeats))


def _prompt_embeds(contract: Contract, prompt: Any, embeds: Any, repeats: int, most: int) -> np.ndarray | None:
    if embeds is None:
        return None
    if prompt is not None:
        raise InputError("both prompt and prompt_embeds were given; give one of them")
    _, tokens, width = contract.context.dims
    array = check_shape("prompt_embeds", embeds, (None, None, int(width)))
    low, high = contract.range_of(tokens)
    if len(array) < 1 or not low <= array.shape[1] <= high:
        raise InputError(
            f"prompt_embeds has shape {array.shape}; expected at least one prompt of {low} to {high} tokens",
            code="request.array",
        )
    if len(array) > most:
        raise InputError(
            f"prompt_embeds has shape {array.shape}; the package takes a batch of at most {most}", code="request.array"
        )
    return np.repeat(float_copy("prompt_embeds", array), repeats, axis=0)
