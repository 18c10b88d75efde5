"""What a call asks for, checked against the package's contract before anything is computed."""

import dataclasses
import math
import operator
import secrets
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from ldm_runtime.errors import InputError
from ldm_runtime.manifest import Contract
from ldm_runtime.manifest_rules import MAX_PIXELS
from ldm_runtime.plan import Plan, compile_plan

NOISES = ("philox",)


@dataclasses.dataclass(frozen=True)
class Request:
    """One run, complete: nothing in it is left to a default. B is the number of images.

    prompts and negatives have B entries; prompts is None if prompt_embeds (B, T, D) takes their place.
    """

    prompts: tuple[str, ...] | None
    negatives: tuple[str, ...]
    prompt_embeds: np.ndarray | None
    plan: Plan
    guidance: float
    seed: int  # image b uses seed + b mod 2^64
    width: int
    height: int
    latents: np.ndarray | None  # float32 (B, C, h, w), noise of unit variance
    noise: str

    @property
    def batch(self) -> int:
        return len(self.negatives)

    @property
    def is_guided(self) -> bool:
        """Whether the negative prompt is evaluated: at guidance 1 it would cancel out."""
        return self.guidance > 1.0

    def seed_of(self, image: int) -> int:
        return (self.seed + image) % 2**64


def check_request(
    contract: Contract,
    prompt: str | Sequence[str] | None,
    *,
    negative: str | Sequence[str] | None,
    steps: int | None,
    guidance: float | None,
    seed: int | None,
    sampler: str | None,
    size: tuple[int, int] | None,
    count: int,
    latents: Any,
    prompt_embeds: Any,
    noise: str,
) -> Request:
    """A complete Request, or InputError with what was got, what was expected and what to do."""
    defaults = contract.defaults
    scale = _guidance(defaults.guidance if guidance is None else guidance)
    plan = compile_plan(
        contract.schedule,
        defaults.sampler if sampler is None else _name("sampler", sampler),
        defaults.steps if steps is None else steps,
    )
    if _name("noise", noise) not in NOISES:
        raise InputError(f"noise is {noise!r}; expected {', '.join(NOISES)}")
    most = contract.range_of(contract.tensor("unet", "sample").dims[0])[1]
    repeats = _integer("count", count, 1, most)
    embeds = _prompt_embeds(contract, prompt, prompt_embeds, repeats)
    prompts = _prompts(prompt, repeats) if embeds is None else None
    batch = len(prompts) if prompts is not None else len(_given(embeds))
    _check_batch(contract, batch, scale > 1.0)
    start, width, height = _latents_and_size(contract, latents, size, batch)
    return Request(
        prompts=prompts,
        negatives=_negatives(negative, batch, repeats),
        prompt_embeds=embeds,
        plan=plan,
        guidance=scale,
        seed=secrets.randbits(32) if seed is None else _integer("seed", seed, 0, 2**64 - 1),
        width=width,
        height=height,
        latents=start,
        noise=noise,
    )


def check_image_size(contract: Contract, width: int, height: int, what: str) -> None:
    """Raise InputError unless the package can handle an image of `width` x `height` pixels."""
    step = contract.latent.downsample
    rows, columns = contract.tensor("unet", "sample").dims[2:]
    for side, pixels, dim in (("width", width, columns), ("height", height, rows)):
        low, high = (limit * step for limit in contract.range_of(dim))
        if not low <= pixels <= high or pixels % step != 0:
            raise InputError(
                f"{what} is {width}x{height}; expected a {side} that is a multiple of {step}, from {low} to {high}"
            )
    if width * height > MAX_PIXELS:
        raise InputError(f"{what} is {width}x{height}; expected at most {MAX_PIXELS} pixels")


def check_float_array(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """`value` as a finite float32 array of `shape` (None: any size), or InputError."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise InputError(f"{name} is no array: {error}") from None
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise InputError(f"{name} has dtype {array.dtype}; expected numbers, float32")
    fits = len(array.shape) == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(f"{name} has shape {array.shape}; expected ({wanted})")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinity; expected finite float32 numbers")
    return array


def check_texts(name: str, value: str | Sequence[str]) -> tuple[str, ...]:
    """`value` as a tuple of texts, perhaps empty, or InputError."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise InputError(f"{name} is {_shown(value)}; expected a text or a list of texts")
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


def _prompt_embeds(contract: Contract, prompt: Any, embeds: Any, repeats: int) -> np.ndarray | None:
    if embeds is None:
        return None
    if prompt is not None:
        raise InputError("both prompt and prompt_embeds were given; give one of them")
    _, tokens, width = contract.tensor("unet", "encoder_hidden_states").dims
    array = check_float_array("prompt_embeds", embeds, (None, None, int(width)))
    low, high = contract.range_of(tokens)
    if len(array) < 1 or not low <= array.shape[1] <= high:
        raise InputError(
            f"prompt_embeds has shape {array.shape}; expected at least one prompt of {low} to {high} tokens"
        )
    return np.repeat(array, repeats, axis=0)


def _check_batch(contract: Contract, batch: int, guided: bool) -> None:
    low, high = contract.range_of(contract.tensor("unet", "sample").dims[0])
    needed = 2 * batch if guided else batch
    if not low <= needed <= high:
        most = high // 2 if guided else high
        raise InputError(
            f"{batch} images at once need a batch of {needed}{' with guidance' if guided else ''}, but the "
            f"package takes {low} to {high}; ask for at most {most}"
        )


def _latents_and_size(
    contract: Contract, latents: Any, size: tuple[int, int] | None, batch: int
) -> tuple[np.ndarray | None, int, int]:
    step = contract.latent.downsample
    if size is None:
        width, height = contract.image.width, contract.image.height
    else:
        width, height = _size(size)
        check_image_size(contract, width, height, "size")
    if latents is None:
        return None, width, height
    rows, columns = (None, None) if size is None else (height // step, width // step)
    array = check_float_array("latents", latents, (batch, contract.latent.channels, rows, columns))
    width, height = array.shape[3] * step, array.shape[2] * step
    check_image_size(contract, width, height, "the size of latents")
    return array, width, height


def _size(size: Any) -> tuple[int, int]:
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise InputError(f"size is {_shown(size)}; expected (width, height) in pixels")
    return _integer("width", size[0], 1, 2**31), _integer("height", size[1], 1, 2**31)


def _guidance(value: Any) -> float:
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not 0.0 <= number < math.inf:
        raise InputError(f"guidance is {_shown(value)}; expected a finite number of 0 or more (1 or less: no guidance)")
    return number


def _integer(name: str, value: Any, low: int, high: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not low <= number <= high:
        raise InputError(f"{name} is {_shown(value)}; expected a whole number from {low} to {high}")
    return number


def _name(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} is {_shown(value)}; expected a name")
    return value


def _given(array: np.ndarray | None) -> np.ndarray:
    assert array is not None
    return array


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = "an immense number"
    return text if len(text) <= 60 else text[:57] + "..."
