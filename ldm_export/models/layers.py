"""Layers of the autoencoder and the UNet; checked against diffusers 0.39, whose parameter names they keep.

Shapes: B batch, C channels, H and W the size of a feature map, N = H·W its pixels as tokens, T text tokens, D
text width. Everything here works at any batch, size and token count.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResnetBlock2D(nn.Module):
    """Two 3x3 convolutions around a residual (He et al. 2015), each after GroupNorm and SiLU.

    `time_channels` is the width of the time embedding that is projected and added between them; None where
    the model has no time (the autoencoder).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, time_channels: int | None, groups: int, eps: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = None if time_channels is None else nn.Linear(time_channels, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """Map x (B, C, H, W), time (B, time_channels) to (B, out_channels, H, W)."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None:
            assert time is not None
            hidden = hidden + self.time_emb_proj(F.silu(time))[:, :, None, None]  # one shift per channel
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        if self.conv_shortcut is not None:
            x = self.conv_shortcut(x)
        return x + hidden


class Downsample2D(nn.Module):
    """A strided 3x3 convolution that halves the size.

    The UNet pads all four sides (odd sizes round up); the autoencoder pads only right and bottom, as the
    first latent-diffusion encoder did.
    """

    def __init__(self, channels: int, *, pad_right_and_bottom_only: bool = False) -> None:
        super().__init__()
        self.pad_right_and_bottom_only = pad_right_and_bottom_only
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if pad_right_and_bottom_only else 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.pad_right_and_bottom_only:
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)


class Upsample2D(nn.Module):
    """Nearest-neighbour upsampling, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Enlarge x to exactly `size` (height, width), or to twice its size where None."""
        if size is None:
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017), to itself or to another sequence.

    `upcast` computes it in float32 where the model runs in less: SD 2.1's logits overflow float16.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        context_channels: int | None = None,
        bias: bool = False,
        upcast: bool = False,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.upcast = upcast
        context_channels = channels if context_channels is None else context_channels
        self.to_q = nn.Linear(channels, channels, bias=bias)
        self.to_k = nn.Linear(context_channels, channels, bias=bias)
        self.to_v = nn.Linear(context_channels, channels, bias=bias)
        # A list because diffusers has a dropout as second entry: the name is `to_out.0`.
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Map x (B, N, C), context (B, T, D) or None for x itself to (B, N, C)."""
        context = x if context is None else context
        query = self._split_heads(self.to_q(x))
        key = self._split_heads(self.to_k(context))
        value = self._split_heads(self.to_v(context))
        if self.upcast and query.dtype.itemsize < torch.float32.itemsize:
            attended = F.scaled_dot_product_attention(query.float(), key.float(), value.float()).to(query.dtype)
        else:
            attended = F.scaled_dot_product_attention(query, key, value)
        return self.to_out[0](attended.transpose(1, 2).flatten(2))  # (B, heads, N, C/heads) -> (B, N, C)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, N, C) -> (B, heads, N, C/heads)


class SpatialAttention(Attention):
    """Self-attention over the pixels of a feature map, with GroupNorm and residual (the VAE's middle)."""

    def __init__(self, channels: int, *, groups: int, eps: float) -> None:
        super().__init__(channels, heads=1, bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, eps)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Map x (B, C, H, W) to (B, C, H, W)."""
        tokens = self.group_norm(x.flatten(2)).transpose(1, 2)  # (B, N, C)
        attended = super().forward(tokens)
        return attended.transpose(1, 2).reshape(x.shape) + x


class GEGLU(nn.Module):
    """A linear layer whose one half gates the other through GELU (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * out_channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden, gate = self.proj(x).chunk(2, dim=-1)
        return hidden * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU to four times the width and back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # diffusers has a dropout in the middle, so the names are `net.0.proj` and `net.2`.
        self.net = nn.ModuleList([GEGLU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net:
            x = layer(x)
        return x


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention to the text, feed-forward; each a residual after LayerNorm.

    With `cross_attention_only` the first attention is one to the text too.
    """

    def __init__(
        self, channels: int, *, heads: int, context_channels: int, upcast: bool, cross_attention_only: bool = False
    ) -> None:
        super().__init__()
        self.cross_attention_only = cross_attention_only
        first = context_channels if cross_attention_only else None
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads=heads, context_channels=first, upcast=upcast)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, heads=heads, context_channels=context_channels, upcast=upcast)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map x (B, N, C), context (B, T, D) to (B, N, C)."""
        x = self.attn1(self.norm1(x), context if self.cross_attention_only else None) + x
        x = self.attn2(self.norm2(x), context) + x
        return self.ff(self.norm3(x)) + x


class Transformer2DModel(nn.Module):
    """Transformer blocks over the pixels of a feature map, between two projections and around a residual.

    The projections are 1x1 convolutions (SD 1.x) or linear layers (SD 2.x). The GroupNorm's epsilon is 1e-6
    whatever the UNet's `norm_eps` says.
    """

    def __init__(
        self,
        channels: int,
        *,
        layers: int,
        heads: int,
        context_channels: int,
        groups: int,
        linear_projection: bool,
        upcast: bool,
        cross_attention_only: bool = False,
    ) -> None:
        super().__init__()
        self.linear_projection = linear_projection
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels) if linear_projection else nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(
                channels,
                heads=heads,
                context_channels=context_channels,
                upcast=upcast,
                cross_attention_only=cross_attention_only,
            )
            for _ in range(layers)
        )
        self.proj_out = nn.Linear(channels, channels) if linear_projection else nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map x (B, C, H, W), context (B, T, D) to (B, C, H, W)."""
        height, width = x.shape[2:]
        hidden = self.norm(x)
        if not self.linear_projection:
            hidden = self.proj_in(hidden)
        hidden = hidden.permute(0, 2, 3, 1).flatten(1, 2)  # (B, C, H, W) -> (B, N, C)
        if self.linear_projection:
            hidden = self.proj_in(hidden)
        for block in self.transformer_blocks:
            hidden = block(hidden, context)
        if self.linear_projection:
            hidden = self.proj_out(hidden)
        hidden = hidden.unflatten(1, (height, width)).permute(0, 3, 1, 2).contiguous()  # -> (B, C, H, W)
        if not self.linear_projection:
            hidden = self.proj_out(hidden)
        return hidden + x
