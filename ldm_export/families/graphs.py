"""Graphs that several families have: CLIP's text encoder and the two halves of the autoencoder.

What is traced is a plain `forward` per component; parameters are named `model.` + the checkpoint's name. Names, dtypes
and ranks are those that optimum-onnx 0.1 writes and opens (`ORTStableDiffusionPipeline`).
"""

from typing import Any

from torch import Tensor, nn

from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.configs.vae import VAEConfig
from ldm_export.configs.vae_tiny import TinyVAEConfig
from ldm_export.families.spec import ComponentSpec, Sizes, TracedAxis
from ldm_runtime.package.manifest import CodecHalf, CodecRole, Multiple
from ldm_runtime.package.tensor_spec import TensorSpec

AnyVAEConfig = VAEConfig | TinyVAEConfig

PREFIX = "model."  # begins every parameter's name in a wrapped component

# The largest axes that a package promises. Latent sizes are in latent pixels.
MAX_BATCH = 64
MAX_LATENT_SIZE = 256
MAX_TEXT_WINDOWS = 4  # joined to one context for the denoiser

# Traced sizes are odd, larger than any probe and no multiple of one another: none is special in the trace.
BATCH = TracedAxis(1, MAX_BATCH, traced=3)
LATENT = {
    "batch": BATCH,
    "height": TracedAxis(1, MAX_LATENT_SIZE, traced=67),
    "width": TracedAxis(1, MAX_LATENT_SIZE, traced=93),
}
LATENT_PROBES = ((1, 8, 8), (2, 5, 12), (4, 9, 3))


class Component(nn.Module):
    """A part as `model`, for a `forward` that is one of its graphs."""

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class TextEncoder(Component):
    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, T) -> last_hidden_state (B, T, D), pooler_output (B, D)."""
        return self.model(input_ids)


class VAEEncoder(Component):
    def forward(self, sample: Tensor) -> Tensor:
        """Encode (B, 3, H, W) -> mean and log-variance (B, 2C, h, w), or latents (B, C, h, w); nothing is drawn."""
        return self.model.encode(sample)


class VAEDecoder(Component):
    def forward(self, latent_sample: Tensor) -> Tensor:
        """Decode unscaled latents (B, C, h, w) -> (B, 3, H, W)."""
        return self.model.decode(latent_sample)


def text_encoder(config: TextEncoderConfig) -> ComponentSpec:
    """Describe CLIP's text encoder."""
    window = config.max_position_embeddings
    tokens = TracedAxis(1, window, traced=max(window // 2, 2))
    # Three lengths other than the traced one; a window of a few tokens has fewer, which are then probed alone.
    lengths = [length for length in (window, 1, window // 2 + 1, window // 3) if 1 <= length != tokens.traced][:3]
    width = config.hidden_size
    return ComponentSpec(
        name="text_encoder",
        part="text_encoder",
        wrapper=TextEncoder,
        inputs=(TensorSpec("input_ids", "int64", ("batch", "tokens")),),
        outputs=(
            TensorSpec("last_hidden_state", "float32", ("batch", "tokens", width)),
            TensorSpec("pooler_output", "float32", ("batch", width)),
        ),
        axes={"batch": BATCH, "tokens": tokens},
        multiples={},
        probes=tuple({"batch": (2, 1, 4)[index], "tokens": length} for index, length in enumerate(lengths)),
        vocabulary=(config.vocab_size, config.eos_token_id),
    )


def codec_role(config: AnyVAEConfig) -> CodecRole:
    """Return the role of both halves of the autoencoder."""
    return CodecRole(
        name="vae",
        encoder=CodecHalf("vae_encoder", "sample", _encoded(config).name),
        decoder=CodecHalf("vae_decoder", "latent_sample", "sample"),
    )


def _encoded(config: AnyVAEConfig) -> TensorSpec:
    """Describe what the encoder gives. By the name optimum-onnx knows whether to draw latents of it."""
    channels = config.latent_channels
    if config.encodes_moments:
        return TensorSpec("latent_parameters", "float32", ("batch", 2 * channels, "height", "width"))
    return TensorSpec("latent_sample", "float32", ("batch", channels, "height", "width"))


def vae_encoder(config: AnyVAEConfig) -> ComponentSpec:
    """Describe the first half of the autoencoder."""
    return ComponentSpec(
        name="vae_encoder",
        part="vae",
        wrapper=VAEEncoder,
        inputs=(TensorSpec("sample", "float32", ("batch", config.in_channels, "image_height", "image_width")),),
        outputs=(_encoded(config),),
        axes=LATENT,
        multiples=_image_axes(config),
        probes=_latent_probes(),
    )


def vae_decoder(config: AnyVAEConfig) -> ComponentSpec:
    """Describe the second half of the autoencoder."""
    return ComponentSpec(
        name="vae_decoder",
        part="vae",
        wrapper=VAEDecoder,
        inputs=(TensorSpec("latent_sample", "float32", ("batch", config.latent_channels, "height", "width")),),
        outputs=(TensorSpec("sample", "float32", ("batch", config.out_channels, "image_height", "image_width")),),
        axes=LATENT,
        multiples=_image_axes(config),
        probes=_latent_probes(),
        scale=1.0 / config.scaling_factor,
    )


def _image_axes(config: AnyVAEConfig) -> dict[str, Multiple]:
    return {
        "image_height": Multiple("height", config.downsample),
        "image_width": Multiple("width", config.downsample),
    }


def _latent_probes() -> tuple[Sizes, ...]:
    return tuple({"batch": b, "height": h, "width": w} for b, h, w in LATENT_PROBES)
