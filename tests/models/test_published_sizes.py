"""Parity at the real sizes of SD 1.5 and 2.1, with random weights (oracle and ours share their memory)."""

import gc
from collections.abc import Iterator
from typing import Any

import diffusers
import pytest
import torch
import transformers
from torch import nn

from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.configs.unet import UNetConfig
from ldm_export.configs.vae import VAEConfig
from ldm_export.models import AutoencoderKL, CLIPTextModel, UNet2DConditionModel
from tests import published_configs
from tests.oracles import relative_rms, seeded

TOLERANCE = 1e-6
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def memory_is_given_back() -> Iterator[None]:
    yield
    gc.collect()


def fill(module: nn.Module, seed: int = 0) -> Any:
    """Random values in every parameter of a module without memory, drawn in blocks: 860 M take a while."""
    module = module.to_empty(device="cpu").eval()
    block = torch.randn(2**20, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            flat, start = parameter.view(-1), 0
            while start < flat.numel():
                part = flat[start : start + block.numel() - index]  # every tensor begins elsewhere in the block
                part.copy_(block[index : index + part.numel()])
                start += part.numel()
            if parameter.ndim >= 2:
                parameter.div_(parameter[0].numel() ** 0.5)
            else:
                parameter.mul_(0.2)
        for name, parameter in module.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return module


def shared(ours: Any, oracle: nn.Module) -> Any:
    """Our model around the oracle's tensors: no second copy."""
    ours.load_state_dict(oracle.state_dict(), strict=True, assign=True)
    return ours.eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sd15", "sd21"])
def test_unet_is_diffusers(kind: str) -> None:
    config = published_configs.UNET[kind]
    with torch.device("meta"):
        oracle = diffusers.UNet2DConditionModel.from_config(config)
        ours = UNet2DConditionModel(UNetConfig.from_dict(config))
    ours = shared(ours, fill(oracle))
    assert sum(p.numel() for p in ours.parameters()) == {"sd15": 859_520_964, "sd21": 865_910_724}[kind]
    sample, timestep = seeded(1, 4, 9, 11, seed=1), torch.tensor(951.5)
    text = seeded(1, 77, config["cross_attention_dim"], seed=2)
    wanted = oracle(sample, timestep, text).sample
    assert 0.01 < wanted.std() < 100
    assert relative_rms(ours(sample, timestep, text), wanted) <= TOLERANCE


@torch.no_grad()
def test_autoencoder_is_diffusers() -> None:
    config = published_configs.VAE["sd15"]
    with torch.device("meta"):
        oracle = diffusers.AutoencoderKL.from_config(config)
        ours = AutoencoderKL(VAEConfig.from_dict(config))
    ours = shared(ours, fill(oracle))
    assert sum(p.numel() for p in ours.parameters()) == 83_653_863
    images, latents = seeded(1, 3, 64, 80).clamp(-1, 1), seeded(1, 4, 8, 9)
    moments, pictures = oracle.encode(images).latent_dist.parameters, oracle.decode(latents).sample
    assert 0.01 < moments.std() < 100
    assert 0.01 < pictures.std() < 100
    assert relative_rms(ours.encode(images), moments) <= TOLERANCE
    assert relative_rms(ours.decode(latents), pictures) <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sd15", "sd21"])
def test_text_encoder_is_transformers(kind: str) -> None:
    config = published_configs.TEXT_ENCODER[kind]
    with torch.device("meta"):
        oracle = transformers.CLIPTextModel(transformers.CLIPTextConfig(**config))
    oracle = fill(oracle)
    (positions,) = (buffer for name, buffer in oracle.named_buffers() if name.endswith("position_ids"))
    positions.copy_(torch.arange(positions.numel()))  # the only buffer, and no part of a checkpoint
    ours = shared(CLIPTextModel(TextEncoderConfig.from_dict(config)), oracle)
    assert sum(p.numel() for p in ours.parameters()) == {"sd15": 123_060_480, "sd21": 340_387_840}[kind]
    ids = torch.full((2, 77), 49407)
    ids[:, 0] = 49406
    ids[0, 1:9] = torch.arange(320, 328)
    wanted = oracle(input_ids=ids)
    hidden, pooled = ours(ids)
    assert relative_rms(hidden, wanted.last_hidden_state) <= TOLERANCE
    assert relative_rms(pooled, wanted.pooler_output) <= TOLERANCE
