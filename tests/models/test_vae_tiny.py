"""Our tiny autoencoder is diffusers' AutoencoderTiny, number for number, both ways."""

from typing import Any

import pytest
import torch
from torch import nn

from ldm_export.configs.vae_tiny import TinyVAEConfig
from ldm_export.models import AutoencoderTiny
from tests.oracles import blind_parameters, randomise, relative_rms, saved_config, seeded

TOLERANCE = 1e-6

VARIATIONS: dict[str, dict[str, Any]] = {
    "two levels": {
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (12, 12),
        "num_encoder_blocks": (1, 2),
        "num_decoder_blocks": (2, 1),
    },
    "one level, no blocks": {
        "encoder_block_out_channels": (8,),
        "decoder_block_out_channels": (8,),
        "num_encoder_blocks": (0,),
        "num_decoder_blocks": (0,),
    },
    "as published, sixteen latent channels": {
        "encoder_block_out_channels": (16,) * 4,
        "decoder_block_out_channels": (16,) * 4,
        "latent_channels": 16,
    },
}


def build(name: str) -> tuple[nn.Module, AutoencoderTiny]:
    """The oracle with random weights, and ours with the same tensors in the same memory."""
    from diffusers import AutoencoderTiny as Oracle

    oracle = randomise(Oracle(**VARIATIONS[name]), 0)
    ours = AutoencoderTiny(TinyVAEConfig.from_dict(saved_config(oracle)))
    ours.load_state_dict(oracle.state_dict(), strict=True, assign=True)
    return oracle, ours.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", VARIATIONS)
def test_both_ways_are_diffusers(name: str) -> None:
    oracle, ours = build(name)
    side = ours.config.downsample
    for batch, height, width in ((2, 5, 8), (1, 1, 3)):
        images = seeded(batch, 3, height * side, width * side).clamp(-1, 1)
        assert relative_rms(ours.encode(images), oracle.encode(images).latents) <= TOLERANCE
        latents = 3 * seeded(batch, ours.config.latent_channels, height, width, seed=1)
        assert relative_rms(ours.decode(latents), oracle.decode(latents).sample) <= TOLERANCE


@torch.no_grad()
def test_latents_beyond_three_are_bent_not_cut() -> None:
    _, ours = build("two levels")
    latents = seeded(1, 4, 5, 8)
    far = [ours.decode(factor * latents) for factor in (3.0, 3.3, 300.0, 330.0)]
    assert relative_rms(far[1], far[0]) > 1e-3 > relative_rms(far[3], far[2])


def test_every_tensor_counts() -> None:
    _, ours = build("two levels")
    images, latents = seeded(1, 3, 16, 12).clamp(-1, 1), seeded(1, 4, 8, 6)

    def both_outputs() -> torch.Tensor:
        return torch.cat([ours.encode(images).flatten(), ours.decode(latents).flatten()])

    assert blind_parameters(ours, both_outputs, 10 * TOLERANCE) == []
