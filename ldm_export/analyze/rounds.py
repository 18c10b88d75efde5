"""Rounds: a run whose rows are evaluated side by side, and how many evaluations still follow one another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ldm_runtime.sampling.loop import PlanStep


@dataclass(frozen=True)
class Outcome:
    """What Picard iteration took for some images, beside the usual run; arrays have an entry for each image.

    rows: of the plan. rounds: (N,). sizes: (N, rows), rows that were evaluated in each round, then zeros. latents: (N,)
    relative RMS of the last latents' difference. pixels: (N,) RMS of the images', levels of 255.
    """

    rows: int
    sizes: np.ndarray
    latents: np.ndarray
    pixels: np.ndarray

    @property
    def rounds(self) -> np.ndarray:
        return np.asarray((self.sizes > 0).sum(axis=1))

    @property
    def evaluations(self) -> np.ndarray:
        return np.asarray(self.sizes.sum(axis=1))

    def waits(self, workers: int) -> np.ndarray:
        """Return how many evaluations follow one another on so many workers: (N,)."""
        return np.asarray(np.ceil(self.sizes / workers).sum(axis=1))

    @property
    def pays_from(self) -> int | None:
        """Return the fewest workers that wait less than the usual run does; None: none."""
        most = int(self.sizes.max())
        return next((each for each in range(2, most + 1) if np.mean(self.waits(each)) < self.rows), None)


def round_sizes(steps: Sequence[PlanStep]) -> np.ndarray:
    """Return how many rows were evaluated in each round of a run, given its settled rows, then zeros: (rows,)."""
    sizes = np.zeros(len(steps))
    totals = {each.rounds: each.evaluations for each in steps}  # every round settles a row
    sizes[: len(totals)] = np.diff([0, *totals.values()])
    return sizes
