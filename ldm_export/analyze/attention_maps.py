"""Maps of a UNet's attention to the text, as it evaluates: what share of its attention each place gives each token."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ldm_export.models.layers import Attention, Transformer2DModel

Size = tuple[int, int]  # height and width of a feature map


@dataclass(frozen=True)
class Maps:
    """The attention at one resolution, the mean over its heads and layers.

    shares: (B, h, w, T), 1 over the tokens at each place. entropy: (B, h, w), in nats, of each head's shares.
    """

    shares: np.ndarray
    entropy: np.ndarray

    def of(self, row: int) -> "Maps":
        """Return those of one row of the batch."""
        return Maps(self.shares[row][None], self.entropy[row][None])


@dataclass
class Layer:
    """An attention to the text that was seen, and the feature map that it ran on."""

    module: Attention
    size: Size
    tokens: int


@dataclass
class Recorder:
    """What was recorded. layers: in the order of their evaluation."""

    layers: list[Layer] = field(default_factory=list)
    _sums: dict[Size, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)
    _size: Size = (0, 0)

    def take(self) -> dict[Size, Maps]:
        """Return the maps since the last call, the finest resolution first, and forget them."""
        sizes = sorted(self._sums, key=math.prod, reverse=True)
        found = {
            size: Maps(*(np.mean(parts, axis=0) for parts in zip(*self._sums[size], strict=True))) for size in sizes
        }
        self._sums.clear()
        return found

    def enter(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        """See a feature map that comes to a transformer."""
        height, width = arguments[0].shape[2:]
        self._size = (int(height), int(width))

    def see(self, module: nn.Module, arguments: tuple[Tensor | None, ...], result: Tensor) -> None:
        """See an attention that has run."""
        assert isinstance(module, Attention)
        x, context = (*arguments, None)[:2]
        if x is None or context is None:
            return  # to itself
        shares = attention_shares(module, x, context)  # (B, heads, N, T)
        entropy = entropy_of(shares).mean(dim=1)
        self.layers.append(Layer(module, self._size, context.shape[1]))
        kept = (shares.mean(dim=1).unflatten(1, self._size), entropy.unflatten(1, self._size))
        self._sums.setdefault(self._size, []).append((kept[0].float().numpy(), kept[1].float().numpy()))


@contextmanager
def recorded(model: nn.Module) -> Iterator[Recorder]:
    """Record all attention of a model to its text for as long as the context lasts."""
    recorder = Recorder()
    handles = []
    for module in model.modules():
        if isinstance(module, Transformer2DModel):
            handles.append(module.register_forward_pre_hook(recorder.enter))
        elif isinstance(module, Attention):
            handles.append(module.register_forward_hook(recorder.see))
    try:
        yield recorder
    finally:
        for handle in handles:
            handle.remove()


def attention_shares(module: Attention, x: Tensor, context: Tensor) -> Tensor:
    """Return softmax(Q Kᵀ / √d), (B, heads, N, T), of queries from x (B, N, C) and keys from context (B, T, D)."""

    def split(values: Tensor) -> Tensor:
        return values.unflatten(2, (module.heads, -1)).transpose(1, 2)

    with torch.no_grad():
        query, key = split(module.to_q(x)).float(), split(module.to_k(context)).float()
        return torch.softmax(query @ key.transpose(2, 3) / math.sqrt(query.shape[3]), dim=3)


def entropy_of(shares: Tensor) -> Tensor:
    """Return the entropy in nats along the last axis of shares that sum to 1 there."""
    return torch.special.entr(shares).sum(dim=-1)


def grouped(maps: Maps, groups: Mapping[str, list[int]]) -> np.ndarray:
    """Return the shares of groups of tokens, and the entropy as the last, of the first row: (groups + 1, h, w)."""
    parts = [maps.shares[0][..., places].sum(axis=-1) for places in groups.values()]
    return np.stack([*parts, maps.entropy[0]])
