"""SDXL's second text encoder and its UNet are transformers' and diffusers', number for number."""

from typing import Any

import pytest
import torch
from torch import nn

from ldm_export.configs.sdxl import ProjectingTextEncoderConfig, SDXLUNetConfig
from ldm_export.families.sdxl import FirstTextEncoder, SecondTextEncoder
from ldm_export.models.sdxl import CLIPTextModelWithProjection, SDXLUNet
from tests.models.test_text_encoder import build as build_text_encoder
from tests.models.test_text_encoder import prompts
from tests.oracles import blind_parameters, relative_rms, saved_config, seeded, tiny_text_encoder, tiny_unet

TOLERANCE = 1e-6

VARIATIONS: dict[str, dict[str, Any]] = {
    "sdxl": {},
    "two layers, deep transformers": {"layers_per_block": 2, "transformer_layers_per_block": (1, 2, 5)},
    # Cut as SSD-1B and Vega: what is left of each transformer, and no attention in the middle.
    "SSD-1B": {
        "layers_per_block": 2,
        "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": [0, [2, 2], [1, 1]],
        "reverse_transformer_layers_per_block": [[1, 1, 3], [2, 1, 1], 1],
    },
    "KOALA-700M": {"mid_block_type": None, "transformer_layers_per_block": (0, 2, 2)},
    "KOALA-1B": {"mid_block_type": "UNetMidBlock2D", "transformer_layers_per_block": (0, 2, 2)},
    "sines first, shifted": {"flip_sin_to_cos": False, "freq_shift": 1},
    "nine channels": {"in_channels": 9},
    "other widths of what is added": {
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 7 + 6 * 4,
    },
}


def build(**changes: Any) -> tuple[nn.Module, SDXLUNet]:
    oracle = tiny_unet("sdxl", **changes)
    ours = SDXLUNet(SDXLUNetConfig.from_dict(saved_config(oracle)))
    ours.load_state_dict(oracle.state_dict(), strict=True, assign=True)
    return oracle, ours.eval()


def inputs(model: SDXLUNet) -> tuple[torch.Tensor, ...]:
    config = model.config
    sizes = torch.tensor([[1024.0, 768.0, 0.0, 3.0, 512.0, 999.0], [64.0, 48.0, 5.0, 0.0, 64.0, 48.0]])
    return (
        seeded(2, config.in_channels, 12, 10, seed=1),
        torch.tensor(421.5),
        seeded(2, 7, config.cross_attention_dim, seed=2),
        seeded(2, config.pooled_width, seed=3),
        sizes,
    )


@torch.no_grad()
def difference(oracle: nn.Module, ours: SDXLUNet) -> float:
    sample, timestep, context, pooled, sizes = inputs(ours)
    added = {"text_embeds": pooled, "time_ids": sizes}
    wanted = oracle(sample, timestep, context, added_cond_kwargs=added).sample
    return relative_rms(ours(sample, timestep, context, pooled, sizes), wanted)


@pytest.mark.parametrize("name", VARIATIONS)
def test_the_unet_is_diffusers(name: str) -> None:
    assert difference(*build(**VARIATIONS[name])) <= TOLERANCE


def test_every_added_weight_counts() -> None:
    _, ours = build()
    blind = blind_parameters(ours.add_embedding, lambda: ours(*inputs(ours)), 3e-6)
    assert blind == []


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"eos_token_id": 2}, {"num_hidden_layers": 1}, {"hidden_act": "quick_gelu"}])
def test_the_second_text_encoder_is_transformers(changes: dict[str, Any]) -> None:
    oracle = tiny_text_encoder("sdxl_2", **changes)
    ours = CLIPTextModelWithProjection(ProjectingTextEncoderConfig.from_dict(saved_config(oracle)))
    ours.load_state_dict(oracle.state_dict(), strict=True, assign=True)
    ids = prompts(3, 0, 14)
    wanted = oracle(input_ids=ids, output_hidden_states=True)
    found = SecondTextEncoder(ours.eval())(ids)
    expected = (wanted.text_embeds, wanted.last_hidden_state, *wanted.hidden_states[:-1])
    for one, other in zip(found, expected, strict=True):
        assert relative_rms(one, other) <= TOLERANCE


@torch.no_grad()
def test_the_first_text_encoders_outputs_are_transformers() -> None:
    oracle, ours = build_text_encoder()
    ids = prompts(3, 0, 14)
    wanted = oracle(input_ids=ids, output_hidden_states=True)
    found = FirstTextEncoder(ours)(ids)
    expected = (wanted.last_hidden_state, wanted.pooler_output, *wanted.hidden_states[:-1])
    for one, other in zip(found, expected, strict=True):
        assert relative_rms(one, other) <= TOLERANCE
