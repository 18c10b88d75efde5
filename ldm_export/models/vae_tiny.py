"""The tiny autoencoder of latent diffusion (TAESD, github.com/madebyollin/taesd); checked against diffusers 0.39.

Images are (B, 3, H, W) in [-1, 1]; latents are (B, C, h, w) with h = H / downsample, those of the diffusion model. The
networks themselves take and give images in [0, 1].
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_export.configs.vae_tiny import TinyVAEConfig


class TinyBlock(nn.Module):
    """Three 3x3 convolutions around a residual, with ReLU after each and after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(channels, channels), nn.ReLU(), _conv(channels, channels), nn.ReLU(), _conv(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


def _conv(in_channels: int, out_channels: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, stride=stride, bias=bias)


class TinyEncoder(nn.Module):
    """From an image to latents: blocks at each level, a strided convolution between levels."""

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(*self._make(config))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, 3, H, W) in [-1, 1] to (B, C, h, w)."""
        return self.layers((x + 1) / 2)

    @staticmethod
    def _make(config: TinyVAEConfig) -> Iterator[nn.Module]:
        width = config.encoder_block_out_channels[0]
        for level, blocks in enumerate(config.num_encoder_blocks):
            yield _conv(config.in_channels, width) if level == 0 else _conv(width, width, stride=2, bias=False)
            yield from (TinyBlock(width) for _ in range(blocks))
        yield _conv(width, config.latent_channels)


class TinyDecoder(nn.Module):
    """From latents to an image: blocks at each level, nearest-neighbour upsampling and a convolution between levels."""

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(*self._make(config))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, h, w), of which nothing beyond 3 is seen, to (B, 3, H, W), about [-1, 1]."""
        return self.layers(torch.tanh(x / 3) * 3) * 2 - 1

    @staticmethod
    def _make(config: TinyVAEConfig) -> Iterator[nn.Module]:
        width, last = config.decoder_block_out_channels[0], len(config.num_decoder_blocks) - 1
        yield _conv(config.latent_channels, width)
        yield nn.ReLU()
        for level, blocks in enumerate(config.num_decoder_blocks):
            yield from (TinyBlock(width) for _ in range(blocks))
            if level < last:
                yield nn.Upsample(scale_factor=2, mode="nearest")
                yield _conv(width, width, bias=False)
        yield _conv(width, config.out_channels)


class AutoencoderTiny(nn.Module):
    """The whole autoencoder."""

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = TinyEncoder(config)
        self.decoder = TinyDecoder(config)

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [-1, 1] to latents (B, C, h, w)."""
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to images (B, 3, H, W), about [-1, 1] and not clamped."""
        return self.decoder(latents)
