"""Rate against distortion: the points of codecs on the same images, and what they take at the same error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST_STREAM = 1000  # bytes: below, a stream's last word is felt


@dataclass(frozen=True)
class Point:
    """A setting of a codec, its quality or step, on N images.

    bits: (N,), of each image. error: (N,), its mean squared error in grey levels of 255. shown: the first few images
    after the codec, uint8 (n, H, W, 3). written: bytes of all images as one stream, where there is one.
    """

    setting: float | None
    bits: np.ndarray
    error: np.ndarray
    shown: np.ndarray
    written: int | None = None

    @property
    def psnr(self) -> float:
        return psnr(float(self.error.mean()))

    @property
    def excess(self) -> float | None:
        """Return by which share the bytes are more than the model's bits; None where too few were written to tell."""
        if self.written is None or self.written < LEAST_STREAM:
            return None
        return 8 * self.written / float(self.bits.sum()) - 1


def psnr(error: float) -> float:
    """Return the peak signal-to-noise ratio in dB of a mean squared error in grey levels; none is above 138 dB."""
    return 10 * float(np.log10(255**2 / max(error, 1e-9)))


@dataclass(frozen=True)
class Curves:
    """What was measured. lines: the points of each codec, by its name. unquantised: (N,) errors of the autoencoder.

    places: of the images that were coded; the others taught the model.
    """

    places: np.ndarray
    lines: dict[str, list[Point]]
    unquantised: np.ndarray


LATENTS, DRAWS, BARE_JPEG = "latents", "draws of the latents", "JPEG without headers"


def working_point(curves: Curves, loss: float) -> Point:
    """Return the coarsest step that costs at most `loss` dB against latents as they are, or else the finest."""
    least = psnr(float(curves.unquantised.mean())) - loss
    within = [point for point in curves.lines[LATENTS] if point.psnr >= least]
    return within[-1] if within else curves.lines[LATENTS][0]


def at_equal_error(samples: np.ndarray) -> float:
    """Return the bits per image at which a codec has the first column's error, NaN where no setting is as bad or good.

    samples: (N, 1 + 2 Q): an error to reach, then the errors and the bits of Q settings. Between settings the logarithm
    of the bits goes straight with the PSNR.
    """
    target, *rest = samples.mean(axis=0)
    errors, bits = np.array(rest[: len(rest) // 2]), np.array(rest[len(rest) // 2 :])
    order = np.argsort(-errors)
    reached = np.array([psnr(each) for each in errors[order]])
    found = np.interp(psnr(target), reached, np.log(bits[order]), left=np.nan, right=np.nan)
    return float(np.exp(found))


def equal_error_samples(point: Point, line: Sequence[Point]) -> np.ndarray:
    """Return what `at_equal_error` takes, for a point of latents and another codec's line."""
    return np.stack([point.error, *(each.error for each in line), *(each.bits for each in line)], axis=1)
