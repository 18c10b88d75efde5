"""SDXL, inpainting models included: two text encoders, and a UNet that is told the pooled text and the image's sizes.

Checked against diffusers 0.39: `StableDiffusionXLPipeline` and `StableDiffusionXLInpaintPipeline`, whose constructors
change nothing in the configs that they are given. The text encoders have the outputs that optimum-onnx and OpenVINO
GenAI read, in their order; the denoiser reads the hidden states before the last layer.
"""

from dataclasses import replace

from torch import Tensor

from ldm_export.configs.sdxl import SIZES, ProjectingTextEncoderConfig, SDXLUNetConfig
from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.errors import ConfigError
from ldm_export.families.family import Configs, Family, Roles, TextPart, as_it_stands
from ldm_export.families.graphs import Component, codec_role, text_encoder, vae_decoder, vae_encoder
from ldm_export.families.keymaps import CLIP_TEXT_MODEL
from ldm_export.families.original.kinds import SDXL as ORIGINAL
from ldm_export.families.spec import ComponentSpec
from ldm_export.families.stable_diffusion import (
    TEXT_ENCODER,
    UNET,
    VAE,
    check_channels,
    guidance_input,
    inpaints,
    latent,
    native_size,
    unet_spec,
)
from ldm_export.models.sdxl import CLIPTextModelWithProjection, SDXLUNet
from ldm_runtime.package.manifest import DenoiserRole
from ldm_runtime.package.tensor_spec import TensorSpec

PIPELINE_CLASS, INPAINT_CLASS = "StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"


class FirstTextEncoder(Component):
    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        """Encode (B, T) -> last_hidden_state (B, T, D), pooler_output (B, D), hidden states before each layer."""
        last, pooled, states = self.model.text_model.encode(input_ids)
        return last, pooled, *states[:-1]


class SecondTextEncoder(Component):
    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        """Encode (B, T) -> text_embeds (B, P), last_hidden_state (B, T, D), hidden states before each layer."""
        last, pooled, states = self.model.text_model.encode(input_ids)
        return self.model.text_projection(pooled), last, *states[:-1]


class UNet(Component):
    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        text_embeds: Tensor,
        time_ids: Tensor,
        timestep_cond: Tensor | None = None,
    ) -> Tensor:
        """Predict: (B, C, h, w), (), (B, T, D), (B, P), (B, 6), perhaps (B, time_cond_proj_dim) -> (B, C, h, w)."""
        return self.model(sample, timestep, encoder_hidden_states, text_embeds, time_ids, timestep_cond=timestep_cond)


def penultimate(config: TextEncoderConfig) -> str:
    """Return the output that is the denoiser's context."""
    return f"hidden_states.{config.num_hidden_layers - 1}"


def _with_hidden_states(spec: ComponentSpec, config: TextEncoderConfig) -> ComponentSpec:
    """Add the hidden states before each layer.

    Verification compares the last of them, which follows the others, and what is pooled, which follows the last layer.
    """
    names = [f"hidden_states.{layer}" for layer in range(config.num_hidden_layers)]
    states = tuple(TensorSpec(name, "float32", ("batch", "tokens", config.hidden_size)) for name in names)
    return replace(
        spec,
        outputs=(*spec.outputs, *states),
        unread=frozenset({"last_hidden_state", *names}) - {penultimate(config)},
    )


def first_text_encoder(config: TextEncoderConfig) -> ComponentSpec:
    return _with_hidden_states(replace(text_encoder(config), wrapper=FirstTextEncoder), config)


def second_text_encoder(config: ProjectingTextEncoderConfig) -> ComponentSpec:
    spec = text_encoder(config)
    projected = TensorSpec("text_embeds", "float32", ("batch", config.projection_dim))
    return _with_hidden_states(
        replace(
            spec,
            name="text_encoder_2",
            part="text_encoder_2",
            wrapper=SecondTextEncoder,
            outputs=(projected, spec.outputs[0]),
        ),
        config,
    )


def unet(config: SDXLUNetConfig, text: TextEncoderConfig) -> ComponentSpec:
    """Describe the UNet; `text` has the window of a prompt."""
    spec = unet_spec(config, text)
    pooled = TensorSpec("text_embeds", "float32", ("batch", config.pooled_width))
    sizes = TensorSpec("time_ids", "float32", ("batch", SIZES))
    return replace(
        spec,
        wrapper=UNet,
        inputs=(*spec.inputs[:3], pooled, sizes, *spec.inputs[3:]),
        uniform={**spec.uniform, "time_ids": (0.0, 1024.0)},
    )


def components(configs: Configs) -> tuple[ComponentSpec, ...]:
    first, second, vae = configs["text_encoder"], configs["text_encoder_2"], configs["vae"]
    return (
        first_text_encoder(first),
        second_text_encoder(second),
        unet(configs["unet"], first),
        vae_encoder(vae),
        vae_decoder(vae),
    )


def check(configs: Configs) -> None:
    """Raise ConfigError unless text encoders, UNet and autoencoder fit one another."""
    first, second, unet = configs["text_encoder"], configs["text_encoder_2"], configs["unet"]
    check_channels(unet, configs["vae"])
    if unet.cross_attention_dim != first.hidden_size + second.hidden_size:
        raise ConfigError(
            f"the UNet's cross_attention_dim is {unet.cross_attention_dim}, but the text encoders' hidden_size are "
            f"{first.hidden_size} and {second.hidden_size}, together {first.hidden_size + second.hidden_size}: they "
            f"do not belong together"
        )
    if unet.pooled_width != second.projection_dim:
        raise ConfigError(
            f"the UNet's projection_class_embeddings_input_dim leaves {unet.pooled_width} numbers for the pooled text, "
            f"but the second text encoder's projection_dim is {second.projection_dim}: they do not belong together"
        )
    if first.max_position_embeddings != second.max_position_embeddings:
        raise ConfigError(
            f"the text encoders' max_position_embeddings are {first.max_position_embeddings} and "
            f"{second.max_position_embeddings}; expected the same for both"
        )


def pipeline_of(configs: Configs) -> str:
    return INPAINT_CLASS if inpaints(configs) else PIPELINE_CLASS


def roles(configs: Configs) -> Roles:
    first, second = (penultimate(configs[name]) for name in ("text_encoder", "text_encoder_2"))
    return Roles(
        text=(
            TextPart("text_encoder", "tokenizer", output=first),
            TextPart("text_encoder_2", "tokenizer_2", output=second, pooled="text_embeds"),
        ),
        denoiser=DenoiserRole(
            component="unet",
            sample="sample",
            timestep="timestep",
            context="encoder_hidden_states",
            extra={"text_embeds": "pooled_text", "time_ids": "image_sizes", **guidance_input(configs["unet"])},
            output="out_sample",
        ),
        codec=codec_role(configs["vae"]),
        concat=("mask", "masked_latents") if inpaints(configs) else (),
    )


SDXL = Family(
    name="sdxl",
    parts={
        "text_encoder": TEXT_ENCODER,
        "text_encoder_2": replace(
            TEXT_ENCODER,
            config=ProjectingTextEncoderConfig,
            model=CLIPTextModelWithProjection,
            components=("text_encoder_2",),
            rules=CLIP_TEXT_MODEL,
        ),
        "unet": replace(UNET, config=SDXLUNetConfig, model=SDXLUNet, as_run=as_it_stands),
        "vae": VAE,
    },
    tokenizers={"tokenizer": "text_encoder", "tokenizer_2": "text_encoder_2"},
    pipelines={PIPELINE_CLASS: {}, INPAINT_CLASS: {}},
    index={"feature_extractor": [None, None], "image_encoder": [None, None]},
    guidance={PIPELINE_CLASS: 5.0},
    zeros_key="force_zeros_for_empty_prompt",
    check=check,
    pipeline_of=pipeline_of,
    components=components,
    roles=roles,
    latent=latent,
    native_size=native_size,
    originals=(ORIGINAL,),
)
