"""From a prompt to pictures: tokenise, embed, sample with guidance, decode."""

import dataclasses
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ldm_runtime import engines, rng
from ldm_runtime.arguments import Request, check_float_array, check_image_size, check_request, check_texts
from ldm_runtime.errors import InputError, LdmError, NonFiniteError, PackageError
from ldm_runtime.package import MANIFEST, Check, Package, open_package
from ldm_runtime.sampler import PlanStep, guide, run_plan
from ldm_runtime.tokenizer import Tokenizer

if TYPE_CHECKING:
    from PIL import Image

BUILTIN = Path(__file__).parent / "builtin"


def builtin_package() -> Path:
    """The folder of the package that is installed with the runtime; PackageError if there is none."""
    if not (BUILTIN / MANIFEST).exists():
        raise PackageError("this installation has no built-in model; give the folder of a package")
    return BUILTIN


def open_pipeline(path: str | PathLike[str] | None, *, engine: str, check: Check) -> "Pipeline":
    """See `ldm_runtime.load`."""
    engines.check_name(engine)
    package = open_package(builtin_package() if path is None else Path(path), check=check)
    try:
        pipeline = Pipeline(package, engine)
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
    latents: np.ndarray  # float32 (B, C, h, w)
    request: Request
    pipeline: "Pipeline"

    def decode(self) -> np.ndarray:
        """The latents as pictures in [-1, 1] (a little beyond at times): float32 (B, 3, H, W)."""
        return self.pipeline.decode_array(self.latents)

    def images(self) -> "list[Image.Image]":
        """The latents as PIL images that carry how they were made in `info`, and into a PNG."""
        from ldm_runtime.image import to_images

        return to_images(self.decode(), [self.pipeline.describe(self, b) for b in range(len(self.latents))])


class Pipeline:
    """Draws with an opened package. Use as a context manager, or call `close`, to free the memory early.

    `notices` holds what the last call has to say beside its result, as sentences: text that did not fit
    into the window, an argument without effect, a package without proof. One thread at a time may use a Pipeline.
    """

    def __init__(self, package: Package, engine: str) -> None:
        self.package = package
        self.contract = package.manifest.contract
        self.notices: list[str] = []
        self._engine_name = engine
        self._engines: dict[str, engines.Engine] = {}
        self._tokenizer = Tokenizer(package)
        for component in ("text_encoder", "unet", "vae_decoder"):
            self._engine(component)

    def __call__(self, prompt: str | Sequence[str] | None = None, **arguments: Any) -> "list[Image.Image]":
        """Draw: the images of the last step of `sample`, which takes the same arguments."""
        last = None
        for step in self.sample(prompt, **arguments):
            last = step
        assert last is not None  # a plan has at least one row
        return last.images()

    def sample(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative: str | Sequence[str] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int | None = None,
        sampler: str | None = None,
        size: tuple[int, int] | None = None,
        count: int = 1,
        latents: Any = None,
        prompt_embeds: Any = None,
        noise: str = "philox",
    ) -> Iterator[Step]:
        """Draw step by step; the caller may look at each step, and stop.

        prompt: a text or a list of them; "" is legal. negative: what to steer away from, one for all or each.
        steps, guidance, sampler, size (width, height): None takes the package's default. guidance of 1 or
        less evaluates the prompt alone. seed: of the first image, image b uses seed + b; None draws one.
        count: images per prompt. latents: noise of unit variance (B, C, h, w) instead of the seed's.
        prompt_embeds: (B, T, D) instead of prompt. noise: the generator, "philox".

        Arguments are checked here, not at the first step.

        Raises:
            InputError: an argument that this package cannot follow.
            NonFiniteError, while iterating: the model made NaN or infinity; no picture is made of it.
        """
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
        )
        self.notices = []
        if not self.package.manifest.proof.passed:
            self.notices.append("the package has not passed verification; prove it with `ldm-export verify`")
        if negative is not None and not request.is_guided:
            self.notices.append(f"negative has no effect with guidance {request.guidance:g}; it needs more than 1")
        context = self._context(request)  # (B or 2B, T, D)
        return self._steps(request, context)

    def embed(self, prompts: str | Sequence[str]) -> np.ndarray:
        """The text encoder's last hidden state of each prompt: float32 (B, T, D).

        Raises InputError for anything but a text or a list of at least one.
        """
        texts = check_texts("prompts", prompts)
        if not texts:
            raise InputError("prompts is an empty list; expected a text or a list of at least one")
        self.notices = []
        return self._embed(texts)

    def encode(self, image: "Image.Image | Sequence[Image.Image]") -> np.ndarray:
        """Mean and log-variance of the latents of PIL images of one size: float32 (B, 2C, h, w), unscaled.

        Raises InputError for a size that the package cannot handle.
        """
        from ldm_runtime.image import from_images

        pixels = from_images(image)  # (B, 3, H, W)
        check_image_size(self.contract, pixels.shape[3], pixels.shape[2], "the size of the image")
        return np.concatenate([self._run("vae_encoder", {"sample": one[None]})["latent_parameters"] for one in pixels])

    def decode(self, latents: Any) -> "list[Image.Image]":
        """PIL images of latents as `sample` yields them, (B, C, h, w). See `decode_array`."""
        from ldm_runtime.image import to_images

        array = self.decode_array(latents)
        return to_images(array, [{"package": self.package.identity}] * len(array))

    def decode_array(self, latents: Any) -> np.ndarray:
        """Pictures of latents as `sample` yields them: (B, C, h, w) to float32 (B, 3, H, W) around [-1, 1].

        Raises InputError for latents that do not fit, NonFiniteError if the decoder makes NaN or infinity.
        """
        space = self.contract.latent
        array = check_float_array("latents", latents, (None, space.channels, None, None))
        check_image_size(
            self.contract,
            array.shape[3] * space.downsample,
            array.shape[2] * space.downsample,
            "the size of latents",
        )
        if len(array) == 0:
            raise InputError("latents holds no image; expected at least one")
        unscaled = array / np.float32(space.scale) + np.float32(space.shift)
        # One image at a time: the decoder's activations are what a run needs most memory for.
        return np.concatenate([self._run("vae_decoder", {"latent_sample": one[None]})["sample"] for one in unscaled])

    def describe(self, step: Step, image: int) -> dict[str, str]:
        """How image `image` of a step was made, as PNG metadata. The same arguments make it again."""
        request = step.request
        facts = {
            "prompt": "" if request.prompts is None else request.prompts[image],
            "negative": request.negatives[image] if request.is_guided else "",
            "seed": request.seed_of(image),
            "sampler": request.plan.sampler,
            "steps": request.plan.steps,
            "guidance": f"{request.guidance:.9g}",
            "size": f"{request.width}x{request.height}",
            "noise": request.noise if request.latents is None else "given latents",
            "model": self.package.manifest.name,
            "package": self.package.identity,
        }
        if request.prompts is None:
            facts["conditioning"] = "given embeddings"
        if step.index + 1 != step.total:
            facts["stopped after"] = step.index + 1
        return {key: str(value) for key, value in facts.items()}

    @property
    def info(self) -> dict[str, Any]:
        """What this pipeline is: name, identity, engine, default arguments."""
        defaults, image = self.contract.defaults, self.contract.image
        return {
            "name": self.package.manifest.name,
            "package": self.package.identity,
            "engine": engines.check_name(self._engine_name),
            "sampler": defaults.sampler,
            "steps": defaults.steps,
            "guidance": defaults.guidance,
            "size": (image.width, image.height),
        }

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _engine(self, component: str) -> engines.Engine:
        if component not in self._engines:
            self._engines[component] = engines.open_engine(self._engine_name, self.package, component)
        return self._engines[component]

    def _run(self, component: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = self._engine(component).run(feeds)
        for name, value in outputs.items():
            if not np.isfinite(value).all():
                raise NonFiniteError(
                    f"{component} made NaN or infinity in {name}; no picture is made of it: check the "
                    f"package with `ldm-export verify {self.package.path}`"
                )
        return outputs

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        encoded = self._tokenizer.encode(texts)
        for dropped in dict.fromkeys(encoded.dropped):
            if dropped:
                self.notices.append(
                    f"the text is longer than {self.contract.tokenizer.max_length} tokens; "
                    f"this was left out: {dropped!r}"
                )
        dtype = self.contract.tensor("text_encoder", "input_ids").dtype
        # One prompt at a time: an embedding does not depend on its neighbours in the batch.
        feeds = ({"input_ids": row[None].astype(dtype)} for row in encoded.ids)
        return np.concatenate([self._run("text_encoder", feed)["last_hidden_state"] for feed in feeds])

    def _context(self, request: Request) -> np.ndarray:
        """Embeddings for the UNet: float32 (B, T, D), or (2B, T, D) with the negative ones first."""
        texts = [*(request.negatives if request.is_guided else ())]
        texts += [] if request.prompts is None else request.prompts
        unique = list(dict.fromkeys(texts))
        known = dict(zip(unique, self._embed(unique), strict=True)) if unique else {}
        embeds = request.prompt_embeds
        if embeds is None:
            return np.stack([known[text] for text in texts])
        if not request.is_guided:
            return embeds
        negative = np.stack([known[text] for text in texts])
        windows, rest = divmod(embeds.shape[1], negative.shape[1])
        if rest != 0:
            raise InputError(
                f"prompt_embeds has {embeds.shape[1]} tokens; with guidance, expected a multiple of "
                f"{negative.shape[1]}, the window of the negative prompt"
            )
        return np.concatenate([np.tile(negative, (1, windows, 1)), embeds])

    def _steps(self, request: Request, context: np.ndarray) -> Iterator[Step]:
        space = self.contract.latent
        shape = (space.channels, request.height // space.downsample, request.width // space.downsample)
        batch = request.batch
        buffer = np.empty((len(context), *shape), dtype=np.float32)

        def denoise(x: np.ndarray, timestep: float) -> np.ndarray:
            buffer[:batch] = x
            if request.is_guided:
                buffer[batch:] = x
            feeds = {
                "sample": buffer,
                "timestep": np.array(timestep, dtype=np.float32),
                "encoder_hidden_states": context,
            }
            output = self._engine("unet").run(feeds)["out_sample"]
            return guide(output[:batch], output[batch:], request.guidance) if request.is_guided else output

        def noise(row: int) -> np.ndarray:
            return rng.row_noise(request.seed, batch, row, shape)

        latents = request.latents
        initial = rng.initial_noise(request.seed, batch, shape) if latents is None else latents
        step: PlanStep
        for step in run_plan(request.plan, denoise, initial, noise):
            yield Step(step.index, step.total, step.timestep, step.latents, request, self)
