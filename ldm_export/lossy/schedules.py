"""Search of runs that do less: as far as a measurement of whole runs lets each of their numbers go.

Images get worse the further each number goes: the rows that read deep features of one evaluation (Ma et al. 2023,
arXiv:2312.00858), the share of the run that guidance is left out of (Kynkäänniemi et al. 2024, arXiv:2404.07724), the
steps that are left out. So each is searched by halves, from the middle of what may be.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

INTERVALS = (2, 3, 4, 5, 6, 8, 10)
GUIDANCE_UNTIL = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class CachedRows:
    """Rows with caching. depth: as of `deep_and_shallow`; interval: from one whole row to the next."""

    depth: int
    interval: int


def farthest(levels: Sequence[T], holds: Callable[[T], bool]) -> T | None:
    """Return the last of the levels, from mild to harsh, that holds; None if not even the first does.

    What holds is taken to hold at every milder level, so that of n levels about log2(n) are tried.
    """
    good, bad = -1, len(levels)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(levels[middle]) else (good, middle)
    return levels[good] if good >= 0 else None


def cached_work(interval: int, share: float, rows: int) -> float:
    """Return the work of a run of `rows` rows in that of whole ones. share: of a row that reads in a whole one."""
    whole = math.ceil(rows / interval)
    return (whole + (rows - whole) * share) / rows


def least_cached(shares: Mapping[int, float], rows: int, holds: Callable[[CachedRows], bool]) -> CachedRows | None:
    """Return the schedule with the least work that holds, None if none does.

    shares: by depth, the work of a row that reads deep features in a whole one's. At each depth intervals are tried
    that would do less work than the best so far.
    """
    best, least = None, 1.0
    for depth, share in sorted(shares.items(), key=lambda each: each[1]):
        intervals = [each for each in INTERVALS if each <= rows and cached_work(each, share, rows) < least]
        interval = farthest(intervals, lambda each, depth=depth: holds(CachedRows(depth, each)))
        if interval is not None:
            best, least = CachedRows(depth, interval), cached_work(interval, share, rows)
    return best


def fewer_steps(steps: int) -> list[int]:
    """Return the steps to try in place of `steps`, from more to fewer: by a tenth of them, at least one."""
    return list(range(steps - max(1, steps // 10), 0, -max(1, steps // 10)))
