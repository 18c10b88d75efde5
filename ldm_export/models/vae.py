"""The KL autoencoder of latent diffusion (arXiv 2112.10752); checked against diffusers 0.39.

Images are (B, 3, H, W) in [-1, 1]; latents are (B, C, h, w) with h = H / downsample, and not scaled: what
the diffusion model sees is (latent - shift) * scale, which belongs to the sampler's contract, not to this
module.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ldm_export.configs.vae import VAEConfig
from ldm_export.models.layers import Downsample2D, ResnetBlock2D, SpatialAttention, Upsample2D

EPS = 1e-6  # of every GroupNorm here; the UNet's residual blocks have 1e-5


def _resnet(in_channels: int, out_channels: int, groups: int) -> ResnetBlock2D:
    return ResnetBlock2D(in_channels, out_channels, time_channels=None, groups=groups, eps=EPS)


class DownEncoderBlock2D(nn.Module):
    """Residual blocks, then half the size (but for the last level)."""

    def __init__(self, in_channels: int, out_channels: int, *, layers: int, groups: int, downsample: bool) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * layers
        self.resnets = nn.ModuleList(_resnet(widths[i], widths[i + 1], groups) for i in range(layers))
        samplers = [Downsample2D(out_channels, pad_right_and_bottom_only=True)] if downsample else []
        self.downsamplers = nn.ModuleList(samplers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class UpDecoderBlock2D(nn.Module):
    """Residual blocks, then twice the size (but for the last level)."""

    def __init__(self, in_channels: int, out_channels: int, *, layers: int, groups: int, upsample: bool) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * layers
        self.resnets = nn.ModuleList(_resnet(widths[i], widths[i + 1], groups) for i in range(layers))
        self.upsamplers = nn.ModuleList([Upsample2D(out_channels)] if upsample else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x


class UNetMidBlock2D(nn.Module):
    """A residual block, attention over all latent pixels (where the config has it), a residual block."""

    def __init__(self, channels: int, *, groups: int, attention: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([SpatialAttention(channels, groups=groups, eps=EPS)] if attention else [])
        self.resnets = nn.ModuleList([_resnet(channels, channels, groups), _resnet(channels, channels, groups)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.resnets[0], *self.attentions, self.resnets[1]):
            x = layer(x)
        return x


class Encoder(nn.Module):
    """From an image to mean and log-variance, before `quant_conv`."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.gradient_checkpointing = False
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownEncoderBlock2D(
                widths[max(level - 1, 0)],
                widths[level],
                layers=config.layers_per_block,
                groups=groups,
                downsample=level < len(widths) - 1,
            )
            for level in range(len(widths))
        )
        self.mid_block = UNetMidBlock2D(widths[-1], groups=groups, attention=config.mid_block_add_attention)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, 3, H, W) to (B, 2C, h, w)."""
        x = self.conv_in(x)
        for block in (*self.down_blocks, self.mid_block):
            x = _run(block, x, recompute=self.gradient_checkpointing)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Decoder(nn.Module):
    """Latents, after `post_quant_conv`, to an image; one residual block more per level than the encoder."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels[::-1], config.norm_num_groups  # coarsest first
        self.gradient_checkpointing = False
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = UNetMidBlock2D(widths[0], groups=groups, attention=config.mid_block_add_attention)
        self.up_blocks = nn.ModuleList(
            UpDecoderBlock2D(
                widths[max(level - 1, 0)],
                widths[level],
                layers=config.layers_per_block + 1,
                groups=groups,
                upsample=level < len(widths) - 1,
            )
            for level in range(len(widths))
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, h, w) to (B, 3, H, W)."""
        x = self.conv_in(x)
        for block in (self.mid_block, *self.up_blocks):
            x = _run(block, x, recompute=self.gradient_checkpointing)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def _run(block: nn.Module, x: Tensor, *, recompute: bool) -> Tensor:
    """Run with gradient checkpointing (Chen et al. 2016): the backward pass computes activations again."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, x, use_reentrant=False)
    return block(x)


class AutoencoderKL(nn.Module):
    """The whole autoencoder."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1) if config.use_quant_conv else None
        self.post_quant_conv = nn.Conv2d(channels, channels, 1) if config.use_post_quant_conv else None

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [-1, 1] to moments (B, 2C, h, w): each latent's mean, then log-variance.

        The log-variance is not clamped; diffusers clamps it to [-30, 20] where it draws a sample.
        """
        moments = self.encoder(images)
        return moments if self.quant_conv is None else self.quant_conv(moments)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w), unscaled, to images (B, 3, H, W), about [-1, 1] and not clamped."""
        if self.post_quant_conv is not None:
            latents = self.post_quant_conv(latents)
        return self.decoder(latents)

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct images from the mean of the latents; both (B, 3, H, W)."""
        mean, _ = self.encode(images).chunk(2, dim=1)
        return self.decode(mean)
