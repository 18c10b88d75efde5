"""What work takes: seconds of rounds, their median with its spread, and a budget that a measurement stays in."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from ldm_export.analyze.statistics import Interval, spread

T = TypeVar("T")
Clock = Callable[[], float]
Seconds = tuple[float, ...]  # of rounds

CAUTION = 4  # a network computes that much slower than a product of matrices, at the most usual
PROBE_SIDE = 512  # of the matrices


def timed(work: Callable[[], T], clock: Clock = time.perf_counter) -> tuple[T, float]:
    """Return what work returns, and the seconds that it took."""
    started = clock()
    result = work()
    return result, clock() - started


def time_in_turns(
    ways: Mapping[str, Callable[[], object]], rounds: int, *, warm: bool = True, clock: Clock = time.perf_counter
) -> dict[str, Seconds]:
    """Time each way, all of them once in each round, so that they share what else the machine does: seconds.

    warm: whether a round that is not counted comes before.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-1 if warm else 0, rounds):
        for name, work in ways.items():
            _, taken = timed(work, clock)
            if turn >= 0:
                seconds[name].append(taken)
    return {name: tuple(each) for name, each in seconds.items()}


def time_within(work: Callable[[], object], rounds: int, seconds: float, clock: Clock = time.perf_counter) -> Seconds:
    """Time work in as many rounds as fit into so many seconds.

    A first round is not counted, unless it is the only one that fits.
    """
    _, first = timed(work, clock)
    fitting = rounds if first <= 0 else int(min(rounds, (seconds - first) / first))
    return time_in_turns({"": work}, fitting, warm=False, clock=clock)[""] if fitting > 0 else (first,)


def ratio(above: Sequence[float], below: Sequence[float]) -> Interval:
    """Return the ratio of medians, and the smallest and largest of the pairs'; unknown ends of a single pair."""
    pairs = [one / other for one, other in zip(above, below, strict=True)]
    return _known(statistics.median(above) / statistics.median(below), min(pairs), max(pairs), len(pairs))


def ratio_apart(above: Sequence[float], below: Sequence[float]) -> Interval:
    """Return the ratio of medians of rounds that are no pairs, and the least and most that any two of them give.

    Unknown ends of a single round of each.
    """
    middle = statistics.median(above) / statistics.median(below)
    return _known(middle, min(above) / max(below), max(above) / min(below), max(len(above), len(below)))


def _known(value: float, low: float, high: float, rounds: int) -> Interval:
    return Interval(value, low, high) if rounds > 1 else Interval.unknown(value)


def cells(found: Interval) -> tuple[float, float | None, float | None]:
    """Return value, least and most for three cells of a table; the last two are empty of a single value."""
    low, high = (each if math.isfinite(each) else None for each in (found.low, found.high))
    return found.value, low, high


def milliseconds(seconds: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Return median, fastest and slowest for three cells of a table; empty where nothing or one round was timed."""
    if not seconds:
        return None, None, None
    return cells(spread(np.array(seconds) * 1e3))


@dataclass
class TimeBudget:
    """The seconds that timings may take together, and what they have taken.

    pace: multiply-accumulates of a second, the most that was seen of them; 0 at the beginning.
    """

    seconds: float
    spent: float = 0.0
    pace: float = 0.0

    @property
    def left(self) -> float:
        return self.seconds - self.spent

    def expected(self, macs: float) -> float:
        """Return the seconds that work of so many multiply-accumulates will take, by the pace of what came before.

        Before anything was timed, by a product of matrices, a fourth as fast.
        """
        if self.pace == 0:
            self.pace = _matrix_pace() / CAUTION
        return macs / self.pace

    def learn(self, macs: float, seconds: float) -> None:
        """Take note of work that was timed. Small work is all overhead: the best pace tells most of larger work."""
        if seconds > 0:
            self.pace = max(self.pace, macs / seconds)

    def time(
        self, work: Callable[[], object], macs: float, rounds: int, clock: Clock = time.perf_counter
    ) -> Seconds | None:
        """Time work of so many multiply-accumulates as `time_within` does; None, without a try, if it will not fit."""
        if self.expected(macs) > self.left:
            return None
        seconds, spent = timed(lambda: time_within(work, rounds, self.left, clock), clock)
        self.spent += spent
        self.learn(macs, min(seconds))
        return seconds


def _matrix_pace() -> float:
    """Return the multiply-accumulates of a second in a product of matrices, by torch with the threads that it has."""
    one, other = torch.rand(2, PROBE_SIDE, PROBE_SIDE).unbind()
    with torch.inference_mode():
        seconds = time_in_turns({"": lambda: one @ other}, 5)[""]
    return float(PROBE_SIDE**3 / min(seconds))
