"""The text-conditioned UNet of latent diffusion (arXiv 2112.10752); checked against diffusers 0.39.

Residual blocks with a time embedding, and transformers that attend to the text, at several resolutions; the
way up takes every feature map of the way down as a skip. Shapes: B batch, C channels, H and W the latent
size, T text tokens.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ldm_export.configs.levels import per_level
from ldm_export.configs.unet import UNetConfig
from ldm_export.models.layers import Downsample2D, ResnetBlock2D, Transformer2DModel, Upsample2D


def timestep_embedding(timesteps: Tensor, channels: int, *, flip_sin_to_cos: bool, freq_shift: int) -> Tensor:
    """Embed timesteps (B,), fractional ones too, as sines and cosines: (B, channels) float32 (Ho et al. 2020).

    Frequencies fall from 1 to about 1/10000. `flip_sin_to_cos` puts the cosines first.
    """
    half = channels // 2
    steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    frequencies = torch.exp(-math.log(10000) * steps / (half - freq_shift))
    angles = timesteps[:, None].float() * frequencies[None, :]  # (B, half)
    parts = (angles.cos(), angles.sin()) if flip_sin_to_cos else (angles.sin(), angles.cos())
    return torch.cat(parts, dim=-1)


class TimestepEmbedding(nn.Module):
    """A two-layer MLP on the sinusoidal embedding, to which a condition of `condition_channels` may be added first."""

    def __init__(self, channels: int, out_channels: int, condition_channels: int | None = None) -> None:
        super().__init__()
        self.cond_proj = None if condition_channels is None else nn.Linear(condition_channels, channels, bias=False)
        self.linear_1 = nn.Linear(channels, out_channels)
        self.linear_2 = nn.Linear(out_channels, out_channels)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        if self.cond_proj is not None:
            assert condition is not None
            x = x + self.cond_proj(condition)
        return self.linear_2(F.silu(self.linear_1(x)))


class LevelBuilder:
    """A maker of the layers of one resolution from the config; level 0 is the finest."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        levels = len(config.block_out_channels)
        self.config = config
        self.channels = config.block_out_channels[level]
        self.time_channels = 4 * config.block_out_channels[0]
        self.down_depths = config.down_depths[level]  # blocks of the transformers, one for each residual block
        self.up_depths = config.up_depths[levels - 1 - level]
        self.cross_attention_only = config.cross_attention_only[level]
        self.heads = per_level(config.attention_head_dim, levels)[level]

    @property
    def layers(self) -> int:
        """Return the number of residual blocks on the way down."""
        return len(self.down_depths)

    def resnet(self, in_channels: int) -> ResnetBlock2D:
        return ResnetBlock2D(
            in_channels,
            self.channels,
            time_channels=self.time_channels,
            groups=self.config.norm_num_groups,
            eps=self.config.norm_eps,
        )

    def transformers(self, depths: tuple[int, ...]) -> nn.ModuleList:
        """Make the transformers of one way, each as deep as said."""
        only = self.cross_attention_only
        return nn.ModuleList(self.transformer(depth, cross_attention_only=only) for depth in depths)

    def transformer(self, depth: int, *, cross_attention_only: bool) -> Transformer2DModel:
        return Transformer2DModel(
            self.channels,
            layers=depth,
            heads=self.heads,
            context_channels=self.config.cross_attention_dim,
            groups=self.config.norm_num_groups,
            linear_projection=self.config.use_linear_projection,
            upcast=self.config.upcast_attention,
            cross_attention_only=cross_attention_only,
        )


class DownBlock(nn.Module):
    """`DownBlock2D`, or `CrossAttnDownBlock2D` with a transformer after each residual block."""

    def __init__(self, build: LevelBuilder, in_channels: int, *, attention: bool, downsample: bool) -> None:
        super().__init__()
        widths = [in_channels] + [build.channels] * (build.layers - 1)
        self.resnets = nn.ModuleList(build.resnet(width) for width in widths)
        self.attentions = build.transformers(build.down_depths if attention else ())
        self.downsamplers = nn.ModuleList([Downsample2D(build.channels)] if downsample else [])

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the feature map for the next block, and all skips of this one, oldest first."""
        skips = []
        for resnet, attention in zip(self.resnets, _or_none(self.attentions, len(self.resnets)), strict=True):
            x = resnet(x, time)
            if attention is not None:
                x = attention(x, context)
            skips.append(x)
        for downsampler in self.downsamplers:
            x = downsampler(x)
            skips.append(x)
        return x, skips


class MidBlock(nn.Module):
    """The coarsest resolution between the two ways.

    `UNetMidBlock2DCrossAttn` is a residual block, a transformer and a residual block; `UNetMidBlock2D` the first alone.
    """

    def __init__(self, build: LevelBuilder, *, attention: bool) -> None:
        super().__init__()
        depths = build.down_depths[:1] if attention else ()
        self.attentions = nn.ModuleList(build.transformer(depth, cross_attention_only=False) for depth in depths)
        self.resnets = nn.ModuleList(build.resnet(build.channels) for _ in range(2 if attention else 1))

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        x = self.resnets[0](x, time)
        for attention, resnet in zip(self.attentions, self.resnets[1:], strict=True):
            x = resnet(attention(x, context), time)
        return x


class UpBlock(nn.Module):
    """`UpBlock2D` or `CrossAttnUpBlock2D`: each residual block takes one more skip, the newest first."""

    def __init__(
        self,
        build: LevelBuilder,
        in_channels: int,
        skip_channels: list[int],
        *,
        attention: bool,
        upsample: bool,
    ) -> None:
        super().__init__()
        widths = [in_channels] + [build.channels] * (len(skip_channels) - 1)
        self.resnets = nn.ModuleList(
            build.resnet(width + skip) for width, skip in zip(widths, skip_channels, strict=True)
        )
        self.attentions = build.transformers(build.up_depths if attention else ())
        self.upsamplers = nn.ModuleList([Upsample2D(build.channels)] if upsample else [])

    def forward(
        self, x: Tensor, skips: list[Tensor], time: Tensor, context: Tensor, size: tuple[int, int] | None
    ) -> Tensor:
        """Run the block. skips: this block's, in the order of use; size (height, width): that of the next block's."""
        attentions = _or_none(self.attentions, len(self.resnets))
        for resnet, attention, skip in zip(self.resnets, attentions, skips, strict=True):
            x = resnet(torch.cat([x, skip], dim=1), time)
            if attention is not None:
                x = attention(x, context)
        for upsampler in self.upsamplers:
            x = upsampler(x, size)
        return x


def _or_none(modules: nn.ModuleList, count: int) -> Iterator[nn.Module | None]:
    """Return the modules, or as many Nones where the block has no attention."""
    return iter(modules) if len(modules) else iter([None] * count)


class UNet2DConditionModel(nn.Module):
    """The network that predicts the noise (or the velocity) of a latent at a timestep, given a text.

    Set `gradient_checkpointing` to compute activations again in the backward pass instead of keeping them.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        widths = config.block_out_channels
        levels = [LevelBuilder(config, level) for level in range(len(widths))]
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0], config.time_cond_proj_dim)

        self.down_blocks = nn.ModuleList()
        skip_channels = [widths[0]]  # of every skip, in the order they are made: conv_in's output is the first
        for build, kind in zip(levels, config.down_block_types, strict=True):
            downsample = build is not levels[-1]
            attention = kind == "CrossAttnDownBlock2D"
            self.down_blocks.append(DownBlock(build, skip_channels[-1], attention=attention, downsample=downsample))
            skip_channels += [build.channels] * (build.layers + downsample)

        middle = config.mid_block_type
        self.mid_block = None if middle is None else MidBlock(levels[-1], attention=middle == "UNetMidBlock2DCrossAttn")

        self.up_blocks = nn.ModuleList()
        self.skips_per_up_block = [build.layers + 1 for build in reversed(levels)]
        channels = widths[-1]
        for build, kind in zip(reversed(levels), config.up_block_types, strict=True):
            block_skips = [skip_channels.pop() for _ in range(build.layers + 1)]
            attention, upsample = kind == "CrossAttnUpBlock2D", build is not levels[0]
            self.up_blocks.append(UpBlock(build, channels, block_skips, attention=attention, upsample=upsample))
            channels = build.channels

        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[0], config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, *, timestep_cond: Tensor | None = None
    ) -> Tensor:
        """Map sample (B, C, H, W), timestep () or (B,), encoder_hidden_states (B, T, D) to (B, C, H, W).

        timestep_cond: (B, time_cond_proj_dim), where the config has that. Any H and W from 1 up: where halving rounds
        up, the way back goes to exactly the size of the skip.
        """
        return self._denoise(sample, self._embed_time(timestep, sample, timestep_cond), encoder_hidden_states)

    def _denoise(self, sample: Tensor, time: Tensor, context: Tensor) -> Tensor:
        """Run all blocks. time: embedded, (B, 4 * width)."""
        x = self.conv_in(sample)
        skips = [x]
        for block in self.down_blocks:
            x, new_skips = self._run(block, x, time, context)
            skips += new_skips
        if self.mid_block is not None:
            x = self._run(self.mid_block, x, time, context)
        for block, count in zip(self.up_blocks, self.skips_per_up_block, strict=True):
            block_skips = [skips.pop() for _ in range(count)]
            size = skips[-1].shape[2:] if skips else None
            x = self._run(block, x, block_skips, time, context, size)
        return self.conv_out(F.silu(self.conv_norm_out(x)))

    def _embed_time(self, timestep: Tensor, sample: Tensor, condition: Tensor | None) -> Tensor:
        config = self.config
        timesteps = timestep.reshape(-1).expand(sample.shape[0])
        sinusoids = timestep_embedding(
            timesteps,
            config.block_out_channels[0],
            flip_sin_to_cos=config.flip_sin_to_cos,
            freq_shift=config.freq_shift,
        )
        return self.time_embedding(sinusoids.to(sample.dtype), condition)

    def _run(self, block: nn.Module, *arguments: object):
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *arguments, use_reentrant=False)
        return block(*arguments)
