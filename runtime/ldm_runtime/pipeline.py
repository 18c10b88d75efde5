"""From a prompt to pictures: tokenise, embed, sample with guidance, decode."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ldm_runtime.checks import given, shown
from ldm_runtime.components import Components
from ldm_runtime.effects import without_effect
from ldm_runtime.engines.choice import EngineChoice, choose
from ldm_runtime.errors import Cancelled, InputError, LdmError, PackageError
from ldm_runtime.noise import MASKED_STREAM, VAE_STREAM, Noise
from ldm_runtime.noise.philox import batch_seeds
from ldm_runtime.notice import Notice
from ldm_runtime.package.open import MANIFEST, Check, Package, open_package
from ldm_runtime.request import (
    TRANSPARENT_IMAGE,
    Request,
    check_image_size,
    check_request,
    check_shape,
    check_texts,
    check_together,
    float_copy,
)
from ldm_runtime.sampling.loop import PlanStep, guide, noised, run_plan, slerp
from ldm_runtime.text.conditioning import Conditioner
from ldm_runtime.text.notices import first_names, text_names
from ldm_runtime.text.tokenizer import Tokenizer
from ldm_runtime.text.weighting import SYNTAXES

if TYPE_CHECKING:
    from PIL import Image

UNPROVEN = Notice("package", "the package has not passed verification; prove it with `ldm-export verify`")
BUILTIN = Path(__file__).parent / "builtin"


def builtin_package() -> Path:
    """The folder of the package that is installed with the runtime; PackageError if there is none."""
    if not (BUILTIN / MANIFEST).exists():
        raise PackageError("this installation has no built-in model; give the folder of a package")
    return BUILTIN


def open_pipeline(
    path: str | PathLike[str] | None,
    *,
    engine: str,
    threads: int | None,
    engine_options: Mapping[str, Mapping[str, Any]] | None,
    check: Check,
) -> "Pipeline":
    """See `ldm_runtime.load`."""
    choice = choose(engine, threads=threads, options=engine_options)
    package = open_package(builtin_package() if path is None else path, check=check)
    try:
        pipeline = Pipeline(package, choice)
    except LdmError:
        package.confirm()  # a damaged file is a better explanation than what an engine made of it
        raise
    package.confirm()
    return pipeline


@dataclasses.dataclass(frozen=True)
class Step:
    """The state after one step of sampling. Decoding is done when asked for: a step costs nothing to skip."""

    index: int  # from 0
    total: int
    timestep: float
    latents: np.ndarray  # float32 (B, C, h, w), the caller's own: writing into it changes no other step
    request: Request
    pipeline: "Pipeline"
    taken: PlanStep

    def decode(self) -> np.ndarray:
        """The latents as pictures in [-1, 1] (a little beyond at times): float32 (B, 3, H, W)."""
        return self.pipeline.decode_array(self.latents)

    def images(self) -> "list[Image.Image]":
        """The latents as PIL images that carry how they were made in `info`, and into a PNG."""
        return self._images(self.decode())

    def preview(self) -> "list[Image.Image]":
        """What the model foretells at this step, as PIL images: early on a blurred picture, not a noisy one."""
        return self._images(self.pipeline.decode_array(self.taken.predicted()))

    def _images(self, pictures: np.ndarray) -> "list[Image.Image]":
        from ldm_runtime.image import to_images

        facts = {"model": self.pipeline.package.manifest.name, "package": self.pipeline.package.identity}
        if self.index + 1 != self.total:
            facts["stopped after"] = str(self.index + 1)
        return to_images(pictures, [{**self.request.metadata(b), **facts} for b in range(len(self.latents))])


class Pipeline:
    """Draws with an opened package. Use as a context manager, or call `close`, to free the memory early.

    `notices` holds what the last call has to say beside its result: text that did not fit
    into the window or is the language of another program, an argument without effect, a package without
    proof. One thread at a time may use a Pipeline, and only the process that loaded it: one that is forked
    later gets an EngineError.
    """

    def __init__(self, package: Package, choice: EngineChoice) -> None:
        self.package = package
        self.contract = package.manifest.contract
        self._components = Components(package, choice)
        self._engines = self._components.engines
        self._conditioner = Conditioner(Tokenizer(package), self._components.engine("text_encoder"), self.contract)
        for component in ("text_encoder", "unet", "vae_decoder"):
            self._components.open(component)
        self.notices = list(self._components.notices)

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        callback: Callable[[Step], bool | None] | None = None,
        **arguments: Any,
    ) -> "list[Image.Image]":
        """Draw: the images of the last step of `sample`, which takes the same arguments.

        callback: called after each step; if it returns False, the run ends and `Cancelled` is raised.
        """
        last = None
        for step in self.sample(prompt, **arguments):
            last = step
            if callback is not None and callback(step) is False:
                raise Cancelled(f"the run was cancelled after step {step.index + 1} of {step.total}")
        assert last is not None  # a plan has at least one row
        return last.images()

    def sample(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative: str | Sequence[str] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int | Sequence[int] | None = None,
        sampler: str | None = None,
        size: tuple[int, int] | None = None,
        count: int = 1,
        latents: Any = None,
        prompt_embeds: Any = None,
        noise: str = "philox",
        syntax: str = "plain",
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        variation: tuple[int, float] | None = None,
        image: "Image.Image | Sequence[Image.Image] | None" = None,
        mask: "Image.Image | None" = None,
        strength: float | None = None,
    ) -> Iterator[Step]:
        """Draw step by step; the caller may look at each step, and stop.

        prompt: a text or a list of them; "" is legal. negative: what to steer away from, one for all or each.
        steps, guidance, sampler, size (width, height): None takes the package's default. guidance of 1 or
        less evaluates the prompt alone. seed: of the first image, image b uses seed + b; or one for each; None
        draws one. count: images per prompt. latents: noise of unit variance (B, C, h, w) instead of the seed's.
        prompt_embeds: (B, T, D) instead of prompt. noise: "philox", or "torch" or "cuda" for the pictures that
        diffusers makes of a seed. syntax: "weighted" for `(word:1.3)`, `[word]`, BREAK and long prompts.
        guidance_rescale: 0 to 1, against overexposure. guidance_interval: shares of the run between which guidance
        is on. variation: (seed, strength), to go that far from the seed's noise to another seed's.
        image: a PIL image, or one for each, to start from. strength: how much of the run is taken from there, 0 to 1
        (default 0.8, with a mask 1). mask: a PIL image, white where `image` is painted anew.

        Arguments are checked here, not at the first step.

        Raises:
            InputError: an argument that this package cannot follow.
            NonFiniteError, while iterating: the model made NaN or infinity; no picture is made of it.
        """
        self._components.require()
        request = check_request(
            self.contract,
            prompt,
            negative=negative,
            steps=steps,
            guidance=guidance,
            seed=seed,
            sampler=sampler,
            size=size,
            count=count,
            latents=latents,
            prompt_embeds=prompt_embeds,
            noise=noise,
            syntax=syntax,
            guidance_rescale=guidance_rescale,
            guidance_interval=guidance_interval,
            variation=variation,
            image=image,
            mask=mask,
            strength=strength,
        )
        names = {**text_names("negative prompt", negative), **text_names("prompt", prompt)}
        made = self._conditioner.context(
            request.prompts,
            request.negatives if request.is_guided else (),
            request.prompt_embeds,
            names=names,
            syntax=request.syntax,
        )
        if request.pixels is not None:
            self._components.open("vae_encoder")
        self.notices = [*self._components.notices, *request.notices]
        if not self.package.manifest.proof.passed:
            self.notices.append(UNPROVEN)
        self.notices += without_effect(request, negative=negative, seed=seed)
        self.notices += made.notices
        return self._steps(request, made.context)

    def embed(
        self, prompts: str | Sequence[str], *, syntax: str = "plain", names: Sequence[str] | None = None
    ) -> np.ndarray:
        """The text encoder's last hidden state of each prompt: float32 (B, T, D).

        With syntax "weighted" T is a multiple of the window. names: what errors and notices call the prompts (None: by
        number). Raises InputError for anything but a text or a list of at least one.
        """
        self._components.require()
        texts = check_texts("prompts", prompts)
        if not texts:
            raise InputError("prompts is an empty list; expected a text or a list of at least one")
        if not isinstance(syntax, str) or syntax not in SYNTAXES:
            raise InputError(f"syntax is {shown(syntax)}; expected {' or '.join(SYNTAXES)}")
        if names is not None and len(check_texts("names", names)) != len(texts):
            raise InputError(f"names has {len(names)} texts for {len(texts)} prompts; give one for each")
        called = text_names("prompt", texts) if names is None else first_names(texts, names)
        embedded = self._conditioner.embed(texts, called, syntax)
        self.notices = embedded.notices
        return embedded.context

    def encode(self, image: "Image.Image | Sequence[Image.Image]") -> np.ndarray:
        """Mean and log-variance of the latents of PIL images of one size: float32 (B, 2C, h, w), unscaled.

        Raises InputError for a size that the package cannot handle.
        """
        from ldm_runtime.image import listed, pixels_of
        from ldm_runtime.image_modes import settled, size_of

        self._components.require()
        several = listed(image)
        check_together("the images", len(several), sum(math.prod(size_of(one)) for one in several))
        pictures = [settled(one) for one in several]
        pixels = pixels_of(pictures)  # (B, 3, H, W)
        check_image_size(self.contract, pixels.shape[3], pixels.shape[2], "the size of the image")
        self._components.open("vae_encoder")
        transparent = any(one.mode == "RGBA" for one in pictures)
        self.notices = [*self._components.notices, *([TRANSPARENT_IMAGE] if transparent else ())]
        return self._moments(pixels)

    def decode(self, latents: Any) -> "list[Image.Image]":
        """PIL images of latents as `sample` yields them, (B, C, h, w). See `decode_array`."""
        from ldm_runtime.image import to_images

        array = self.decode_array(latents)
        return to_images(array, [{"package": self.package.identity}] * len(array))

    def decode_array(self, latents: Any) -> np.ndarray:
        """Pictures of latents as `sample` yields them: (B, C, h, w) to float32 (B, 3, H, W) around [-1, 1].

        Raises InputError for latents that do not fit, NonFiniteError if the decoder makes NaN or infinity.
        """
        self._components.require()
        space = self.contract.latent
        array = check_shape("latents", latents, (None, space.channels, None, None))
        height, width = (side * space.downsample for side in array.shape[2:])
        check_image_size(self.contract, width, height, "the size of latents")
        if len(array) == 0:
            raise InputError("latents holds no image; expected at least one")
        check_together("latents", len(array), len(array) * width * height)
        unscaled = float_copy("latents", array) / np.float32(space.scale) + np.float32(space.shift)
        # One image at a time: the decoder's activations are what a run needs most memory for.
        return np.concatenate(
            [self._components.run("vae_decoder", {"latent_sample": one[None]})["sample"] for one in unscaled]
        )

    @property
    def info(self) -> dict[str, Any]:
        """What this pipeline is: name, identity, engine of each loaded component, default arguments."""
        defaults, image = self.contract.defaults, self.contract.image
        return {
            "name": self.package.manifest.name,
            "package": self.package.identity,
            "engines": dict(self._components.names),
            "sampler": defaults.sampler,
            "steps": defaults.steps,
            "guidance": defaults.guidance,
            "size": (image.width, image.height),
        }

    def close(self) -> None:
        """Free the memory; the pipeline and its steps cannot draw any more."""
        self._components.close()

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _steps(self, request: Request, context: np.ndarray) -> Iterator[Step]:
        space = self.contract.latent
        shape = (space.channels, request.height // space.downsample, request.width // space.downsample)
        noise = Noise(request.noise, request.seeds, shape)
        starts_from_noise = request.strength is None or (request.mask is not None and request.strength == 1.0)
        # In the order of diffusers, whose generators give one number after the other.
        picture, beside, blend = None, None, None
        if request.pixels is not None and not (starts_from_noise and self.contract.inpaints):
            picture = self._encode_sample(request.pixels, noise.stream(VAE_STREAM))
        initial = self._initial(request, noise, shape)
        if request.masked_pixels is not None:
            masked = self._encode_sample(request.masked_pixels, noise.stream(MASKED_STREAM))
            beside = np.concatenate(
                [np.broadcast_to(given(request.mask), (request.batch, 1, *shape[1:])), masked], axis=1
            )
        elif request.mask is not None:
            if request.noise != "philox":
                noise.stream(MASKED_STREAM)  # diffusers encodes the masked picture here too
            blend = _keeping(request, given(picture), initial)
        step: PlanStep
        for step in run_plan(
            request.plan,
            self._denoiser(request, context, shape, beside),
            initial,
            noise.row,
            picture=None if starts_from_noise else picture,
            blend=blend,
        ):
            yield Step(step.index, step.total, step.timestep, step.latents.copy(), request, self, step)

    def _denoiser(
        self, request: Request, context: np.ndarray, shape: tuple[int, ...], beside: np.ndarray | None
    ) -> Callable[[np.ndarray, float], np.ndarray]:
        """The UNet with guidance, which counts its calls: guidance may be off at some rows.

        beside: float32 (B, 1 + C, h, w), what an inpainting UNet reads after the latents.
        """
        batch, channels = request.batch, shape[0]
        if beside is not None:
            shape = (channels + beside.shape[1], *shape[1:])
        buffer = np.empty((len(context), *shape), dtype=np.float32)
        for first in range(0, len(context), batch) if beside is not None else ():
            buffer[first : first + batch, channels:] = beside
        rows = itertools.count()

        def evaluate(sample: np.ndarray, timestep: float, embeddings: np.ndarray) -> np.ndarray:
            feeds = {
                "sample": sample,
                "timestep": np.array(timestep, dtype=np.float32),
                "encoder_hidden_states": embeddings,
            }
            return self._components.open("unet").run(feeds)["out_sample"]

        def denoise(x: np.ndarray, timestep: float) -> np.ndarray:
            guided = request.is_guided_at(next(rows))
            if not guided and beside is None:
                return evaluate(np.ascontiguousarray(x), timestep, context[-batch:])
            buffer[:batch, :channels] = x
            if not guided:
                return evaluate(buffer[:batch], timestep, context[-batch:])
            buffer[batch:, :channels] = x
            output = evaluate(buffer, timestep, context)
            return guide(output[:batch], output[batch:], request.guidance, request.guidance_rescale)

        return denoise

    def _initial(self, request: Request, noise: Noise, shape: tuple[int, ...]) -> np.ndarray:
        """Noise of unit variance: given, or the seeds', or on the way from there to another seed's."""
        initial = noise.initial() if request.latents is None else request.latents
        if request.variation is None:
            return initial
        seed, strength = request.variation
        other = Noise(request.noise, batch_seeds(seed, request.batch), shape).initial()
        return np.stack([slerp(one, another, strength) for one, another in zip(initial, other, strict=True)])

    def _moments(self, pixels: np.ndarray) -> np.ndarray:
        """Of one image at a time, as in `decode_array`: (B, 3, H, W) to float32 (B, 2C, h, w)."""
        return np.concatenate(
            [self._components.run("vae_encoder", {"sample": one[None]})["latent_parameters"] for one in pixels]
        )

    def _encode_sample(self, pixels: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Latents of pictures, sampled from the encoder's moments with `noise`: float32 (B, C, h, w), scaled."""
        space = self.contract.latent
        mean, log_variance = np.split(self._moments(pixels), 2, axis=1)
        sampled = mean + np.exp(np.float32(0.5) * np.clip(log_variance, -30.0, 20.0)) * noise
        return np.asarray((sampled - np.float32(space.shift)) * np.float32(space.scale), dtype=np.float32)


def _keeping(request: Request, picture: np.ndarray, initial: np.ndarray) -> Callable[[int, np.ndarray], np.ndarray]:
    """After each row, where the mask is 0, the picture's own latents with the noise of the next row's level."""
    rows, painted = request.plan.rows, given(request.mask)

    def blend(index: int, x: np.ndarray) -> np.ndarray:
        kept = noised(rows[index + 1], picture, initial) if index + 1 < len(rows) else picture
        return np.asarray((np.float32(1.0) - painted) * kept + painted * x, dtype=np.float32)

    return blend
