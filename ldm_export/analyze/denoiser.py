"""The denoiser of a model, asked for the noise in latents of whole images, as a run asks it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ldm_export.analyze.subject import Subject
from ldm_runtime.extra_inputs import extra_inputs
from ldm_runtime.request_sizes import ImageSizes
from ldm_runtime.sampling.schedule import FlowSchedule, Schedule
from ldm_runtime.sampling.solvers.rows import Level, level_of_bar, noise_prediction

CELLS_AT_ONCE = 64 * 16 * 16  # of latents: four images of Stable Diffusion's 64 x 64 cells
NOISIEST, CLEAREST = -10.0, 10.0  # log-SNR at which no schedule leaves anything to find


class RunsFeeds(Protocol):
    """An engine, or a view of one."""

    def run(self, feeds: dict[str, np.ndarray]) -> Mapping[str, np.ndarray]: ...


@dataclass(frozen=True)
class Condition:
    """What texts are to a denoiser: context (B, T, D), and pooled text (B, P), P 0 where it reads none."""

    context: np.ndarray
    pooled: np.ndarray

    def repeated(self, count: int) -> "Condition":
        """Return each row `count` times, one after the other."""
        return Condition(np.repeat(self.context, count, axis=0), np.repeat(self.pooled, count, axis=0))

    def part(self, rows: slice) -> "Condition":
        """Return some of the rows."""
        return Condition(self.context[rows], self.pooled[rows])

    def after(self, other: "Condition") -> "Condition":
        """Return the rows of another one, and then these."""
        return Condition(np.concatenate([other.context, self.context]), np.concatenate([other.pooled, self.pooled]))


class Denoiser:
    """The denoiser of a subject. engine: what evaluates it; None: the one that draws.

    A model for inpainting gets a mask over the whole image: it has nothing but the text then, as the others.
    """

    def __init__(self, subject: Subject, engine: RunsFeeds | None = None) -> None:
        self._subject, self._contract = subject, subject.contract
        self._engine = subject.pipe.component(self._contract.denoiser.component) if engine is None else engine

    def condition(self, texts: Sequence[str]) -> Condition:
        """Encode texts; "" is what stands for none in training, or zeros where the model takes those for it."""
        context, pooled = self._subject.pipe.embed_pooled(list(texts))
        if self._contract.defaults.zero_negative:
            given = np.array([bool(text) for text in texts], np.float32)
            context, pooled = context * given[:, None, None], pooled * given[:, None]
        return Condition(context, pooled)

    def output(self, x: np.ndarray, timestep: float, condition: Condition) -> np.ndarray:
        """Evaluate for latents with noise (B, C, h, w): float32 of that shape."""
        role, size = self._contract.denoiser, self._subject.size
        extra = extra_inputs(
            self._contract, ImageSizes(size, (0, 0), size), condition.pooled, self._contract.defaults.guidance
        )
        sample = x.astype(np.float32, copy=False)
        if self._contract.inpaints:
            sample = np.concatenate([sample, np.repeat(self._masked, len(x), axis=0)], axis=1)
        feeds = {
            role.sample: np.ascontiguousarray(sample),
            role.timestep: np.array(timestep, np.float32),
            role.context: condition.context,
            **extra,
        }
        return np.asarray(self._engine.run(feeds)[role.output], np.float32)

    def noise(self, latents: np.ndarray, level: Level, condition: Condition) -> np.ndarray:
        """Predict the noise in `latents` (B, C, h, w), which are alpha * clean + sigma * noise of a level.

        Large latents are evaluated a few at a time, however many texts there are: memory grows with the rows.
        """
        rows = max(1, CELLS_AT_ONCE // math.prod(latents.shape[2:]))
        parts = [slice(start, start + rows) for start in range(0, len(latents), rows)]
        output = np.concatenate([self.output(latents[part], level.timestep, condition.part(part)) for part in parts])
        convert: Any = noise_prediction  # of arrays as well as of forms
        return np.asarray(convert(self._contract.schedule.prediction_type, level, latents, output), np.float32)

    @cached_property
    def _masked(self) -> np.ndarray:
        """Return the concat channels (1, 1 + C, h, w) of an image that is masked all over."""
        space, (width, height) = self._contract.latent, self._subject.size
        moments = self._subject.pipe.encode(Image.new("RGB", (width, height), (128, 128, 128)))
        latents = space.scaled(moments[:, : space.channels])
        return np.concatenate([np.ones_like(latents[:, :1]), latents], axis=1)


def noise_levels(schedule: Schedule, count: int) -> list[Level]:
    """Return about `count` levels, evenly spaced in log-SNR over a schedule, the noisiest first."""
    if isinstance(schedule, FlowSchedule):
        sigmas = [1 / (1 + math.exp(each / 2)) for each in np.linspace(NOISIEST, CLEAREST, count)]
        return [Level(sigma * schedule.num_train_timesteps, 1 - sigma, sigma) for sigma in sigmas]
    bars = schedule.alphas_cumprod()
    known = np.log(np.maximum(bars, 1e-30) / (1 - bars))
    wanted = np.linspace(max(known[-1], NOISIEST), min(known[0], CLEAREST), count)
    timesteps = sorted({int(np.abs(known - each).argmin()) for each in wanted}, reverse=True)
    return [level_of_bar(float(timestep), float(bars[timestep])) for timestep in timesteps]


def log_snr(levels: Sequence[Level]) -> np.ndarray:
    """Return ln(alpha² / sigma²) of levels, (L,)."""
    return np.array([2 * level.log_snr for level in levels])
