"""The options of a run, checked against the package's contract before anything is computed."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from ldm_runtime.checks import check_integer, exact, given
from ldm_runtime.errors import InputError
from ldm_runtime.noise import check_noise
from ldm_runtime.notice import Notice
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.values import MAX_PIXELS
from ldm_runtime.package.variants import VariantRun
from ldm_runtime.request_images import StartImages, on_grid, read_start_images
from ldm_runtime.request_sizes import ImageSizes, read_sizes
from ldm_runtime.request_texts import read_pooled, read_texts
from ldm_runtime.request_values import (
    check_choice,
    check_guidance,
    check_interval,
    check_name,
    check_pair,
    check_picard,
    check_seeds,
    check_shape,
    check_share,
    check_variation,
    compile_run,
    float_copy,
)
from ldm_runtime.sampling.plan import Plan
from ldm_runtime.sampling.solvers import read_sampler
from ldm_runtime.text.weighting import SYNTAXES

if TYPE_CHECKING:
    from PIL import Image

MAX_EMBEDDED_GUIDANCE = 1000  # as a package's default; far above what any model was distilled with
MAX_PIXELS_TOGETHER = 2**28  # of images that are encoded or decoded in one call: 3 GB in float32


class SampleOptions(TypedDict, total=False):
    """The options of a run, declared once. One that is missing, or None where that is allowed, has its default."""

    negative: str | Sequence[str] | None
    """Negative prompt: one text for all prompts, or one for each. None: the empty one, or what the package says."""
    steps: int | None
    """Sampling steps. None: the package's."""
    guidance: float | None
    """Classifier-free guidance scale; 1 or less evaluates the prompt alone. None: the package's.

    A model that reads the scale as an input evaluates the prompt alone at any."""
    seed: int | Sequence[int] | None
    """Seed of the first image, and image b has seed + b; or one seed for each. None: a random seed."""
    sampler: str | None
    """Name of a sampler, with options after a colon. None: the package's."""
    size: tuple[int, int] | None
    """(width, height) in pixels. None: that of `latents` or `image`, else the package's."""
    original_size: tuple[int, int] | None
    """(width, height) in pixels that a model which reads sizes is told of the original. None: the image's own."""
    crop_top_left: tuple[int, int] | None
    """(top, left) in pixels of the crop from the original, for the same models. None: (0, 0)."""
    target_size: tuple[int, int] | None
    """(width, height) in pixels that the same models are told of the image. None: its own."""
    count: int
    """Images per prompt (1)."""
    latents: Any
    """Noise of unit variance, (B, C, h, w), instead of the seed's."""
    prompt_embeds: Any
    """(B, T, D) instead of a prompt."""
    pooled_prompt_embeds: Any
    """(B, P) beside `prompt_embeds`, for a model that reads pooled text; both come from `embed_pooled`."""
    noise: str
    """The generator: "philox", or "torch" or "cuda" for the images that diffusers draws from a seed."""
    syntax: str
    """Syntax of the prompts: "plain", or "weighted" for `(word:1.3)`, `[word]`, BREAK and long prompts."""
    guidance_rescale: float
    """0 to 1, against overexposure by guidance."""
    guidance_interval: tuple[float, float] | None
    """Shares of the run between which guidance is on. None: 0 to 1, or what a variant says."""
    variation: tuple[int, float] | None
    """(seed, strength): move the noise by `strength` (0 to 1) towards the noise of another seed."""
    image: "Image.Image | Sequence[Image.Image] | None"
    """A PIL image to start from, or one for each image."""
    mask: "Image.Image | None"
    """A PIL image, white where `image` is inpainted."""
    strength: float | None
    """How much `image` is changed, 0 to 1: the share of the steps that is run. None: 0.8, with a mask 1."""
    picard: tuple[int, float] | None
    """(window, tolerance): evaluate this many rows at once, by Picard iteration. None: one after the other."""
    stop_after: int | None
    """End after this many steps, as "stopped after" in an image's metadata says. None: at the plan's end."""


@dataclasses.dataclass(frozen=True)
class Request:
    """All options of one run, with every default filled in. B is the number of images.

    prompts and negatives have B entries; prompts is None if prompt_embeds (B, T, D) takes their place.
    """

    prompts: tuple[str, ...] | None
    negatives: tuple[str, ...]
    zero_negative: bool  # guided, and zeros take the place of what the text encoders make of the negative prompts
    prompt_embeds: np.ndarray | None
    pooled_prompt_embeds: np.ndarray | None  # float32 (B, P), where a model reads pooled text beside prompt_embeds
    syntax: str  # of the prompts: "plain" or "weighted"
    plan: Plan
    stop_after: int | None  # steps, where the run ends before its plan
    picard: tuple[int, float] | None  # rows that are evaluated at once, and how little they move when they are settled
    guidance: float
    is_guided: bool  # the negative prompt is evaluated too
    embeds_guidance: bool  # the denoiser reads the guidance scale, and never the negative prompt
    guidance_rescale: float
    guidance_interval: tuple[float, float]  # shares of the run between which guidance is on
    seeds: tuple[int, ...]  # one for each image
    variation: tuple[int, float] | None  # seed of the other noise, and how far towards it
    width: int
    height: int
    sizes: ImageSizes  # what a model that reads sizes is told
    latents: np.ndarray | None  # float32 (B, C, h, w), noise of unit variance
    noise: str
    pixels: np.ndarray | None  # float32 (B, 3, height, width) in [-1, 1], the image to start from
    mask: np.ndarray | None  # float32 (1, 1, h, w), 1 where the image is inpainted
    masked_pixels: np.ndarray | None  # float32 (B, 3, height, width), grey there; for a UNet that reads it
    strength: float | None
    notices: tuple[Notice, ...]  # what was done to the images

    @property
    def batch(self) -> int:
        return len(self.negatives)

    def is_guided_at(self, row: int) -> bool:
        """Return whether the negative prompt is evaluated at this row of the plan."""
        low, high = self.guidance_interval
        return self.is_guided and low <= row / len(self.plan.rows) < high

    def metadata(self, image: int, *, steps_done: int | None = None) -> dict[str, str]:
        """Describe image `image` (0 to B - 1) as text. The same options draw it again.

        steps_done: the steps that were taken; None: all of the plan.
        """
        check_integer("image", image, 0, self.batch - 1)
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
        if self.zero_negative:
            facts["negative conditioning"] = "zeros"
        if self.syntax != "plain":
            facts["syntax"] = self.syntax
        facts |= self.sizes.metadata((self.width, self.height))
        if self.guidance_rescale:
            facts["guidance rescale"] = exact(self.guidance_rescale)
        if self.guidance_interval != (0.0, 1.0):
            facts["guidance interval"] = " to ".join(exact(end) for end in self.guidance_interval)
        if self.picard is not None:
            window, tolerance = self.picard
            facts["picard"] = f"window {window}, tolerance {exact(tolerance)}"
        if self.variation is not None:
            seed, strength = self.variation
            facts["variation"] = f"seed {seed}, strength {exact(strength)}"
        if self.strength is not None:
            facts["strength"] = exact(self.strength)
            facts["task"] = "image to image" if self.mask is None else "inpainting"
        if steps_done is not None and steps_done < self.plan.taken:
            facts["stopped after"] = str(steps_done)
        return facts


def check_request(
    contract: Contract,
    prompt: str | Sequence[str] | None,
    options: SampleOptions,
    run: VariantRun | None = None,
) -> Request:
    """Check the options and fill in the defaults: those of a variant's `run`, then the package's.

    Raises:
        InputError: an option is not usable with this package.
        TypeError: an option does not exist.
    """
    for name in options:
        if name not in SampleOptions.__optional_keys__:
            raise TypeError(f"there is no option {name!r}; the options are {', '.join(SampleOptions.__annotations__)}")
    options = options if run is None else _with_defaults(options, run)
    guidance = check_guidance(_given_or(options.get("guidance"), contract.defaults.guidance))
    if contract.embeds_guidance and guidance > MAX_EMBEDDED_GUIDANCE:
        raise InputError(
            f"guidance is {guidance:g}; expected at most {MAX_EMBEDDED_GUIDANCE}: this model reads it as a number"
        )
    prompts, negatives, embeds = read_texts(contract, prompt, options)
    batch = len(negatives)
    is_guided = contract.evaluates_negative(guidance)
    _check_batch(contract, batch, is_guided)
    start = read_start_images(options, batch)
    if contract.inpaints and (start is None or start.mask is None):
        raise InputError("this model inpaints; give an image and a mask (all white for all of it)")
    strength = None if start is None else start.strength
    caching = None if run is None or run.caching is None else run.caching.interval
    picard = check_picard(options.get("picard"))
    if picard is not None and caching is not None:
        raise InputError(
            "picard evaluates rows of the plan out of order, but the variant that draws keeps features from row to "
            "row; leave out picard, or draw without a variant"
        )
    plan, noise = _plan_and_noise(contract, options, strength, caching)
    stop = options.get("stop_after")
    latents, width, height = _latents_and_size(contract, options, start, batch)
    pooled = read_pooled(contract, options, embeds, batch)
    pixels = None if start is None else start.pixels(width, height, batch)
    inpainted = None if start is None else start.inpainted(width, height)
    return Request(
        prompts=prompts,
        negatives=negatives,
        zero_negative=is_guided and contract.defaults.zero_negative and options.get("negative") is None,
        prompt_embeds=embeds,
        pooled_prompt_embeds=pooled,
        syntax=check_choice("syntax", options.get("syntax", "plain"), SYNTAXES),
        plan=plan,
        stop_after=None if stop is None else check_integer("stop_after", stop, 1, plan.taken),
        picard=picard,
        guidance=guidance,
        is_guided=is_guided,
        embeds_guidance=contract.embeds_guidance,
        guidance_rescale=check_share("guidance_rescale", options.get("guidance_rescale", 0.0)),
        guidance_interval=check_interval(_given_or(options.get("guidance_interval"), (0.0, 1.0))),
        seeds=check_seeds(options.get("seed"), batch),
        variation=check_variation(options.get("variation")),
        width=width,
        height=height,
        sizes=read_sizes(contract, options, (width, height)),
        latents=latents,
        noise=noise,
        pixels=pixels,
        mask=None if inpainted is None else on_grid(inpainted, contract.latent.downsample),
        masked_pixels=np.where(given(inpainted), np.float32(0.0), given(pixels)) if contract.inpaints else None,
        strength=strength,
        notices=() if start is None else start.notices,
    )


def choose_size(contract: Contract, size: Any) -> tuple[int, int]:
    """Return (width, height) in pixels, the package's for None; InputError for what it cannot draw."""
    if size is None:
        return contract.image.width, contract.image.height
    sides = zip(("width", "height"), check_pair("size", size, "(width, height) in pixels"), strict=True)
    width, height = (check_integer(*side, 1, 2**31, "request.size") for side in sides)
    check_image_size(contract, width, height, "size")
    return width, height


def check_image_size(contract: Contract, width: int, height: int, what: str) -> None:
    """Raise InputError unless the package can handle an image of `width` x `height` pixels."""
    step = contract.latent.downsample
    rows, columns = contract.sample.dims[2:]
    for side, pixels, dim in (("width", width, columns), ("height", height, rows)):
        low, high = (limit * step for limit in contract.range_of(dim))
        if not low <= pixels <= high or pixels % step != 0:
            raise InputError(
                f"{what} is {width}x{height}; expected a {side} that is a multiple of {step}, from {low} to {high}",
                code="request.size",
            )
    if width * height > MAX_PIXELS:
        raise InputError(f"{what} is {width}x{height}; expected at most {MAX_PIXELS} pixels", code="request.size")


def check_together(what: str, count: int, pixels: int) -> None:
    """Raise InputError for images that have more than MAX_PIXELS_TOGETHER pixels in one call."""
    if pixels > MAX_PIXELS_TOGETHER:
        raise InputError(
            f"{what} are {count} with {pixels} pixels together; expected at most {MAX_PIXELS_TOGETHER} in one call",
            code="request.size",
        )


def _with_defaults(options: SampleOptions, run: VariantRun) -> SampleOptions:
    """Fill in what a variant says of a run where the caller says nothing."""
    filled: SampleOptions = {**options}
    if options.get("steps") is None and run.steps is not None:
        filled["steps"] = run.steps
    if options.get("sampler") is None and run.sampler is not None:
        filled["sampler"] = run.sampler
    if run.guidance_until == 0 and options.get("guidance") is None:
        filled["guidance"] = 1.0
    elif 0 < run.guidance_until < 1 and options.get("guidance_interval") is None:
        filled["guidance_interval"] = (0.0, run.guidance_until)
    return filled


def _plan_and_noise(
    contract: Contract, options: SampleOptions, strength: float | None, caching: int | None
) -> tuple[Plan, str]:
    """Compile the plan, and check that the noise suits its sampler."""
    defaults = contract.defaults
    text = options.get("sampler")
    sampler = defaults.parsed_sampler if text is None else read_sampler(text)
    noise = check_name("noise", options.get("noise", "philox"))
    check_noise(noise, correlated=sampler.solver.correlated_noise, sampler=sampler.name)
    steps = _given_or(options.get("steps"), defaults.steps)
    return compile_run(contract.schedule, sampler, steps, strength, caching), noise


def _given_or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _check_batch(contract: Contract, batch: int, guided: bool) -> None:
    low, high = contract.range_of(contract.sample.dims[0])
    needed = 2 * batch if guided else batch
    if not low <= needed <= high:
        most = high // 2 if guided else high
        raise InputError(
            f"{batch} images at once need a batch of {needed}{' with guidance' if guided else ''}, but the "
            f"package takes {low} to {high}; ask for at most {most}",
            code="request.batch",
        )


def _latents_and_size(
    contract: Contract, options: SampleOptions, start: StartImages | None, batch: int
) -> tuple[np.ndarray | None, int, int]:
    """Return the given latents, if any, and the width and height to draw at."""
    step, latents, size = contract.latent.downsample, options.get("latents"), options.get("size")
    if start is not None and size is None and latents is None:
        size = _size_of_image(contract, start.images[0])
    width, height = choose_size(contract, size)
    if latents is None:
        return None, width, height
    rows, columns = (None, None) if size is None else (height // step, width // step)
    array = check_shape("latents", latents, (batch, contract.latent.channels, rows, columns))
    width, height = array.shape[3] * step, array.shape[2] * step
    check_image_size(contract, width, height, "the size of latents")
    return float_copy("latents", array), width, height


def _size_of_image(contract: Contract, image: "Image.Image") -> tuple[int, int]:
    """Return the size to draw at: the image's own, less what is over a multiple of the latents' grid."""
    step = contract.latent.downsample
    width, height = (side - side % step for side in image.size)
    given_size = f"{image.width}x{image.height}"
    check_image_size(contract, width, height, f"the size that the image of {given_size} gives (name another with size)")
    return width, height
