"""The pipeline: an open package that draws images."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from ldm_runtime.checks import shown
from ldm_runtime.components import ComponentEngine, Components
from ldm_runtime.denoising import denoise
from ldm_runtime.effects import without_effect
from ldm_runtime.engines.choice import EngineChoice
from ldm_runtime.engines.engine import Engine
from ldm_runtime.errors import EngineError, InputError, PackageError
from ldm_runtime.image_memory import DecoderMemory
from ldm_runtime.latents import LatentCodec
from ldm_runtime.notice import Notice
from ldm_runtime.package.manifest import TextRole
from ldm_runtime.package.open import MANIFEST, Package
from ldm_runtime.package.variants import Caching, Variant
from ldm_runtime.request import Request, SampleOptions, check_image_size, check_request, check_together
from ldm_runtime.request_images import TRANSPARENT_IMAGE
from ldm_runtime.request_texts import check_texts
from ldm_runtime.request_values import check_choice, check_shape, float_copy
from ldm_runtime.run import Run, Step
from ldm_runtime.text.conditioning import Conditioner, TextEncoder
from ldm_runtime.text.notices import first_names, text_names
from ldm_runtime.text.tokenizer import Tokenizer
from ldm_runtime.text.weighting import SYNTAXES
from ldm_runtime.variants import VariantUnavailable, measured_otherwise

if TYPE_CHECKING:
    from PIL import Image

_LOG = logging.getLogger(__name__)

UNPROVEN = Notice("package", "the package has not passed verification; prove it with `ldm-export verify`")
BUILTIN = Path(__file__).parent / "builtin"


def builtin_package() -> Path:
    """Return the folder of the package that is installed with the runtime; raise PackageError if there is none."""
    if not (BUILTIN / MANIFEST).exists():
        message = "this installation has no built-in model; give the folder of a package"
        raise PackageError(message, code="package.missing")
    return BUILTIN


class Pipeline:
    """An open package that draws images. Use it as a context manager, or call `close`, to free the memory early.

    Threads may share a Pipeline: it holds no state of a call. Each call is drawn by the thread that makes it, and the
    images are those that it draws alone. `close` waits for the evaluations that are going on; a run that is not at its
    end then gets an EngineError, and so does a process that was forked from the one that loaded the package.

    engines: engines by component, used in place of those of `choice`; they are closed with the pipeline.
    variant: of the package, a lossy way to draw; None draws exactly. notices: that every run has.

    Raises VariantUnavailable if an engine of the variant's does not open, EngineError if another one does not.
    """

    def __init__(
        self,
        package: Package,
        choice: EngineChoice,
        *,
        engines: Mapping[str, Engine] | None = None,
        variant: Variant | None = None,
        notices: Sequence[Notice] = (),
    ) -> None:
        self.package = package
        self.contract = package.manifest.contract
        self.variant = variant
        self._notices = tuple(notices)
        self._components = Components(package, choice, engines, variant)
        self._conditioner = Conditioner([self._text_encoder(role) for role in self.contract.text], self.contract)
        self._codec = LatentCodec(self._components, self.contract)
        self._memory = DecoderMemory(package, self._components, self._codec)
        for component in self.contract.components:
            if component != self.contract.codec.encoder.component:  # opened when an image is given
                self._open(component)
        if self._caching is not None:
            self._open(self.contract.denoiser.component, self._caching.reads)

    def _open(self, component: str, artefact: str | None = None) -> None:
        """Open an engine. Raises VariantUnavailable, by the error that it got, where it is a variant's."""
        try:
            self._components.open(component, artefact)
        except EngineError as error:
            denoiser = self.contract.denoiser.component
            if self.variant is None or not self.variant.artefacts_of(component, denoiser):
                raise
            raise VariantUnavailable(f"the variant {self.variant.name} does not run here: {error}") from error

    @property
    def _caching(self) -> Caching | None:
        return None if self.variant is None else self.variant.run.caching

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        callback: Callable[[Step], bool | None] | None = None,
        **options: Unpack[SampleOptions],
    ) -> "list[Image.Image]":
        """Draw, and return the images of the last step. The options are those of `sample`. Notices are logged.

        callback: called after each step; if it returns False, the run ends and `Cancelled` is raised.
        """
        run = self.sample(prompt, **options)
        for notice in run.notices:
            _LOG.warning("%s", notice)
        last = None
        for last in run:
            goes_on = None if callback is None else callback(last)
            if isinstance(goes_on, bool | np.bool_) and not goes_on:
                run.cancel()
        assert last is not None  # a run has at least one step
        return last.images()

    def sample(self, prompt: str | Sequence[str] | None = None, **options: Unpack[SampleOptions]) -> Run:
        """Return a run that draws step by step: the caller iterates over it, may look at each step, and may stop.

        prompt: a text or a list of them; "" is legal. The options are those of `SampleOptions`; they are checked here,
        not at the first step.

        Raises:
            InputError: an option has a value that this package does not support, or an image would not fit in memory.
            TypeError: an option does not exist.
            NonFiniteError, while iterating: the model made NaN or infinity; no image is made of it.
        """
        self._components.require()
        request = check_request(self.contract, prompt, options, None if self.variant is None else self.variant.run)
        self._memory.require(request.width, request.height)
        negative = options.get("negative")
        conditioning = self._conditioner.context(
            request.prompts,
            request.negatives if request.is_guided and not request.zero_negative else (),
            request.prompt_embeds,
            request.pooled_prompt_embeds,
            names={**text_names("negative prompt", negative), **text_names("prompt", prompt)},
            syntax=request.syntax,
        )
        if request.zero_negative:
            conditioning = conditioning.after_zeros()
        for text in self.contract.text:
            self._components.rest(text.component)  # the denoiser needs the memory
        if request.pixels is not None:
            self._components.open(self.contract.codec.encoder.component)
        notices = [
            *self._notices,
            *(() if self.variant is None else measured_otherwise(self.variant, request)),
            *self._components.notices,
            *request.notices,
            *(() if self.package.manifest.proof.passed else (UNPROVEN,)),
            *self._without_effect(request, options),
            *conditioning.notices,
        ]
        states = denoise(request, conditioning, self.contract, self._components, self._codec, self._caching)
        return Run(request, notices, states, self._codec, self._model)

    def embed(
        self,
        prompts: str | Sequence[str],
        *,
        syntax: str = "plain",
        names: Sequence[str] | None = None,
        notices: list[Notice] | None = None,
    ) -> np.ndarray:
        """Embed each prompt as the denoiser's context: float32 (B, T, D).

        With syntax "weighted" T is a multiple of the window. names: what errors and notices call the prompts (None: by
        number). notices: a list that notices are appended to. Raises InputError for anything but a text or a list of at
        least one.
        """
        return self.embed_pooled(prompts, syntax=syntax, names=names, notices=notices)[0]

    def embed_pooled(
        self,
        prompts: str | Sequence[str],
        *,
        syntax: str = "plain",
        names: Sequence[str] | None = None,
        notices: list[Notice] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Embed as `embed`, and return the pooled text too: float32 (B, P), P 0 where the denoiser reads none."""
        self._components.require()
        _check_notices(notices)
        texts = check_texts("prompts", prompts)
        if not texts:
            raise InputError("prompts is an empty list; expected a text or a list of at least one")
        check_choice("syntax", syntax, SYNTAXES)
        own = None if names is None else check_texts("names", names)
        if own is not None and len(own) != len(texts):
            raise InputError(f"names has {len(own)} texts for {len(texts)} prompts; give one for each")
        called = text_names("prompt", texts) if own is None else first_names(texts, own)
        embedded = self._conditioner.embed(texts, called, syntax)
        if notices is not None:
            notices += embedded.notices
        return embedded.context, embedded.pooled

    def encode(
        self, image: "Image.Image | Sequence[Image.Image]", *, notices: list[Notice] | None = None
    ) -> np.ndarray:
        """Return mean and log-variance of the latents of PIL images of one size: float32 (B, 2C, h, w), unscaled.

        An autoencoder that draws nothing gives the latents themselves, (B, C, h, w).
        notices: a list that notices are appended to. Raises InputError for a size that the package cannot handle.
        """
        from ldm_runtime.image import listed, pixels_of
        from ldm_runtime.image_modes import settled
        from ldm_runtime.image_size import size_of

        self._components.require()
        _check_notices(notices)
        several = listed(image)
        check_together("the images", len(several), sum(math.prod(size_of(one)) for one in several))
        images = [settled(one) for one in several]
        pixels = pixels_of(images)  # (B, 3, H, W)
        check_image_size(self.contract, pixels.shape[3], pixels.shape[2], "the size of the image")
        moments = self._codec.moments(pixels)
        if notices is not None:
            notices += self._components.notices
            notices += [TRANSPARENT_IMAGE] if any(one.mode == "RGBA" for one in images) else []
        return moments

    def decode(self, latents: Any) -> "list[Image.Image]":
        """Decode latents as `sample` yields them, (B, C, h, w), to PIL images. See `decode_array`."""
        from ldm_runtime.image import to_images

        array = self.decode_array(latents)
        origin = {name: fact for name, fact in self._model.items() if name != "model"}
        return to_images(array, [origin] * len(array))

    def decode_array(self, latents: Any) -> np.ndarray:
        """Decode latents as `sample` yields them, (B, C, h, w), to pixels around [-1, 1]: float32 (B, 3, H, W).

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
        return self._codec.decode(float_copy("latents", array))

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The engines that are open, by component."""
        return MappingProxyType(self._components.engines)

    def component(self, name: str) -> ComponentEngine:
        """Return one component, which is opened when it is first run."""
        self._components.require()
        return self._components.engine(name)

    @property
    def info(self) -> dict[str, Any]:
        """Name, identity, variant (None: it draws exactly), engine of each open component, and default options."""
        defaults, image = self.contract.defaults, self.contract.image
        return {
            "name": self.package.manifest.name,
            "package": self.package.identity,
            "variant": None if self.variant is None else self.variant.name,
            "engines": dict(self._components.names),
            "sampler": defaults.sampler,
            "steps": defaults.steps,
            "guidance": defaults.guidance,
            "size": (image.width, image.height),
        }

    def close(self) -> None:
        """Free the memory; the pipeline, its runs and their steps cannot draw any more.

        Any thread may call it. It waits for evaluations that are going on, not for runs.
        """
        self._components.close()

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _text_encoder(self, role: TextRole) -> TextEncoder:
        dtype = self.contract.tensor(role.component, role.input).dtype
        tokenizer = Tokenizer(self.package, role.tokenizer)
        return TextEncoder(role, dtype, tokenizer, self._components.engine(role.component))

    def _without_effect(self, request: Request, options: SampleOptions) -> list[Notice]:
        """List the options of the caller's that change nothing; a variant's own are not the caller's."""
        notices = without_effect(request, negative=options.get("negative"), seed=options.get("seed"))
        is_own = options.get("guidance_interval") is not None
        return [notice for notice in notices if is_own or notice.about != "guidance_interval"]

    @property
    def _model(self) -> dict[str, str]:
        made = {} if self.variant is None else {"variant": self.variant.name}
        return {"model": self.package.manifest.name, "package": self.package.identity, **made}


def _check_notices(notices: Any) -> None:
    if notices is not None and not isinstance(notices, list):
        raise InputError(f"notices is {shown(notices)}; expected a list that notices are appended to")
