"""Images to latents and back with a package's autoencoder."""

import numpy as np

from ldm_runtime.components import Components
from ldm_runtime.package.manifest import Contract


class LatentCodec:
    """The autoencoder with the latent scale. Threads share it.

    It takes one image at a time: the activations are what a run needs most memory for.
    """

    def __init__(self, components: Components, contract: Contract) -> None:
        self._components = components
        self._role = contract.codec
        self._space = contract.latent
        self.most_pixels = 0  # of the largest image that was decoded

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Decode scaled latents (B, C, h, w) to pixels around [-1, 1]: float32 (B, 3, H, W)."""
        unscaled = self._space.unscaled(latents)
        pixels = np.concatenate([self._components.convert(self._role.decoder, one[None]) for one in unscaled])
        self.most_pixels = max(self.most_pixels, pixels.shape[-1] * pixels.shape[-2])
        return pixels

    def moments(self, pixels: np.ndarray) -> np.ndarray:
        """Encode pixels (B, 3, H, W) to mean and log-variance of unscaled latents: float32 (B, 2C, h, w).

        An encoder that gives latents gives those, (B, C, h, w).
        """
        return np.concatenate([self._components.convert(self._role.encoder, one[None]) for one in pixels])

    def sample(self, pixels: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """Encode pixels, and draw scaled latents from the moments with `noise`: float32 (B, C, h, w).

        None: the encoder gives latents.
        """
        return self._space.sample(self.moments(pixels), noise).astype(np.float32, copy=False)
