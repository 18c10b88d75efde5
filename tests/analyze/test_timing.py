"""Times by a clock that is set: turns, spreads, and a budget that is kept."""

import math

import pytest

from ldm_export.analyze.timing import TimeBudget, cells, milliseconds, ratio, ratio_apart, time_in_turns, timed


class Watch:
    """A clock that stands still but for work of known length."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, 0

    def read(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.calls += 1


def test_ways_take_turns_and_a_first_round_is_not_counted() -> None:
    calls: list[str] = []
    seconds = time_in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert [len(each) for each in seconds.values()] == [3, 3] and all(each >= 0 for each in seconds["a"])
    time_in_turns({"a": lambda: calls.append("c")}, 2, warm=False)
    assert calls[8:] == ["c", "c"]


def test_times_are_those_of_the_clock() -> None:
    watch = Watch()
    ways = {"a": lambda: watch.work(2.0), "b": lambda: watch.work(0.5)}
    assert time_in_turns(ways, 2, clock=watch.read) == {"a": (2.0, 2.0), "b": (0.5, 0.5)}
    assert timed(lambda: watch.work(3.0), watch.read) == (None, 3.0)


def test_a_ratio_is_of_medians_and_its_range_of_pairs() -> None:
    found = ratio([2.0, 4.0, 6.0], [1.0, 4.0, 2.0])
    assert (found.value, found.low, found.high) == (2.0, 1.0, 3.0)


def test_a_ratio_of_rounds_that_are_no_pairs_has_the_range_of_any_two() -> None:
    found = ratio_apart([2.0, 4.0, 6.0], [1.0, 2.0])
    assert (found.value, found.low, found.high) == (4.0 / 1.5, 1.0, 6.0)


def test_one_round_has_no_spread_and_empty_cells() -> None:
    for found in (ratio([6.0], [2.0]), ratio_apart([6.0], [2.0])):
        assert (found.value, found.low, found.high) == (3.0, -math.inf, math.inf)
        assert cells(found) == (3.0, None, None)
    assert milliseconds([0.003]) == (pytest.approx(3.0), None, None)
    assert ratio_apart([6.0], [1.0, 2.0]).high == 6.0


def test_cells_of_a_table_have_the_spread() -> None:
    assert milliseconds([0.003, 0.001, 0.010]) == pytest.approx((3.0, 1.0, 10.0))
    assert milliseconds(()) == (None, None, None)


def test_work_that_fits_is_timed_in_all_rounds_but_for_the_first() -> None:
    watch, budget = Watch(), TimeBudget(100.0, pace=10.0)
    assert budget.time(lambda: watch.work(2.0), 50.0, 7, watch.read) == (2.0,) * 7
    assert watch.calls == 8 and budget.left == 100.0 - 16.0 and budget.pace == 25.0


def test_work_has_as_many_rounds_as_fit() -> None:
    watch, budget = Watch(), TimeBudget(10.0, pace=10.0)
    assert budget.time(lambda: watch.work(3.0), 30.0, 7, watch.read) == (3.0, 3.0)
    assert budget.spent == pytest.approx(9.0)
    watch, budget = Watch(), TimeBudget(10.0, pace=10.0)
    assert budget.time(lambda: watch.work(8.0), 30.0, 7, watch.read) == (8.0,), "the first is the only one"
    assert watch.calls == 1 and budget.spent == 8.0


def test_work_that_will_not_fit_is_not_tried() -> None:
    watch, budget = Watch(), TimeBudget(10.0, pace=10.0)
    assert budget.time(lambda: watch.work(1.0), 101.0, 7, watch.read) is None
    assert watch.calls == 0 and budget.spent == 0


def test_the_pace_is_the_best_that_was_seen() -> None:
    watch, budget = Watch(), TimeBudget(1000.0, pace=1.0)
    budget.time(lambda: watch.work(1.0), 5.0, 2, watch.read)
    budget.time(lambda: watch.work(2.0), 2.0, 2, watch.read)
    assert budget.expected(50.0) == 10.0


def test_before_anything_was_timed_a_product_of_matrices_tells() -> None:
    budget = TimeBudget(1.0)
    assert 1e6 < 1e9 / budget.expected(1e9) < 1e13
