"""A pipeline whose denoiser is exact: the data are a mixture of Gaussians of one deviation, so its flow is known."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.special import softmax

from ldm_runtime.package.manifest import Defaults, LatentSpec
from ldm_runtime.sampling.loop import PlanStep, run_plan
from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.sampling.schedule import NoiseSchedule
from ldm_runtime.sampling.solvers import read_sampler

SCHEDULE = NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon", "trailing", 1, True, False)


class Steps:
    """The steps of a run, as a run of the runtime gives them."""

    def __init__(self, steps: Iterator[PlanStep]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[PlanStep]:
        return self._steps

    def evaluations(self) -> Iterator[PlanStep]:
        return self._steps


class MixturePipe:
    """Draws from a mixture of Gaussians around `means` (K, D), each of the same deviation, by the exact denoiser.

    turn: adds this much of the latents, in reversed order, to what is predicted: no flow of any data does so.
    """

    def __init__(self, means: np.ndarray, deviation: float, *, turn: float = 0.0, guidance: float = 1.0) -> None:
        self.means, self.deviation, self.turn = np.asarray(means, np.float64), deviation, turn
        self.contract = SimpleNamespace(
            schedule=SCHEDULE,
            defaults=Defaults("dpmpp_2m", 20, guidance, False),
            latent=LatentSpec(3, 4, 1.0, 0.0),
            inpaints=False,
            embeds_guidance=False,
            evaluates_negative=lambda scale: scale > 1,
        )

    def sample(
        self, prompts: Sequence[str], *, latents: np.ndarray, steps: int, guidance: float, sampler: str, seed: int
    ) -> Any:
        assert len(prompts) == len(latents)
        plan = compile_plan(SCHEDULE, read_sampler(sampler), steps)
        bars = SCHEDULE.alphas_cumprod()

        def denoise(x: np.ndarray, timestep: float) -> np.ndarray:
            alpha, sigma = np.sqrt(bars[int(timestep)]), np.sqrt(1 - bars[int(timestep)])
            flat = x.reshape(len(x), -1).astype(np.float64)
            noise = (flat - alpha * self._data(flat, alpha, sigma)) / sigma
            return (noise + self.turn * flat[:, ::-1]).reshape(x.shape).astype(np.float32)

        return Steps(run_plan(plan, denoise, latents, lambda row: np.zeros_like(latents)))

    def _data(self, x: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
        """Return E[x0 | x], (N, D)."""
        variance = (alpha * self.deviation) ** 2 + sigma**2
        squares = ((x[:, None] - alpha * self.means) ** 2).sum(axis=2)
        weights = softmax(-squares / (2 * variance), axis=1)
        centre = weights @ self.means
        return centre + alpha * self.deviation**2 / variance * (x - alpha * centre)
