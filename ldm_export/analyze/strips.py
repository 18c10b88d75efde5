"""Strips: an image decoded in horizontal parts, with latents that overlap, and how it differs from the whole."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Decode = Callable[[np.ndarray], np.ndarray]
Map = Callable[[Callable[[Any], np.ndarray], Sequence[Any]], Iterable[np.ndarray]]


@dataclass(frozen=True)
class Strip:
    """Rows `start` to `stop` of the latents, which are decoded with their neighbours from `low` to `high`."""

    start: int
    stop: int
    low: int
    high: int


def cut(rows: int, count: int, overlap: int) -> tuple[Strip, ...]:
    """Cut rows of latents into strips whose heights differ by at most one; each sees `overlap` rows beyond its own."""
    ends = [rows * place // count for place in range(count + 1)]
    return tuple(
        Strip(start, stop, max(0, start - overlap), min(rows, stop + overlap))
        for start, stop in zip(ends[:-1], ends[1:], strict=True)
    )


def decode_strips(decode: Decode, latents: np.ndarray, strips: Sequence[Strip], run: Map = map) -> np.ndarray:
    """Decode latents (B, C, h, w) strip by strip to pixels (B, 3, H, W). run: `map`, or that of a pool of workers."""
    parts = run(decode, [np.ascontiguousarray(latents[:, :, each.low : each.high]) for each in strips])
    return join(list(parts), strips)


def join(parts: Sequence[np.ndarray], strips: Sequence[Strip]) -> np.ndarray:
    """Lay each strip's own rows of its pixels (B, 3, rows, W) under one another: (B, 3, H, W)."""
    kept = []
    for part, strip in zip(parts, strips, strict=True):
        cell = part.shape[2] // (strip.high - strip.low)
        kept.append(part[:, :, (strip.start - strip.low) * cell : (strip.stop - strip.low) * cell])
    return np.concatenate(kept, axis=2)


def beside_seams(strips: Sequence[Strip], cell: int) -> np.ndarray:
    """Return which rows of pixels are within a cell of a seam: bool (H,)."""
    beside = np.zeros(strips[-1].stop * cell, bool)
    for strip in strips[1:]:
        beside[max(0, (strip.start - 1) * cell) : (strip.start + 1) * cell] = True
    return beside
