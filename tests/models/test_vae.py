"""Our autoencoder is diffusers' AutoencoderKL, number for number, both ways."""

from typing import Any

import pytest
import torch
from torch import nn

from ldm_export.configs.vae import VAEConfig
from ldm_export.models import AutoencoderKL
from tests.oracles import blind_parameters, relative_rms, saved_config, seeded, tiny_vae

pytestmark = pytest.mark.slow

TOLERANCE = 1e-6

VARIATIONS: dict[str, dict[str, Any]] = {
    "sd15": {},
    "one level": {
        "block_out_channels": (16,),
        "down_block_types": ("DownEncoderBlock2D",),
        "up_block_types": ("UpDecoderBlock2D",),
    },
    "four levels, two blocks each": {
        "block_out_channels": (8, 16, 24, 24),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
    },
    "sixteen latent channels": {"latent_channels": 16},
    "no quantisation convolutions": {"use_quant_conv": False, "use_post_quant_conv": False},
    "no attention": {"mid_block_add_attention": False},
    "another number of groups": {"norm_num_groups": 16},
}


def build(kind: str = "sd15", **changes: Any) -> tuple[nn.Module, AutoencoderKL]:
    """The oracle with random weights, and ours with the same tensors in the same memory."""
    oracle = tiny_vae(kind, **changes)
    ours = AutoencoderKL(VAEConfig.from_dict(saved_config(oracle)))
    ours.load_state_dict(oracle.state_dict(), strict=True, assign=True)
    return oracle, ours.eval()


def pictures(ours: AutoencoderKL, *, batch: int = 2, height: int = 5, width: int = 8) -> torch.Tensor:
    """height and width are the latents'."""
    scale = ours.config.downsample
    return seeded(batch, 3, height * scale, width * scale, seed=1).clamp(-1, 1)


@torch.no_grad()
def encoder_difference(oracle: Any, ours: AutoencoderKL, images: torch.Tensor) -> float:
    return relative_rms(ours.encode(images), oracle.encode(images).latent_dist.parameters)


@torch.no_grad()
def decoder_difference(oracle: Any, ours: AutoencoderKL, latents: torch.Tensor) -> float:
    return relative_rms(ours.decode(latents), oracle.decode(latents).sample)


@pytest.mark.parametrize("name", VARIATIONS)
def test_encoder_is_diffusers(name: str) -> None:
    oracle, ours = build(**VARIATIONS[name])
    assert encoder_difference(oracle, ours, pictures(ours)) <= TOLERANCE
    assert encoder_difference(oracle, ours, pictures(ours, batch=1, height=1, width=3)) <= TOLERANCE


@pytest.mark.parametrize("name", VARIATIONS)
def test_decoder_is_diffusers(name: str) -> None:
    oracle, ours = build(**VARIATIONS[name])
    channels = ours.config.latent_channels
    assert decoder_difference(oracle, ours, seeded(2, channels, 5, 8)) <= TOLERANCE
    assert decoder_difference(oracle, ours, seeded(1, channels, 1, 3)) <= TOLERANCE


def test_both_ways_are_diffusers_in_sd21() -> None:
    oracle, ours = build("sd21")
    assert encoder_difference(oracle, ours, pictures(ours)) <= TOLERANCE
    assert decoder_difference(oracle, ours, seeded(2, 4, 5, 8)) <= TOLERANCE


@pytest.mark.parametrize(("height", "width"), [(33, 32), (35, 41)])
def test_images_of_odd_size_encode_as_in_diffusers(height: int, width: int) -> None:
    oracle, ours = build("sd21")
    assert encoder_difference(oracle, ours, seeded(1, 3, height, width)) <= TOLERANCE


def test_forward_is_encode_then_decode_of_the_mean() -> None:
    oracle, ours = build()
    images = pictures(ours)
    with torch.no_grad():
        assert relative_rms(ours(images), oracle(images, sample_posterior=False).sample) <= TOLERANCE


@pytest.mark.parametrize("name", VARIATIONS)
def test_parameters_are_diffusers(name: str) -> None:
    oracle = tiny_vae(**VARIATIONS[name])
    ours = AutoencoderKL(VAEConfig.from_dict(saved_config(oracle)))
    wanted = {key: value.shape for key, value in oracle.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == wanted


def test_every_tensor_counts() -> None:
    """Changing any parameter by 1 % moves an output far past the tolerance: nothing agrees by accident.

    The key's bias is the exception that attention's mathematics makes: it adds the same number to all
    logits of a query, and softmax does not see it.
    """
    _, ours = build("sd21")
    images, latents = pictures(ours, batch=1, height=4, width=3), seeded(1, 4, 4, 3)

    def both_outputs() -> torch.Tensor:
        return torch.cat([ours.encode(images).flatten(), ours.decode(latents).flatten()])

    blind = blind_parameters(ours, both_outputs, 10 * TOLERANCE)
    assert blind == [f"{side}.mid_block.attentions.0.to_k.bias" for side in ("encoder", "decoder")]


def test_every_input_counts() -> None:
    _, ours = build()
    images, latents = pictures(ours), seeded(2, 4, 5, 8)
    with torch.no_grad():
        assert relative_rms(ours.encode(images * 1.01), ours.encode(images)) > 100 * TOLERANCE
        assert relative_rms(ours.decode(latents * 1.01), ours.decode(latents)) > 100 * TOLERANCE


def test_gradient_checkpointing_changes_no_gradient() -> None:
    _, ours = build()
    images = pictures(ours)
    gradients = []
    for recompute in (False, True):
        ours.encoder.gradient_checkpointing = ours.decoder.gradient_checkpointing = recompute
        ours.zero_grad()
        ours(images).square().mean().backward()
        gradients.append({name: value.grad.clone() for name, value in ours.named_parameters()})
    still = (
        "encoder.mid_block.attentions.0.to_k.bias",
        "decoder.mid_block.attentions.0.to_k.bias",
    )  # rounding only
    for name, value in gradients[0].items():
        assert name in still or relative_rms(gradients[1][name], value) <= TOLERANCE, name
