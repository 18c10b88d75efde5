"""Stable Diffusion 1.x and 2.x, inpainting models included: CLIP, a text-conditioned UNet, a KL autoencoder.

Checked against diffusers 0.39: `StableDiffusionPipeline`, `StableDiffusionInpaintPipeline` and
`LatentConsistencyModelPipeline`, with what their constructors change in the configs that they are given, whatever the
files say. Their other changes, of safety checkers
and of a scheduler's `_internal_dict`, reach nothing that is exported.
"""

from torch import Tensor

from ldm_export.configs.inert import read_version
from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.configs.unet import UNetConfig
from ldm_export.configs.vae import VAEConfig
from ldm_export.configs.vae_tiny import TinyVAEConfig
from ldm_export.errors import ConfigError
from ldm_export.families.family import Configs, Family, Part, Roles, TextPart
from ldm_export.families.graphs import (
    LATENT,
    LATENT_PROBES,
    MAX_TEXT_WINDOWS,
    AnyVAEConfig,
    Component,
    codec_role,
    text_encoder,
    vae_decoder,
    vae_encoder,
)
from ldm_export.families.keymaps import AUTOENCODER, CLIP_TEXT_MODEL_WITHOUT_PROJECTION, UNET_KEYS
from ldm_export.families.original.kinds import SD1, SD2
from ldm_export.families.spec import ComponentSpec, TracedAxis
from ldm_export.models import AutoencoderKL, AutoencoderTiny, CLIPTextModel, UNet2DConditionModel
from ldm_runtime.package.manifest import DenoiserRole, ExtraRule, LatentSpec
from ldm_runtime.package.tensor_spec import TensorSpec

PIPELINE_CLASS, INPAINT_CLASS = "StableDiffusionPipeline", "StableDiffusionInpaintPipeline"
CONSISTENCY_CLASS = "LatentConsistencyModelPipeline"
NATIVE_SIZE = 64  # latents of Stable Diffusion 1.x, whose first configs said 32


class UNet(Component):
    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, timestep_cond: Tensor | None = None
    ) -> Tensor:
        """Predict: (B, C, h, w), (), (B, T, D) and perhaps (B, time_cond_proj_dim) -> (B, C, h, w)."""
        return self.model(sample, timestep, encoder_hidden_states, timestep_cond=timestep_cond)


def unet_spec(config: UNetConfig, text: TextEncoderConfig) -> ComponentSpec:
    """Describe the UNet; `text` has the window of a prompt."""
    window = text.max_position_embeddings
    contexts = TracedAxis(1, MAX_TEXT_WINDOWS * window, traced=2 * window + 1)
    width = config.time_cond_proj_dim
    conditions = () if width is None else (TensorSpec("timestep_cond", "float32", ("batch", width)),)
    return ComponentSpec(
        name="unet",
        part="unet",
        wrapper=UNet,
        inputs=(
            TensorSpec("sample", "float32", ("batch", config.in_channels, "height", "width")),
            TensorSpec("timestep", "float32", ()),
            TensorSpec("encoder_hidden_states", "float32", ("batch", "context_tokens", config.cross_attention_dim)),
            *conditions,
        ),
        outputs=(TensorSpec("out_sample", "float32", ("batch", config.out_channels, "height", "width")),),
        axes={**LATENT, "context_tokens": contexts},
        multiples={},
        probes=tuple(
            {"batch": batch, "height": height, "width": width, "context_tokens": tokens}
            for (batch, height, width), tokens in zip(LATENT_PROBES, (window, 1, 2 * window), strict=True)
        ),
        uniform={"timestep": (0.0, 999.0)},
    )


def check(configs: Configs) -> None:
    """Raise ConfigError unless text encoder, UNet and autoencoder fit one another."""
    text, unet = configs["text_encoder"], configs["unet"]
    check_channels(unet, configs["vae"])
    if unet.cross_attention_dim != text.hidden_size:
        raise ConfigError(
            f"the UNet's cross_attention_dim is {unet.cross_attention_dim}, but the text encoder's "
            f"hidden_size is {text.hidden_size}: they do not belong together"
        )


def check_channels(unet: UNetConfig, vae: AnyVAEConfig) -> None:
    """Raise ConfigError unless the UNet works on the autoencoder's latents."""
    latent = vae.latent_channels
    if unet.in_channels not in (latent, 2 * latent + 1) or unet.out_channels != latent:
        raise ConfigError(
            f"the UNet takes {unet.in_channels} channels and gives {unet.out_channels}, but the VAE's "
            f"latents have {latent}; expected a UNet that gives {latent} and takes {latent}, or for inpainting"
            f" {2 * latent + 1}"
        )


def inpaints(configs: Configs) -> bool:
    """Return whether the UNet reads a mask and the masked image's latents as concat channels."""
    return bool(configs["unet"].in_channels != configs["vae"].latent_channels)


def pipeline_of(configs: Configs) -> str:
    return INPAINT_CLASS if inpaints(configs) else PIPELINE_CLASS


def components(configs: Configs) -> tuple[ComponentSpec, ...]:
    text, unet, vae = configs["text_encoder"], configs["unet"], configs["vae"]
    return text_encoder(text), unet_spec(unet, text), vae_encoder(vae), vae_decoder(vae)


def guidance_input(unet: UNetConfig) -> dict[str, ExtraRule]:
    """Return the input of the embedded guidance scale, where the UNet reads it."""
    return {} if unet.time_cond_proj_dim is None else {"timestep_cond": "guidance_embedding"}


def roles(configs: Configs) -> Roles:
    extra = guidance_input(configs["unet"])
    return Roles(
        text=(TextPart("text_encoder", "tokenizer"),),
        denoiser=DenoiserRole("unet", "sample", "timestep", "encoder_hidden_states", extra, "out_sample"),
        codec=codec_role(configs["vae"]),
        concat=("mask", "masked_latents") if inpaints(configs) else (),
    )


def latent(configs: Configs) -> LatentSpec:
    """Return the latents of the pipelines, which read a VAE's scaling_factor, but not its shift_factor."""
    vae = configs["vae"]
    return LatentSpec(vae.latent_channels, vae.downsample, vae.scaling_factor, shift=0.0)


def native_size(configs: Configs) -> tuple[int, int]:
    """Return the size of the latents which the UNet was trained on, or else the autoencoder's, in pixels."""
    unet, vae = configs["unet"], configs["vae"]
    native = unet.sample_size if unet.sample_size is not None else vae.sample_size
    scale = vae.downsample if unet.sample_size is not None else 1
    height, width = (native, native) if isinstance(native, int) else native
    return width * scale, height * scale


def unet_as_run(config: object) -> object:
    """Return the UNet's config.json as both pipelines run it: a `sample_size` below 64 from before 0.9 means 64."""
    if not isinstance(config, dict):
        return config
    size, version = config.get("sample_size"), read_version(config.get("_diffusers_version"))
    if type(size) is int and 0 < size < NATIVE_SIZE and version is not None and version < (0, 9):
        return {**config, "sample_size": NATIVE_SIZE}
    return config


def text_encoder_as_run(config: object) -> object:
    """Return a text encoder's config.json as transformers reads it: of a whole CLIP's, the half that is about text."""
    text = config.get("text_config") if isinstance(config, dict) else None
    return {"model_type": TextEncoderConfig.MODEL_TYPE, **text} if isinstance(text, dict) else config


TEXT_ENCODER = Part(
    config=TextEncoderConfig,
    model=CLIPTextModel,
    components=("text_encoder",),
    begins=r"text_model\.encoder\.",
    library="transformers",
    optimum="ORTTextEncoder",
    stem="model",
    rules=CLIP_TEXT_MODEL_WITHOUT_PROJECTION,
    as_run=text_encoder_as_run,
)
UNET = Part(
    config=UNetConfig,
    model=UNet2DConditionModel,
    components=("unet",),
    begins=r"down_blocks\.",
    library="diffusers",
    optimum="ORTUnet",
    stem="diffusion_pytorch_model",
    rules=UNET_KEYS,
    as_run=unet_as_run,
)
VAE = Part(
    config=VAEConfig,
    model=AutoencoderKL,
    components=("vae_encoder", "vae_decoder"),
    begins=r"(?:encoder|decoder)\.(?:down_blocks|up_blocks|layers)\.",
    library="diffusers",
    optimum="ORTVae",
    stem="diffusion_pytorch_model",
    rules=AUTOENCODER,
    others={TinyVAEConfig: AutoencoderTiny},
)

STABLE_DIFFUSION = Family(
    name="stable-diffusion",
    parts={"text_encoder": TEXT_ENCODER, "unet": UNET, "vae": VAE},
    tokenizers={"tokenizer": "text_encoder"},
    pipelines={
        PIPELINE_CLASS: {"steps_offset": 1, "clip_sample": False},
        INPAINT_CLASS: {"steps_offset": 1, "skip_prk_steps": True},
        CONSISTENCY_CLASS: {},
    },
    calls={CONSISTENCY_CLASS: {"reach": 1.0}},
    index={
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
    },
    check=check,
    pipeline_of=pipeline_of,
    components=components,
    roles=roles,
    latent=latent,
    native_size=native_size,
    originals=(SD1, SD2),
)
