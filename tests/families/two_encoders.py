"""A family in one file, as SDXL is but for its size: two text encoders, and a UNet that reads pooled text and sizes.

Checked against diffusers' `StableDiffusionXLPipeline`. It proves that a family needs no other change; SDXL itself would
stand in `ldm_export/families` with a row in its table.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.configs.unet import UNetConfig
from ldm_export.configs.vae import VAEConfig
from ldm_export.errors import ConfigError
from ldm_export.families.family import Configs, Family, Part, Roles, TextPart
from ldm_export.families.graphs import Component, text_encoder, vae_decoder, vae_encoder
from ldm_export.families.keymaps import AUTOENCODER, CLIP_TEXT_MODEL
from ldm_export.families.spec import ComponentSpec
from ldm_export.families.stable_diffusion import latent, native_size, unet_spec
from ldm_export.models import AutoencoderKL, CLIPTextModel, UNet2DConditionModel
from ldm_export.models.unet import TimestepEmbedding, timestep_embedding
from ldm_runtime.package.manifest import DenoiserRole, TensorSpec

SIZES = 6  # numbers about the image that the UNet reads
PIPELINE_CLASS = "StableDiffusionXLPipeline"


# --- configs and modules ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProjectingTextConfig(TextEncoderConfig):
    projection_dim: int = 512

    CLASS_NAME: ClassVar[str] = "CLIPTextModelWithProjection"
    INERT: ClassVar[frozenset[str]] = TextEncoderConfig.INERT - {"projection_dim"}


@dataclass(frozen=True)
class ConditionedUNetConfig(UNetConfig):
    addition_embed_type: str = "text_time"
    addition_time_embed_dim: int = 256
    projection_class_embeddings_input_dim: int = 2816

    ONLY: ClassVar[dict[str, tuple[Any, ...]]] = {
        name: values for name, values in UNetConfig.ONLY.items() if name != "addition_embed_type"
    }
    INERT: ClassVar[frozenset[str]] = frozenset({"addition_embed_type_num_heads"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.addition_embed_type == "text_time", "addition_embed_type", "'text_time'")

    @property
    def pooled_width(self) -> int:
        return self.projection_class_embeddings_input_dim - SIZES * self.addition_time_embed_dim


class ProjectingTextModel(CLIPTextModel):
    def __init__(self, config: ProjectingTextConfig) -> None:
        super().__init__(config)
        self.text_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)


class ConditionedUNet(UNet2DConditionModel):
    def __init__(self, config: ConditionedUNetConfig) -> None:
        super().__init__(config)
        self.add_embedding = TimestepEmbedding(
            config.projection_class_embeddings_input_dim, 4 * config.block_out_channels[0]
        )
        self.added: Tensor | None = None  # (B, 4 * width), of this evaluation

    def _embed_time(self, timestep: Tensor, sample: Tensor) -> Tensor:
        assert self.added is not None
        return super()._embed_time(timestep, sample) + self.added


# --- components ---------------------------------------------------------------------------------------------------


def _penultimate(model: CLIPTextModel, input_ids: Tensor) -> Tensor:
    x = model.text_model.embeddings(input_ids)
    for layer in model.text_model.encoder.layers[:-1]:
        x = layer(x)
    return x


class FirstTextEncoder(Component):
    def forward(self, input_ids: Tensor) -> Tensor:
        """(B, T) -> hidden states before the last layer (B, T, D)."""
        return _penultimate(self.model, input_ids)


class SecondTextEncoder(Component):
    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) -> hidden states before the last layer (B, T, D), projected pooled token (B, P)."""
        _, pooled = self.model(input_ids)
        return _penultimate(self.model, input_ids), self.model.text_projection(pooled)


class UNet(Component):
    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, text_embeds: Tensor, time_ids: Tensor
    ) -> Tensor:
        """(B, C, h, w), (), (B, T, D), (B, P), (B, 6) -> (B, C, h, w)."""
        config = self.model.config
        sizes = timestep_embedding(
            time_ids.reshape(-1),
            config.addition_time_embed_dim,
            flip_sin_to_cos=config.flip_sin_to_cos,
            freq_shift=config.freq_shift,
        ).reshape(time_ids.shape[0], -1)
        self.model.added = self.model.add_embedding(torch.cat([text_embeds, sizes.to(text_embeds.dtype)], dim=-1))
        return self.model(sample, timestep, encoder_hidden_states)


def components(configs: Configs) -> tuple[ComponentSpec, ...]:
    first, second, unet, vae = (configs[name] for name in ("text_encoder", "text_encoder_2", "unet", "vae"))

    def states(width: int) -> TensorSpec:
        return TensorSpec("hidden_states", "float32", ("batch", "tokens", width))

    denoiser = unet_spec(unet, first)
    return (
        replace(text_encoder(first), wrapper=FirstTextEncoder, outputs=(states(first.hidden_size),)),
        replace(
            text_encoder(second),
            name="text_encoder_2",
            part="text_encoder_2",
            wrapper=SecondTextEncoder,
            outputs=(
                states(second.hidden_size),
                TensorSpec("text_embeds", "float32", ("batch", second.projection_dim)),
            ),
        ),
        replace(
            denoiser,
            wrapper=UNet,
            inputs=(
                *denoiser.inputs,
                TensorSpec("text_embeds", "float32", ("batch", unet.pooled_width)),
                TensorSpec("time_ids", "float32", ("batch", SIZES)),
            ),
            uniform={**denoiser.uniform, "time_ids": (0.0, 128.0)},
        ),
        vae_encoder(vae),
        vae_decoder(vae),
    )


# --- the family ---------------------------------------------------------------------------------------------------


def check(configs: Configs) -> None:
    first, second, unet = configs["text_encoder"], configs["text_encoder_2"], configs["unet"]
    if unet.cross_attention_dim != first.hidden_size + second.hidden_size:
        raise ConfigError(
            f"the UNet's cross_attention_dim is {unet.cross_attention_dim}, but the text encoders give "
            f"{first.hidden_size} and {second.hidden_size}: they do not belong together"
        )


def pipeline_of(configs: Configs) -> str:
    return PIPELINE_CLASS


def roles(configs: Configs) -> Roles:
    return Roles(
        text=(
            TextPart("text_encoder", "tokenizer", output="hidden_states"),
            TextPart("text_encoder_2", "tokenizer_2", output="hidden_states", pooled="text_embeds"),
        ),
        denoiser=DenoiserRole(
            component="unet",
            sample="sample",
            timestep="timestep",
            context="encoder_hidden_states",
            extra={"text_embeds": "pooled_text", "time_ids": "image_sizes"},
            output="out_sample",
        ),
    )


TWO_ENCODERS = Family(
    name="two-encoders",
    parts={
        "text_encoder": Part(
            TextEncoderConfig,
            CLIPTextModel,
            ("text_encoder",),
            "transformers",
            "ORTTextEncoder",
            "model",
            CLIP_TEXT_MODEL,
        ),
        "text_encoder_2": Part(
            ProjectingTextConfig,
            ProjectingTextModel,
            ("text_encoder_2",),
            "transformers",
            "ORTTextEncoder",
            "model",
            CLIP_TEXT_MODEL,
        ),
        "unet": Part(
            ConditionedUNetConfig, ConditionedUNet, ("unet",), "diffusers", "ORTUnet", "diffusion_pytorch_model"
        ),
        "vae": Part(
            VAEConfig,
            AutoencoderKL,
            ("vae_encoder", "vae_decoder"),
            "diffusers",
            "ORTVae",
            "diffusion_pytorch_model",
            AUTOENCODER,
        ),
    },
    tokenizers={"tokenizer": "text_encoder", "tokenizer_2": "text_encoder_2"},
    pipelines={PIPELINE_CLASS: {}},
    index={"feature_extractor": [None, None], "image_encoder": [None, None], "force_zeros_for_empty_prompt": False},
    check=check,
    pipeline_of=pipeline_of,
    components=components,
    roles=roles,
    latent=latent,
    native_size=native_size,
)
