"""The range of a value over many evaluations, and the scale with which eight bits hold it best."""

from dataclasses import dataclass

import numpy as np

from ldm_export.errors import ExportError

SMALLEST_SCALE = np.float32(2.0**-60)  # of what is zero, or so small that products of two scales would be
LEVELS = 255
# Shares of a value that may lie beyond the end of its range, at either end. Fewer than the sample can show count as 0.
_TAILS = (0.0, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
_MOST_VALUES = 2**17  # of a sample that a scale is fitted to
_LARGEST_SMOOTHING = np.float32(2.0**10)  # and its inverse: a channel beyond it is an outlier of its own


@dataclass(frozen=True)
class ValueRange:
    """What a value held, by channel: `low` and `high` float32 (C,) over everything, `sample` (S, C) at some places."""

    low: np.ndarray
    high: np.ndarray
    sample: np.ndarray

    def divided(self, divisors: np.ndarray) -> "ValueRange":
        """Return the range of the value divided by `divisors` (C,), which are above 0."""
        return ValueRange(self.low / divisors, self.high / divisors, self.sample / divisors)

    @property
    def largest(self) -> np.ndarray:
        """The largest magnitude of each channel: float32 (C,)."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


@dataclass(frozen=True)
class Scale:
    """Unsigned eight bits: q stands for scale · (q − zero)."""

    scale: np.float32
    zero: np.uint8

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Return what is left of `values` in eight bits, as float32 of the same shape."""
        levels = np.rint(values / self.scale) + np.float32(self.zero)
        return (np.clip(levels, 0, LEVELS) - np.float32(self.zero)) * self.scale


def join_ranges(ranges: list[ValueRange]) -> ValueRange:
    """Return the range over all of `ranges`, at least one, of the same value in several evaluations."""
    return ValueRange(
        np.min([each.low for each in ranges], axis=0),
        np.max([each.high for each in ranges], axis=0),
        np.concatenate([each.sample for each in ranges]),
    )


def check_range(found: ValueRange, channels: int, name: str) -> None:
    """Raise ExportError unless `found` is a range of a value with so many channels; `name` is the value's."""
    shapes = (found.low.shape, found.high.shape, found.sample.shape[1:])
    if shapes != ((channels,),) * 3 or found.sample.ndim != 2:
        raise ExportError(
            f"the range of {name!r} has shapes {', '.join(map(str, shapes))}, expected {channels} channels; "
            "calibrate the component again"
        )
    bad = ~(np.isfinite(found.low) & np.isfinite(found.high) & np.isfinite(found.sample).all(axis=0))
    if bad.any():
        raise ExportError(
            f"the range of {name!r} holds NaN or infinity in channel {int(bad.argmax())}; the component overflows on "
            "what it was calibrated with, check it with `ldm-export verify`"
        )
    if (found.low > found.high).any():
        channel = int((found.low > found.high).argmax())
        raise ExportError(
            f"the range of {name!r} goes from {found.low[channel]:g} to {found.high[channel]:g} in channel {channel}, "
            "expected the smaller end first; calibrate the component again"
        )


def fit_scale(values: ValueRange, importance: np.ndarray) -> Scale:
    """Return the scale with the least squared error on the sample and at the ends of each channel.

    importance: float32 (C,), what an error in each channel counts. The range may cut off the tails: first the upper
    end is searched, then the lower one. Zero is always a level, since convolutions are padded with it.
    """
    stride = max(1, -(-values.sample.size // _MOST_VALUES))
    sample = np.concatenate([values.sample[::stride], values.low[None], values.high[None]])
    lows = np.quantile(sample, _TAILS)  # widest first: of equal errors `min` takes it
    highs = np.quantile(sample, [1 - tail for tail in _TAILS])
    high = min(highs, key=lambda end: _error(sample, importance, lows[0], end))
    low = min(lows, key=lambda end: _error(sample, importance, end, high))
    return _scale(low, high)


def smoothing(values: ValueRange, weights: np.ndarray, alpha: float) -> np.ndarray:
    """Return what each channel is divided by before it is rounded: float32 (C,), 1 on average (of logarithms).

    max|x|^α / max|w|^(1 − α): it moves the difficulty of outlying channels into the weights, which have a scale for
    each output (Xiao et al. 2022, SmoothQuant, arXiv:2211.10438, equation 4). A channel without inputs or without
    weights stays. weights: float32 (C,), the largest magnitude that each channel is multiplied by.
    """
    largest = values.largest
    alive = (largest > SMALLEST_SCALE) & (weights > SMALLEST_SCALE)
    divisors = np.ones(largest.shape, np.float32)
    if alive.any():
        logarithms = alpha * np.log(largest[alive]) - (1 - alpha) * np.log(weights[alive])
        divisors[alive] = np.exp(logarithms - logarithms.mean())
    return np.clip(divisors, 1 / _LARGEST_SMOOTHING, _LARGEST_SMOOTHING)


def _scale(low: float, high: float) -> Scale:
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    scale = np.float32((high - low) / LEVELS)
    if scale < SMALLEST_SCALE:
        return Scale(np.float32(1.0), np.uint8(0))  # zeros only
    return Scale(scale, np.uint8(np.clip(np.rint(-low / scale), 0, LEVELS)))


def _error(sample: np.ndarray, importance: np.ndarray, low: float, high: float) -> float:
    difference = sample - _scale(low, high).rounded(sample)
    return float(np.mean(np.square(difference), axis=0, dtype=np.float64) @ importance)
