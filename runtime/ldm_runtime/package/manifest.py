"""manifest.json: the contract, identity, provenance and proof of a package, as frozen dataclasses.

The forms of its components are in `artefacts.py`, faster ways to draw in `variants.py`. `manifest_json.py` reads and
writes all of it as text. Whether the files agree is up to `open.py`.
"""

import dataclasses
import functools
from typing import Any, Literal, TypeVar, cast

import numpy as np

from ldm_runtime.files.strict_json import OPTIONAL
from ldm_runtime.package.artefacts import Artefact, Component
from ldm_runtime.package.tensor_spec import ComponentContract, Dim, TensorSpec
from ldm_runtime.package.variants import Variant
from ldm_runtime.sampling.schedule import Schedule
from ldm_runtime.sampling.solvers import Sampler, read_sampler

SCHEMA_VERSION = 3
LOG_VARIANCE = (-30.0, 20.0)  # a latent's posterior; values beyond are clipped, as in diffusers

Array = TypeVar("Array")

ExtraRule = Literal["pooled_text", "image_sizes", "guidance_embedding"]
ConcatChannels = Literal["mask", "masked_latents"]


@dataclasses.dataclass(frozen=True)
class Multiple:
    """A size that is always `factor` times that of `axis`: pixels of an image, of latent pixels."""

    axis: str
    factor: int


@dataclasses.dataclass(frozen=True)
class Axis:
    """A dynamic axis: the sizes it may have, and those at which engine and reference were compared."""

    min: int
    max: int
    proven: tuple[int, ...]
    multiple_of: Multiple | None  # None: any size from min to max


@dataclasses.dataclass(frozen=True)
class LatentSpec:
    """The latent space: the denoiser takes z = (mean - shift) * scale, the decoder takes z / scale + shift.

    Both constants are rounded to single precision, in which every runtime computes. Arrays are NumPy's or torch's.
    """

    channels: int
    downsample: int  # image pixels per latent pixel, along each side
    scale: float
    shift: float

    def scaled(self, latents: Array) -> Array:
        """Convert the autoencoder's latents to the denoiser's."""
        values: Any = latents
        return cast(Array, (values - np.float32(self.shift)) * np.float32(self.scale))

    def unscaled(self, latents: Array) -> Array:
        """Convert the denoiser's latents to the autoencoder's."""
        values: Any = latents
        return cast(Array, values / np.float32(self.scale) + np.float32(self.shift))

    def sample(self, moments: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """Draw the denoiser's latents (B, C, h, w) from mean and log-variance (B, 2C, h, w), with `noise`.

        None: `moments` are latents already, (B, C, h, w).
        """
        if noise is None:
            return self.scaled(moments)
        mean, log_variance = np.split(moments, 2, axis=1)
        halves = np.float32(0.5) * np.clip(log_variance, *LOG_VARIANCE)
        # numpy's exp of float32 is off by up to 2.4 units in the last place, and another one than C's.
        deviation = np.exp(halves.astype(np.float64)).astype(np.float32)
        return self.scaled(mean + deviation * noise)


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """The default image size, in pixels."""

    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Defaults:
    """Values that `run` takes where none are given.

    zero_negative: whether, without a negative prompt, guidance takes zeros in place of all that the text encoders make
    of the empty one.
    """

    sampler: str
    steps: int
    guidance: float
    zero_negative: bool = dataclasses.field(default=False, metadata=OPTIONAL)

    @functools.cached_property
    def parsed_sampler(self) -> Sampler:
        """Return `sampler`, parsed once."""
        return read_sampler(self.sampler)


@dataclasses.dataclass(frozen=True)
class TokenizerFacts:
    """A tokenizer of CLIP's kind. `file` is the relative posix path of its tokenizer.json."""

    file: str
    max_length: int  # tokens of one window, with the begin and end tokens
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    vocab_size: int


@dataclasses.dataclass(frozen=True)
class TextRole:
    """A component that encodes a window of tokens.

    output: encoder hidden states (B, T, D); those of all text encoders, joined along D, are the denoiser's context.
    pooled: the output (B, P) that an extra input of the denoiser reads; None where none does.
    """

    component: str
    input: str
    tokenizer: TokenizerFacts
    output: str
    pooled: str | None


@dataclasses.dataclass(frozen=True)
class DenoiserRole:
    """The component that is evaluated at each row of a sampling plan, and the meaning of its inputs.

    extra: other inputs -> the rule that makes each, (B, N) float32. "pooled_text": the pooled outputs of the text
    encoders, joined. "image_sizes": height and width of the original, top and left of the crop from it, height and
    width of the image; a run may say others than the image's own.
    "guidance_embedding": sines, then cosines, of (guidance - 1) * 1000 at frequencies from 1 to 1/10000, evenly spaced
    in the logarithm; such a denoiser is evaluated for the prompt alone.
    """

    component: str
    sample: str
    timestep: str
    context: str
    extra: dict[str, ExtraRule]
    output: str


@dataclasses.dataclass(frozen=True)
class CodecHalf:
    """A component between images (B, 3, H, W) and latents: its input and its output."""

    component: str
    input: str
    output: str


@dataclasses.dataclass(frozen=True)
class CodecRole:
    """The autoencoder; `name` is what both halves are called together.

    Its encoder gives mean and log-variance, of which latents are drawn, in twice as many channels as latents have; or
    the latents themselves.
    """

    name: str
    encoder: CodecHalf
    decoder: CodecHalf


@dataclasses.dataclass(frozen=True)
class Contract:
    """Everything a runtime has to know; it guesses nothing.

    concat: what follows the latents along the channels of the denoiser's sample, in this order.
    """

    components: dict[str, ComponentContract]
    axes: dict[str, Axis]
    text: tuple[TextRole, ...]
    denoiser: DenoiserRole
    concat: tuple[ConcatChannels, ...]
    codec: CodecRole
    latent: LatentSpec
    image: ImageSpec
    schedule: Schedule
    defaults: Defaults

    def tensor(self, component: str, name: str) -> TensorSpec:
        """Return the input or output `name` of `component`; KeyError if there is none."""
        contract = self.components[component]
        for spec in (*contract.inputs, *contract.outputs):
            if spec.name == name:
                return spec
        raise KeyError(f"{component} has no input or output {name!r}")

    @property
    def sample(self) -> TensorSpec:
        """Return the denoiser's latents (B, C, h, w), with the concat channels."""
        return self.tensor(self.denoiser.component, self.denoiser.sample)

    @property
    def context(self) -> TensorSpec:
        """Return the denoiser's encoder hidden states (B, T, D)."""
        return self.tensor(self.denoiser.component, self.denoiser.context)

    @property
    def window(self) -> int:
        """Return the tokens of one window of text, the same for all text encoders."""
        return self.text[0].tokenizer.max_length

    @property
    def inpaints(self) -> bool:
        """Return whether the denoiser reads a mask and the latents of the masked image."""
        return "mask" in self.concat

    @property
    def pooled_width(self) -> int:
        """Return the numbers of pooled text that the denoiser reads, 0 if it reads none."""
        role = self.denoiser
        widths = [
            self.tensor(role.component, name).dims[1] for name, rule in role.extra.items() if rule == "pooled_text"
        ]
        return sum(width for width in widths if isinstance(width, int))

    @property
    def reads_sizes(self) -> bool:
        """Return whether the denoiser reads sizes of the image."""
        return "image_sizes" in self.denoiser.extra.values()

    @property
    def encodes_moments(self) -> bool:
        """Return whether the codec's encoder gives mean and log-variance; else it gives latents."""
        encoder = self.codec.encoder
        return self.tensor(encoder.component, encoder.output).dims[1] == 2 * self.latent.channels

    @property
    def embeds_guidance(self) -> bool:
        """Return whether the denoiser reads the guidance scale as an input."""
        return "guidance_embedding" in self.denoiser.extra.values()

    def evaluates_negative(self, guidance: float) -> bool:
        """Return whether the denoiser is evaluated for the negative prompt too: at guidance 1 that would cancel out."""
        return guidance > 1.0 and not self.embeds_guidance

    def range_of(self, dim: Dim) -> tuple[int, int]:
        """Return the smallest and largest size of a dimension."""
        if isinstance(dim, int):
            return dim, dim
        return self.axes[dim].min, self.axes[dim].max

    def sizes(self, component: str, *, batch: int, width: int, height: int, windows: int = 1) -> dict[str, int]:
        """Return the size of every axis of `component` in an evaluation.

        batch: prompts, images or latents at once; with guidance the denoiser has two for each image. width, height:
        of an image, in pixels. windows: of text in the context.
        """
        latent = (batch, self.latent.channels, height // self.latent.downsample, width // self.latent.downsample)
        shapes: dict[tuple[str, str], tuple[Dim, ...]] = {
            (text.component, text.input): (batch, self.window) for text in self.text
        }
        shapes[self.denoiser.component, self.denoiser.sample] = latent
        shapes[self.denoiser.component, self.denoiser.context] = (batch, windows * self.window, self.context.dims[2])
        shapes[self.codec.encoder.component, self.codec.encoder.input] = (batch, 3, height, width)
        shapes[self.codec.decoder.component, self.codec.decoder.input] = latent
        shapes[self.codec.encoder.component, self.codec.encoder.output] = latent
        shapes[self.codec.decoder.component, self.codec.decoder.output] = (batch, 3, height, width)
        return {
            dim: size
            for (owner, name), shape in shapes.items()
            for dim, size in zip(self.tensor(owner, name).dims, shape, strict=True)
            if owner == component and isinstance(dim, str) and isinstance(size, int)
        }


@dataclasses.dataclass(frozen=True)
class FileEntry:
    sha256: str
    size: int


@dataclasses.dataclass(frozen=True)
class Source:
    name: str
    sha256: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Provenance:
    family: str  # of models, by the exporter's name; a runtime needs the contract alone
    source: Source
    tools: dict[str, str]
    opset: int
    ir_version: int
    recipe: dict[str, Any]
    created_with: str


@dataclasses.dataclass(frozen=True)
class Proof:
    passed: bool
    report: str
    summary: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A manifest. `files` lists all files but manifest.json and the reports that `verify` rewrites."""

    schema_version: int
    name: str
    contract: Contract
    components: dict[str, Component]
    files: dict[str, FileEntry]
    provenance: Provenance
    dropped: tuple[str, ...]
    proof: Proof
    variants: tuple[Variant, ...] = dataclasses.field(default=(), metadata=OPTIONAL)

    def pickable(self, component: str) -> tuple[Artefact, ...]:
        """List the artefacts of a component that an engine may pick by itself, in the manifest's order.

        Of the others, a variant has the error, or their inputs and outputs are not the component's.
        """
        denoiser = self.contract.denoiser.component
        named = {name for variant in self.variants for name in variant.artefacts_of(component, denoiser)}
        return tuple(
            each
            for each in self.components[component].artefacts
            if each.interface is None and not (each.exactness == "lossy" and each.name in named)
        )
