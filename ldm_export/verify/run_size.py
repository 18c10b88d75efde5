"""The length and size of a sampling run that is compared, by the size of the denoiser.

A step of a large denoiser takes seconds whatever the size, because all weights pass through the processor, for the
reference in float64 twice as many bytes.
"""

from ldm_runtime.package.manifest import Contract

STEPS, LARGEST_SIDE = 20, 16  # the largest side in latent pixels
LARGE_DENOISER = 200_000_000  # weights
LARGE_STEPS, LARGE_LARGEST_SIDE = 10, 12


def is_large(weights: int) -> bool:
    """Tell whether a denoiser of so many weights is compared in fewer steps and smaller."""
    return weights > LARGE_DENOISER


def reference_size(contract: Contract, weights: int) -> tuple[int, tuple[int, int]]:
    """Return steps, and (width, height) in pixels, of the package's own size within the cost that a run may have."""
    steps, side = (LARGE_STEPS, LARGE_LARGEST_SIDE) if is_large(weights) else (STEPS, LARGEST_SIDE)
    factor, image = contract.latent.downsample, contract.image
    return steps, (min(image.width // factor, side) * factor, min(image.height // factor, side) * factor)
