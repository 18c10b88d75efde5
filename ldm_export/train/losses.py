"""The mathematics of training a diffusion model: noised latents, targets and loss weights.

Notation of Ho et al. 2020 (arXiv 2006.11239): x_t = alpha x_0 + sigma eps with alpha^2 + sigma^2 = 1. v-prediction
after Salimans and Ho 2022 (2202.00512), weights after Hang et al. 2023 (Min-SNR, 2303.09556).
"""

import torch
from torch import Tensor

from ldm_runtime.sampling.schedule import NoiseSchedule


class DiffusionLoss:
    """The loss of a model's prediction on noised latents, on one device.

    Args:
        schedule: gives alphas_cumprod and the prediction type, "epsilon" or "v_prediction".
        min_snr_gamma: cap on the signal-to-noise ratio that counts; 0 gives every timestep the weight 1.
    """

    def __init__(self, schedule: NoiseSchedule, min_snr_gamma: float, device: torch.device) -> None:
        bars = torch.from_numpy(schedule.alphas_cumprod())
        self.alphas = bars.sqrt().float().to(device)  # (T,)
        self.sigmas = (1 - bars).sqrt().float().to(device)  # (T,)
        self.prediction = schedule.prediction_type
        self.weights = loss_weights(bars, self.prediction, min_snr_gamma).float().to(device)  # (T,)

    def noised(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Noise clean latents to x_t (B, C, h, w); timesteps int64 (B,)."""
        return self._at(self.alphas, timesteps) * clean + self._at(self.sigmas, timesteps) * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Compute the target of the prediction: eps, or v = alpha eps - sigma x_0."""
        if self.prediction == "epsilon":
            return noise
        return self._at(self.alphas, timesteps) * noise - self._at(self.sigmas, timesteps) * clean

    def __call__(self, predicted: Tensor, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Compute the weighted mean squared error, a scalar."""
        errors = (predicted.float() - self.target(clean, noise, timesteps)).square().mean(dim=(1, 2, 3))  # (B,)
        return (self.weights[timesteps] * errors).mean()

    @staticmethod
    def _at(values: Tensor, timesteps: Tensor) -> Tensor:
        return values[timesteps][:, None, None, None]


def loss_weights(alphas_cumprod: Tensor, prediction: str, min_snr_gamma: float) -> Tensor:
    """Compute the weight of each timestep's error (T,): min(snr, gamma) for x_0, converted to the prediction."""
    if min_snr_gamma == 0:
        return torch.ones_like(alphas_cumprod)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    # |x_0 error|^2 = |eps error|^2 / snr = |v error|^2 / (snr + 1)
    return snr.clamp(max=min_snr_gamma) / (snr if prediction == "epsilon" else snr + 1)
