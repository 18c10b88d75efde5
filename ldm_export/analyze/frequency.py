"""Images against their reconstructions by the size of detail: power, correlation and noise per octave of frequency."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

LUMA = np.array([0.299, 0.587, 0.114])  # of Rec. 601
EDGE_SCALE = 1.0  # pixels: standard deviation of the Gaussian whose gradient an edge is


@dataclass(frozen=True)
class Bands:
    """Octaves of radial frequency, lowest first.

    edges: (bands + 1,) in cycles per pixel, the first 0. index: (H, W), the band of each place of a spectrum.
    """

    edges: np.ndarray
    index: np.ndarray

    @classmethod
    def of(cls, height: int, width: int) -> "Bands":
        """Return octaves down from 2 pixels a cycle, the lowest with all that is longer than half of the image.

        The corners of the spectrum, diagonal detail of less than 2 pixels a cycle, belong to the highest.
        """
        edges = [0.5]
        while edges[-1] / 2 >= 2 / min(height, width):
            edges.append(edges[-1] / 2)
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
        inner = np.array(edges[:0:-1])
        return cls(np.array([0.0, *inner, 0.5]), np.digitize(frequency, inner))

    @property
    def count(self) -> int:
        return len(self.edges) - 1

    @property
    def names(self) -> tuple[str, ...]:
        """Return the length of a cycle in pixels, of each band."""
        lengths = [
            f"{1 / low:.3g} to {1 / high:.3g}" for low, high in zip(self.edges[1:-1], self.edges[2:], strict=True)
        ]
        return (f"over {1 / self.edges[1]:.3g}", *lengths)


def band_powers(images: np.ndarray, others: np.ndarray, bands: Bands) -> np.ndarray:
    """Return the power of an image, of the other, and their cross power in each band: (N, 3, bands).

    Both are (N, C, H, W). The image's mean colour is taken off both, and a Hann window keeps the borders, which do not
    fit together, from looking like fine detail. Sums over places and channels; the power of the difference is the first
    plus the second less twice the third.
    """
    window = np.hanning(images.shape[2] + 2)[1:-1, None] * np.hanning(images.shape[3] + 2)[None, 1:-1]
    found = np.empty((len(images), 3, bands.count))
    index = bands.index.ravel()
    for place, (image, other) in enumerate(zip(images, others, strict=True)):
        mean = image.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
        x, y = (np.fft.fft2((each - mean) * window) for each in (image, other))
        for row, power in enumerate((np.abs(x) ** 2, np.abs(y) ** 2, (x * y.conj()).real)):
            found[place, row] = np.bincount(index, power.sum(axis=0).ravel(), minlength=bands.count)
    return found


def share_kept(powers: np.ndarray) -> float:
    """Return the share of the images' power that the others explain with the best gain: squared correlation, 0 to 1.

    powers: (N, 3) of `band_powers`, or (N, 3, bands) for several bands as one. By Parseval's theorem this is the
    correlation of the images after a band-pass filter. 0 where one of them has no power.
    """
    image, other, cross = powers.reshape(len(powers), 3, -1).sum(axis=(0, 2))
    return float(max(cross, 0.0) ** 2 / (image * other)) if image * other > 0 else 0.0


def edge_correlation(image: np.ndarray, other: np.ndarray) -> float:
    """Return Pearson's correlation of how strong edges are in two images (3, H, W); NaN where one has none."""
    edges = [
        ndimage.gaussian_gradient_magnitude(np.tensordot(LUMA, each, 1), EDGE_SCALE).ravel() for each in (image, other)
    ]
    if min(np.ptp(each) for each in edges) == 0:
        return float("nan")
    return float(np.corrcoef(*edges)[0, 1])
