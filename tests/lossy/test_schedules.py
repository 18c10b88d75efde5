"""The search of runs that do less: it finds what trying all finds, with few trials."""

import itertools
import math

import pytest

from ldm_export.lossy.schedules import (
    GUIDANCE_UNTIL,
    INTERVALS,
    CachedRows,
    cached_work,
    farthest,
    fewer_steps,
    intervals_of,
    least_cached,
)

SHARES = {1: 0.08, 2: 0.22, 3: 0.38}  # Stable Diffusion 1.5's, by the products of its graphs
ROWS = 20


@pytest.mark.parametrize("levels", [INTERVALS, GUIDANCE_UNTIL, (1,), ()])
def test_the_last_level_that_holds_is_found_by_halves(levels: tuple[float, ...]) -> None:
    for holding in range(len(levels) + 1):
        tried: list[float] = []

        def holds(level: float, holding: int = holding, tried: list[float] = tried) -> bool:
            tried.append(level)
            return levels.index(level) < holding

        assert farthest(levels, holds) == (levels[holding - 1] if holding else None)
        assert len(tried) <= math.ceil(math.log2(len(levels) + 1)) and len(tried) == len(set(tried))


def test_work_is_that_of_whole_rows_and_of_those_that_read() -> None:
    assert cached_work(1, 0.1, ROWS) == 1.0
    assert cached_work(2, 0.1, ROWS) == pytest.approx((10 + 10 * 0.1) / 20)
    assert cached_work(3, 0.1, ROWS) == pytest.approx((7 + 13 * 0.1) / 20)
    assert cached_work(100, 0.1, ROWS) == pytest.approx((1 + 19 * 0.1) / 20)


@pytest.mark.parametrize(("rows", "intervals"), [(20, [2, 3, 4, 5, 8, 10]), (6, [2, 3, 6]), (4, [2, 4]), (1, [])])
def test_a_longer_interval_has_fewer_whole_rows(rows: int, intervals: list[int]) -> None:
    """With 20 rows 4 are whole at interval 5 and at 6, whose images would be worse for nothing."""
    assert intervals_of(rows) == intervals


def _error(rows: CachedRows) -> float:
    """An error that grows with the interval and shrinks with the depth, as a measurement's does."""
    return rows.interval**1.5 / rows.depth


@pytest.mark.parametrize("most", [0.5, 1.0, 1.4, 2.0, 3.0, 4.0, 6.0, 10.0, 40.0])
def test_the_schedule_with_the_least_work_is_found(most: float) -> None:
    tried: list[CachedRows] = []

    def holds(rows: CachedRows) -> bool:
        tried.append(rows)
        return _error(rows) <= most

    every = [CachedRows(*each) for each in itertools.product(SHARES, INTERVALS)]
    held = [rows for rows in every if _error(rows) <= most]
    best = min(held, key=lambda rows: cached_work(rows.interval, SHARES[rows.depth], ROWS), default=None)
    assert least_cached(SHARES, ROWS, holds) == best
    assert len(tried) <= 9 < len(every)


def test_no_depth_is_tried_that_saves_nothing_more() -> None:
    """At a depth of 38 % of the work nothing is below what depth 1 has at the longest interval."""
    tried: list[int] = []

    def holds(rows: CachedRows) -> bool:
        tried.append(rows.depth)
        return True

    assert least_cached(SHARES, ROWS, holds) == CachedRows(1, INTERVALS[-1])
    assert set(tried) == {1}


def test_a_run_has_no_interval_longer_than_its_rows() -> None:
    tried: list[int] = []

    def holds(rows: CachedRows) -> bool:
        tried.append(rows.interval)
        return True

    assert least_cached(SHARES, 4, holds) == CachedRows(1, 4)
    assert set(tried) <= {2, 3, 4}


def test_steps_are_left_out_by_tenths_down_to_one() -> None:
    assert fewer_steps(20) == [18, 16, 14, 12, 10, 8, 6, 4, 2]
    assert fewer_steps(4) == [3, 2, 1]
    assert fewer_steps(50)[0] == 45 and fewer_steps(50)[-1] == 5
    assert fewer_steps(1) == []
