"""Measures of an array against a reference, in float64: max abs, relative RMS, PSNR, SSIM (Wang et al. 2004)."""

import math

import numpy as np

from ldm_runtime.package.artefacts import Difference

SSIM_WINDOW = 11  # pixels; Gaussian of standard deviation 1.5, as the paper's reference code
SSIM_DEVIATION = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def difference(value: np.ndarray, reference: np.ndarray) -> Difference:
    """Compare sample by sample along axis 0 and keep the worst figure of each kind.

    A wrong sample is thus not diluted by right ones.

    Raises:
        ValueError: the shapes differ, or the arrays hold no sample.
    """
    pairs = _samples(value, reference)
    return Difference(
        relative_rms=max(relative_rms(*pair) for pair in pairs),
        max_abs=max(max_abs(*pair) for pair in pairs),
    )


def lowest_psnr(value: np.ndarray, reference: np.ndarray) -> float:
    """Return the worst sample's PSNR in dB, over the range of the sample's reference; infinite where all are equal.

    Raises:
        ValueError: as `difference`.
    """
    return min(psnr(*pair) for pair in _samples(value, reference))


def max_abs(value: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest absolute difference; NaN if either array holds one."""
    _expect_same_shape(value, reference)
    return float(np.max(np.abs(_float64(value) - _float64(reference))))


def relative_rms(value: np.ndarray, reference: np.ndarray) -> float:
    """Return the RMS of the difference over RMS of the reference; infinite where only the reference is zero."""
    _expect_same_shape(value, reference)
    error = math.sqrt(np.mean((_float64(value) - _float64(reference)) ** 2))
    scale = math.sqrt(np.mean(_float64(reference) ** 2))
    if scale == 0:
        return 0.0 if error == 0 else math.inf if error > 0 else math.nan
    return error / scale


def psnr(value: np.ndarray, reference: np.ndarray, peak: float | None = None) -> float:
    """Return the peak signal-to-noise ratio in dB; infinite where the arrays are equal.

    Args:
        peak: the signal's range (255 for bytes); None takes max − min of the reference.
    """
    _expect_same_shape(value, reference)
    error = float(np.mean((_float64(value) - _float64(reference)) ** 2))
    if error == 0:
        return math.inf
    span = float(np.ptp(_float64(reference))) if peak is None else peak
    if span == 0:
        return -math.inf
    return 10 * math.log10(span**2 / error)


def ssim(value: np.ndarray, reference: np.ndarray, peak: float) -> float:
    """Return the mean structural similarity of two images (channels, height, width), over windows wholly inside them.

    Wang, Bovik, Sheikh, Simoncelli: Image quality assessment, 2004, equation 13, with its Gaussian window of
    11 pixels; images smaller than that use the largest odd window that fits. Equals scikit-image's
    `structural_similarity(gaussian_weights=True, use_sample_covariance=False)`, averaged over channels.
    """
    _expect_same_shape(value, reference)
    if reference.ndim != 3:
        raise ValueError(f"expected (channels, height, width), got the shape {reference.shape}")
    x, y = _float64(value), _float64(reference)
    window = _gaussian_window(min(*reference.shape[1:], SSIM_WINDOW))
    mean_x, mean_y = _filter(x, window), _filter(y, window)
    variance_x = _filter(x * x, window) - mean_x**2
    variance_y = _filter(y * y, window) - mean_y**2
    covariance = _filter(x * y, window) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * peak) ** 2, (SSIM_K2 * peak) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float(np.mean(luminance * structure))


def _gaussian_window(limit: int) -> np.ndarray:
    size = limit if limit % 2 == 1 else limit - 1
    offsets = np.arange(size) - size // 2
    weights = np.exp(-(offsets**2) / (2 * SSIM_DEVIATION**2))
    return weights / weights.sum()


def _filter(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Take the weighted mean over each window that lies inside: (C, H, W) -> (C, H-n+1, W-n+1)."""
    for axis in (1, 2):
        views = np.lib.stride_tricks.sliding_window_view(image, len(window), axis=axis)
        image = views @ window
    return image


def _samples(value: np.ndarray, reference: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pair the samples along axis 0."""
    _expect_same_shape(value, reference)
    if len(reference) == 0:
        raise ValueError("nothing to compare: the arrays hold no sample")
    return list(zip(value, reference, strict=True))


def _float64(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float64)


def _expect_same_shape(value: np.ndarray, reference: np.ndarray) -> None:
    if value.shape != reference.shape:
        raise ValueError(f"cannot compare the shape {value.shape} with the reference's {reference.shape}")
