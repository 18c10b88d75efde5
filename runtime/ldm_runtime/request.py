"""What a call asks for, checked against the package's contract before anything is computed."""

import dataclasses
import math
import operator
import secrets
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ldm_runtime.checks import check_integer, given, shown
from ldm_runtime.errors import InputError
from ldm_runtime.noise import check_noise
from ldm_runtime.noise.philox import batch_seeds
from ldm_runtime.notice import Notice
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.rules import MAX_PIXELS
from ldm_runtime.sampling.plan import Plan, compile_plan
from ldm_runtime.sampling.solvers import read_sampler
from ldm_runtime.text.weighting import SYNTAXES

if TYPE_CHECKING:
    from PIL import Image

IMAGE_STRENGTH, MASK_STRENGTH = 0.8, 1.0  # what is taken where none is given, as in diffusers
MAX_PIXELS_TOGETHER = 2**28  # of images that are encoded or decoded in one call: 3 GB in float32
TRANSPARENT_IMAGE = Notice("image", "the image is transparent in parts; they were laid on white")
TRANSPARENT_MASK = Notice("mask", "the mask is transparent in parts; they count as black, so the image is kept there")


@dataclasses.dataclass(frozen=True)
class Request:
    """One run, complete: nothing in it is left to a default. B is the number of images.

    prompts and negatives have B entries; prompts is None if prompt_embeds (B, T, D) takes their place.
    """

    prompts: tuple[str, ...] | None
    negatives: tuple[str, ...]
    prompt_embeds: np.ndarray | None
    syntax: str  # of the prompts: "plain" or "weighted"
    plan: Plan
    guidance: float
    guidance_rescale: float
    guidance_interval: tuple[float, float]  # shares of the run between which guidance is on
    seeds: tuple[int, ...]  # one for each image
    variation: tuple[int, float] | None  # seed of other noise, and how far the way to it
    width: int
    height: int
    latents: np.ndarray | None  # float32 (B, C, h, w), noise of unit variance
    noise: str
    pixels: np.ndarray | None  # float32 (B, 3, height, width) in [-1, 1], the picture to start from
    mask: np.ndarray | None  # float32 (1, 1, h, w), 1 where the picture is painted anew
    masked_pixels: np.ndarray | None  # float32 (B, 3, height, width), grey there; for a UNet that reads it
    strength: float | None
    notices: tuple[Notice, ...]  # what was done to the images

    @property
    def batch(self) -> int:
        return len(self.negatives)

    @property
    def is_guided(self) -> bool:
        """Whether the negative prompt is evaluated: at guidance 1 it would cancel out."""
        return self.guidance > 1.0

    def is_guided_at(self, row: int) -> bool:
        """Whether it is at this row of the plan."""
        low, high = self.guidance_interval
        return self.is_guided and low <= row / len(self.plan.rows) < high

    def metadata(self, image: int) -> dict[str, str]:
        """Describe image `image` (0 to B - 1) as text. The same options draw it again."""
        facts = {
            "prompt": "" if self.prompts is None else self.prompts[image],
            "negative": self.negatives[image] if self.is_guided else "",
            "seed": str(self.seeds[image]),
            "sampler": self.plan.sampler.canonical,
            "steps": str(self.plan.steps),
            "guidance": exact(self.guidance),
            "size": f"{self.width}x{self.height}",
            "noise": self.noise if self.latents is None else "given latents",
        }
        if self.prompts is None:
            facts["conditioning"] = "given embeddings"
        if self.syntax != "plain":
            facts["syntax"] = self.syntax
        if self.guidance_rescale:
            facts["guidance rescale"] = exact(self.guidance_rescale)
        if self.guidance_interval != (0.0, 1.0):
            facts["guidance interval"] = " to ".join(exact(end) for end in self.guidance_interval)
        if self.variation is not None:
            seed, strength = self.variation
            facts["variation"] = f"seed {seed}, strength {exact(strength)}"
        if self.strength is not None:
            facts["strength"] = exact(self.strength)
            facts["task"] = "image to image" if self.mask is None else "inpainting"
        return facts


def check_request(
    contract: Contract,
    prompt: str | Sequence[str] | None,
    *,
    negative: str | Sequence[str] | None,
    steps: int | None,
    guidance: float | None,
    seed: int | Sequence[int] | None,
    sampler: str | None,
    size: tuple[int, int] | None,
    count: int,
    latents: Any,
    prompt_embeds: Any,
    noise: str,
    syntax: str,
    guidance_rescale: float,
    guidance_interval: tuple[float, float],
    variation: tuple[int, float] | None,
    image: Any,
    mask: Any,
    strength: float | None,
) -> Request:
    """A complete Request, or InputError with what was got, what was expected and what to do."""
    defaults = contract.defaults
    scale = _guidance(defaults.guidance if guidance is None else guidance)
    chosen = defaults.parsed_sampler if sampler is None else read_sampler(sampler)
    wanted_steps = defaults.steps if steps is None else steps
    check_noise(_name("noise", noise), correlated=chosen.solver.correlated_noise, sampler=chosen.name)
    if _name("syntax", syntax) not in SYNTAXES:
        raise InputError(f"syntax is {shown(syntax)}; expected {' or '.join(SYNTAXES)}")
    most = contract.range_of(contract.tensor("unet", "sample").dims[0])[1]
    repeats = check_integer("count", count, 1, most)
    embeds = _prompt_embeds(contract, prompt, prompt_embeds, repeats, most)
    prompts = _prompts(prompt, repeats) if embeds is None else None
    batch = len(prompts) if prompts is not None else len(given(embeds))
    _check_batch(contract, batch, scale > 1.0)
    if image is None:
        for name, value in (("mask", mask), ("strength", strength)):
            if value is not None:
                raise InputError(f"{name} was given without an image; give the image that it is for")
    images = None if image is None else _images(image, batch)
    if images is not None and size is None and latents is None:
        size = _size_of_image(contract, images[0])
    if contract.inpaints and mask is None:
        raise InputError("this model paints parts of pictures anew; give an image and a mask (all white for all of it)")
    start, width, height = _latents_and_size(contract, latents, size, batch)
    share = _strength(strength, mask is not None) if image is not None else None
    pixels = None if images is None else _pixels(images, width, height, batch)
    drawn_mask = None if mask is None else _mask(mask)
    painted = None if drawn_mask is None else _painted(drawn_mask, width, height)
    return Request(
        prompts=prompts,
        negatives=_negatives(negative, batch, repeats),
        prompt_embeds=embeds,
        syntax=syntax,
        plan=compile_plan(contract.schedule, chosen, wanted_steps, first_step(wanted_steps, share)),
        guidance=scale,
        guidance_rescale=_share("guidance_rescale", guidance_rescale),
        guidance_interval=_interval(guidance_interval),
        seeds=_seeds(seed, batch),
        variation=_variation(variation),
        width=width,
        height=height,
        latents=start,
        noise=noise,
        pixels=pixels,
        mask=None if painted is None else _on_grid(painted, contract.latent.downsample),
        masked_pixels=np.where(given(painted), np.float32(0.0), given(pixels)) if contract.inpaints else None,
        strength=share,
        notices=_transparency(images, drawn_mask),
    )


def choose_size(contract: Contract, size: Any) -> tuple[int, int]:
    """(width, height) in pixels, of the package where none is asked for; InputError for what it cannot draw."""
    if size is None:
        return contract.image.width, contract.image.height
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise InputError(f"size is {shown(size)}; expected (width, height) in pixels")
    width, height = check_integer("width", size[0], 1, 2**31), check_integer("height", size[1], 1, 2**31)
    check_image_size(contract, width, height, "size")
    return width, height


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


def check_together(what: str, count: int, pixels: int) -> None:
    """Raise InputError for images that have more than MAX_PIXELS_TOGETHER pixels in one call."""
    if pixels > MAX_PIXELS_TOGETHER:
        raise InputError(
            f"{what} are {count} with {pixels} pixels together; expected at most {MAX_PIXELS_TOGETHER} in one call"
        )


def check_shape(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """`value` as an array of real numbers of `shape` (None: any size), or InputError. Nothing is copied, if it is one.

    What comes back may be a view of immense size: check that before `float_copy`.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array; fill what is masked first, expected plain numbers")
    try:
        array = np.asarray(value)
    except Exception as error:  # a ragged list, or whatever an object's own __array__ raises
        raise InputError(f"{name} is no array: {error}") from None
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} has dtype {array.dtype}; expected numbers, float32")
    fits = len(array.shape) == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(f"{name} has shape {array.shape}; expected ({wanted})")
    return array


def float_copy(name: str, array: np.ndarray) -> np.ndarray:
    """float32, contiguous and finite, in memory that nobody else has; or InputError."""
    with np.errstate(over="ignore"):
        copy = np.array(array, dtype=np.float32, order="C")
    if not np.isfinite(copy).all():
        raise InputError(f"{name} holds NaN or infinity; expected finite float32 numbers")
    return copy


def check_texts(name: str, value: str | Sequence[str]) -> tuple[str, ...]:
    """`value` as a tuple of texts, perhaps empty, or InputError."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise InputError(f"{name} is {shown(value)}; expected a text or a list of texts")
    return tuple(value)


def exact(value: float) -> str:
    """Write a number so that it reads as the same number, without a fraction where it has none: 7.5, 3."""
    return str(int(value)) if value.is_integer() else repr(value)


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
    _, tokens, width = contract.tensor("unet", "encoder_hidden_states").dims
    array = check_shape("prompt_embeds", embeds, (None, None, int(width)))
    low, high = contract.range_of(tokens)
    if len(array) < 1 or not low <= array.shape[1] <= high:
        raise InputError(
            f"prompt_embeds has shape {array.shape}; expected at least one prompt of {low} to {high} tokens"
        )
    if len(array) > most:
        raise InputError(f"prompt_embeds has shape {array.shape}; the package takes a batch of at most {most}")
    return np.repeat(float_copy("prompt_embeds", array), repeats, axis=0)


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
    width, height = choose_size(contract, size)
    if latents is None:
        return None, width, height
    rows, columns = (None, None) if size is None else (height // step, width // step)
    array = check_shape("latents", latents, (batch, contract.latent.channels, rows, columns))
    width, height = array.shape[3] * step, array.shape[2] * step
    check_image_size(contract, width, height, "the size of latents")
    return float_copy("latents", array), width, height


def _images(image: Any, batch: int) -> "list[Image.Image]":
    """The pictures to start from, one for all or one for each, in L, RGB or RGBA."""
    from ldm_runtime.image import listed
    from ldm_runtime.image_modes import settled

    several = listed(image)
    if len(several) not in (1, batch):
        raise InputError(f"image has {len(several)} images for a batch of {batch}; give one, or one for each")
    return [settled(one) for one in several]


def _size_of_image(contract: Contract, image: "Image.Image") -> tuple[int, int]:
    """The size to draw at: the image's own, less what is over a multiple of the latents' grid."""
    step = contract.latent.downsample
    width, height = (side - side % step for side in image.size)
    given_size = f"{image.width}x{image.height}"
    check_image_size(contract, width, height, f"the size that the image of {given_size} gives (name another with size)")
    return width, height


def _pixels(images: "list[Image.Image]", width: int, height: int, batch: int) -> np.ndarray:
    """Images on white, scaled to width x height: float32 (B, 3, height, width) in [-1, 1]."""
    from ldm_runtime.image import pixels_of, scaled
    from ldm_runtime.image_modes import laid_on

    pixels = pixels_of([scaled(laid_on(one, "white"), width, height) for one in images])
    return np.broadcast_to(pixels, (batch, *pixels.shape[1:]))


def _mask(mask: Any) -> "Image.Image":
    from ldm_runtime.image_modes import settled

    return settled(mask, "the mask")


def _painted(mask: "Image.Image", width: int, height: int) -> np.ndarray:
    """Where to paint anew, from half white up: bool (height, width). What is transparent is kept, like black."""
    from ldm_runtime.image import scaled
    from ldm_runtime.image_modes import laid_on

    grey = np.asarray(scaled(laid_on(mask, "black"), width, height).convert("L"), dtype=np.float32) / np.float32(255.0)
    return np.asarray(grey >= 0.5)


def _transparency(images: "list[Image.Image] | None", mask: "Image.Image | None") -> tuple[Notice, ...]:
    notices = []
    if images is not None and any(image.mode == "RGBA" for image in images):
        notices.append(TRANSPARENT_IMAGE)
    if mask is not None and mask.mode == "RGBA":
        notices.append(TRANSPARENT_MASK)
    return tuple(notices)


def _on_grid(painted: np.ndarray, step: int) -> np.ndarray:
    """On the latents' grid, where the pixel at the top left of each cell decides: float32 (1, 1, h, w)."""
    cells = painted[::step, ::step].astype(np.float32)
    if not cells.any():
        raise InputError("the mask is black everywhere, so nothing would be painted; white is what is painted anew")
    return cells[None, None]


def _strength(strength: Any, masked: bool) -> float:
    if strength is None:
        return MASK_STRENGTH if masked else IMAGE_STRENGTH
    return _share("strength", strength)


def first_step(steps: Any, strength: float | None) -> int:
    """The first of the steps that an image to image run takes: int(steps * strength) are taken, as in diffusers.

    None is a run from noise. Raises InputError for a strength that leaves none, or that is not from 0 to 1.
    """
    if strength is None:
        return 0
    _share("strength", strength)
    try:
        steps = operator.index(steps)
    except TypeError:
        return 0  # refused with the plan
    taken = min(int(steps * strength), steps)
    if steps > 0 and taken < 1:
        raise InputError(
            f"strength {strength:g} of {steps} steps leaves none; use a strength of at least {1 / steps:g}"
        )
    return steps - taken


def _share(name: str, value: Any) -> float:
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not 0.0 <= number <= 1.0:
        raise InputError(f"{name} is {shown(value)}; expected a number from 0 to 1")
    return number


def _interval(value: Any) -> tuple[float, float]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise InputError(f"guidance_interval is {shown(value)}; expected two numbers from 0 to 1, such as (0.2, 0.8)")
    low, high = (_share("an end of guidance_interval", end) for end in value)
    if not low < high:
        raise InputError(f"guidance_interval is {shown(value)}; expected its start below its end")
    return low, high


def _seeds(seed: Any, batch: int) -> tuple[int, ...]:
    """One for each image: counted up from one number, as given, or drawn."""
    if isinstance(seed, Sequence) and not isinstance(seed, str | bytes):
        if len(seed) != batch:
            raise InputError(
                f"seed has {len(seed)} numbers for {batch} images; give one for each, or one to count from"
            )
        return tuple(check_integer("seed", one, 0, 2**64 - 1) for one in seed)
    return batch_seeds(secrets.randbits(32) if seed is None else seed, batch)


def _variation(value: Any) -> tuple[int, float] | None:
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise InputError(f"variation is {shown(value)}; expected (seed, strength), such as (7, 0.2)")
    return check_integer("the seed of variation", value[0], 0, 2**64 - 1), _share("the strength of variation", value[1])


def _guidance(value: Any) -> float:
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not 0.0 <= number < math.inf:
        raise InputError(f"guidance is {shown(value)}; expected a finite number of 0 or more (1 or less: no guidance)")
    return number


def _name(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} is {shown(value)}; expected a name")
    return value
