"""What each component's graph takes and gives, said once: names, dtypes, axes, samples.

Names, dtypes and ranks are those that optimum-onnx 0.1 writes and opens (`ORTStableDiffusionPipeline`);
exporter, verifier and manifest all read this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ldm_export.configs.config import TextEncoderConfig, UNetConfig, VAEConfig
from ldm_runtime.package.manifest import ComponentContract, TensorSpec

OPSET = 18
IR_VERSION = 10

# The largest axes that a package promises. Latent sizes are in latent pixels.
MAX_BATCH = 64
MAX_LATENT_SIZE = 256
MAX_TEXT_WINDOWS = 4  # of the text encoder's tokens, joined to one context for the UNet

Sizes = Mapping[str, int]  # axis name -> size


@dataclass(frozen=True)
class Axis:
    """A dynamic axis, and the one size at which the graph is traced."""

    minimum: int
    maximum: int
    traced: int

    def __post_init__(self) -> None:
        assert self.minimum <= self.traced <= self.maximum


@dataclass(frozen=True)
class Multiple:
    """An axis that is always a whole multiple of another: image pixels of latent pixels."""

    of: str
    factor: int


@dataclass(frozen=True)
class ComponentSpec:
    """One graph of the package. `part` is the checkpoint's model that it is cut from."""

    name: str
    part: str  # "text_encoder", "unet" or "vae"
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    axes: Mapping[str, Axis]
    multiples: Mapping[str, Multiple]
    probes: tuple[Sizes, ...]  # sizes of all `axes`, none of them traced: what verification runs
    vocabulary: tuple[int, int] | None = None  # size, end-of-text id
    scale: float = 1.0  # of random values: latents have the spread that the decoder was trained on
    traced: Sizes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "traced", {name: axis.traced for name, axis in self.axes.items()})
        for probe in self.probes:
            assert probe.keys() == self.axes.keys()
            for name, axis in self.axes.items():
                assert axis.minimum <= probe[name] <= axis.maximum and probe[name] != axis.traced

    @property
    def contract(self) -> ComponentContract:
        return ComponentContract(self.inputs, self.outputs)

    @property
    def factors(self) -> dict[str, int]:
        """Axes that are always whole multiples of a number, by name."""
        return {name: multiple.factor for name, multiple in self.multiples.items()}

    def size_range(self, axis: str) -> tuple[int, int]:
        """Smallest and largest legal size of an axis, image axes included."""
        if axis in self.multiples:
            multiple = self.multiples[axis]
            source = self.axes[multiple.of]
            return source.minimum * multiple.factor, source.maximum * multiple.factor
        return self.axes[axis].minimum, self.axes[axis].maximum

    def all_sizes(self, sizes: Sizes) -> dict[str, int]:
        """Sizes of `axes` completed by those of `multiples`."""
        return {**sizes, **{name: sizes[of.of] * of.factor for name, of in self.multiples.items()}}

    def shape(self, tensor: TensorSpec, sizes: Sizes) -> tuple[int, ...]:
        """The shape of an input or output where the axes have these sizes."""
        complete = self.all_sizes(sizes)
        return tuple(dim if isinstance(dim, int) else complete[dim] for dim in tensor.dims)

    def sample(self, sizes: Sizes, seed: int) -> dict[str, np.ndarray]:
        """Random inputs at these sizes: same spec, sizes and seed, same values.

        Every row of tokens holds an end-of-text token somewhere; timesteps are fractional, as some
        samplers make them; latents and pictures are normally distributed.
        """
        random = np.random.default_rng(seed)
        return {tensor.name: self._draw(tensor, sizes, random) for tensor in self.inputs}

    def _draw(self, tensor: TensorSpec, sizes: Sizes, random: np.random.Generator) -> np.ndarray:
        shape = self.shape(tensor, sizes)
        if tensor.dtype == "int64":
            assert self.vocabulary is not None
            size, end = self.vocabulary
            ids = random.integers(0, size, shape)
            if end < size:
                ids[np.arange(shape[0]), random.integers(0, shape[1], shape[0])] = end
            return ids
        if tensor.name == "timestep":
            return np.full(shape, random.uniform(0, 999), np.float32)
        return np.float32(self.scale) * random.standard_normal(shape, np.float32)


def specs(text_encoder: TextEncoderConfig, unet: UNetConfig, vae: VAEConfig) -> dict[str, ComponentSpec]:
    """The four components of a pipeline with these configs."""
    components = (
        _text_encoder(text_encoder),
        _unet(unet, text_encoder),
        _vae_encoder(vae),
        _vae_decoder(vae),
    )
    return {spec.name: spec for spec in components}


# Traced sizes are odd, larger than any probe and no multiple of one another: none is special in the trace.
_BATCH = Axis(1, MAX_BATCH, traced=3)
_LATENT = {
    "batch": _BATCH,
    "height": Axis(1, MAX_LATENT_SIZE, traced=67),
    "width": Axis(1, MAX_LATENT_SIZE, traced=93),
}
_LATENT_PROBES = ((1, 8, 8), (2, 5, 12), (4, 9, 3))


def _text_encoder(config: TextEncoderConfig) -> ComponentSpec:
    window = config.max_position_embeddings
    tokens = Axis(1, window, traced=max(window // 2, 2))
    # Three lengths other than the traced one; a window of a few tokens has fewer, which are then probed alone.
    lengths = [length for length in (window, 1, window // 2 + 1, window // 3) if 1 <= length != tokens.traced][:3]
    width = config.hidden_size
    return ComponentSpec(
        name="text_encoder",
        part="text_encoder",
        inputs=(TensorSpec("input_ids", "int64", ("batch", "tokens")),),
        outputs=(
            TensorSpec("last_hidden_state", "float32", ("batch", "tokens", width)),
            TensorSpec("pooler_output", "float32", ("batch", width)),
        ),
        axes={"batch": _BATCH, "tokens": tokens},
        multiples={},
        probes=tuple({"batch": (2, 1, 4)[index], "tokens": length} for index, length in enumerate(lengths)),
        vocabulary=(config.vocab_size, config.eos_token_id),
    )


def _unet(config: UNetConfig, text: TextEncoderConfig) -> ComponentSpec:
    window = text.max_position_embeddings
    contexts = Axis(1, MAX_TEXT_WINDOWS * window, traced=2 * window + 1)
    return ComponentSpec(
        name="unet",
        part="unet",
        inputs=(
            TensorSpec("sample", "float32", ("batch", config.in_channels, "height", "width")),
            TensorSpec("timestep", "float32", ()),
            TensorSpec("encoder_hidden_states", "float32", ("batch", "context_tokens", config.cross_attention_dim)),
        ),
        outputs=(TensorSpec("out_sample", "float32", ("batch", config.out_channels, "height", "width")),),
        axes={**_LATENT, "context_tokens": contexts},
        multiples={},
        probes=tuple(
            {"batch": batch, "height": height, "width": width, "context_tokens": tokens}
            for (batch, height, width), tokens in zip(_LATENT_PROBES, (window, 1, 2 * window), strict=True)
        ),
    )


def _vae_encoder(config: VAEConfig) -> ComponentSpec:
    return ComponentSpec(
        name="vae_encoder",
        part="vae",
        inputs=(TensorSpec("sample", "float32", ("batch", config.in_channels, "image_height", "image_width")),),
        outputs=(TensorSpec("latent_parameters", "float32", ("batch", 2 * config.latent_channels, "height", "width")),),
        axes=_LATENT,
        multiples=_image_axes(config),
        probes=_latent_probes(),
    )


def _vae_decoder(config: VAEConfig) -> ComponentSpec:
    return ComponentSpec(
        name="vae_decoder",
        part="vae",
        inputs=(TensorSpec("latent_sample", "float32", ("batch", config.latent_channels, "height", "width")),),
        outputs=(TensorSpec("sample", "float32", ("batch", config.out_channels, "image_height", "image_width")),),
        axes=_LATENT,
        multiples=_image_axes(config),
        probes=_latent_probes(),
        scale=1.0 / config.scaling_factor,
    )


def _image_axes(config: VAEConfig) -> dict[str, Multiple]:
    return {
        "image_height": Multiple("height", config.downsample),
        "image_width": Multiple("width", config.downsample),
    }


def _latent_probes() -> tuple[Sizes, ...]:
    return tuple({"batch": b, "height": h, "width": w} for b, h, w in _LATENT_PROBES)
