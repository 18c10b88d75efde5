"""Stages: order, overlap and failures of the threads; the division and the time that are predicted."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ldm_export.analyze import stages
from ldm_export.analyze.stages import balance, chain, run_in_stages, seconds_in_stages


def test_items_come_out_in_their_order_through_all_stages() -> None:
    line = [lambda x: x + 1, lambda x: x * 10, str]
    assert run_in_stages(range(20), line) == [str(10 * (x + 1)) for x in range(20)]
    assert [chain(line)(x) for x in range(3)] == ["10", "20", "30"]
    assert run_in_stages([], line) == []


def test_stages_work_at_the_same_time() -> None:
    """The first works on an item while the second has the one before it: each waits for the other."""
    both = threading.Barrier(2)

    def first(item: int) -> int:
        if item > 0:
            both.wait(30)
        return item

    def second(item: int) -> int:
        if item < 3:
            both.wait(30)
        return item

    assert run_in_stages(range(4), [first, second]) == [0, 1, 2, 3]


def most_inside() -> int:
    """Return how many items are inside a stage at once, at most; each stays there for a moment."""
    inside, most = set(), []

    def stage(item: int) -> int:
        inside.add(item)
        threading.Event().wait(0.02)
        most.append(len(inside))
        inside.remove(item)
        return item

    assert run_in_stages(range(8), [stage]) == list(range(8))
    return max(most)


def test_a_stage_has_one_item_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert most_inside() == 1
    monkeypatch.setattr(stages, "ThreadPoolExecutor", lambda workers: ThreadPoolExecutor(workers + 2))
    assert most_inside() > 1, "a stage of several threads would be seen"


def test_a_failure_is_raised() -> None:
    def fail(item: int) -> int:
        if item == 2:
            raise ValueError("item 2")
        return item

    with pytest.raises(ValueError, match="item 2"):
        run_in_stages(range(5), [fail, str])


@pytest.mark.parametrize(
    ("seconds", "workers", "groups"),
    (
        ((1, 8, 1), 1, ((0, 1, 2),)),
        ((1, 8, 1), 3, ((0,), (1,), (2,))),
        ((1, 8, 1), 9, ((0,), (1,), (2,))),
        ((4, 4, 8), 2, ((0, 1), (2,))),
        ((8, 4, 4), 2, ((0,), (1, 2))),
        ((5, 1, 1, 1, 5), 3, ((0,), (1, 2, 3), (4,))),
    ),
)
def test_the_slowest_worker_has_the_least(seconds: tuple[float, ...], workers: int, groups: object) -> None:
    assert tuple(tuple(group) for group in balance(seconds, workers)) == groups


def simulated(seconds: list[float], count: int) -> float:
    """When the last item leaves the last stage: a stage begins when it is free and the item is there."""
    free = [0.0] * len(seconds)
    for _ in range(count):
        ready = 0.0
        for place, each in enumerate(seconds):
            free[place] = ready = max(ready, free[place]) + each
    return free[-1]


@pytest.mark.parametrize("seconds", ([3.0], [1.0, 5.0, 2.0], [4.0, 4.0], [7.0, 1.0, 1.0, 3.0]))
@pytest.mark.parametrize("count", (1, 2, 9))
def test_the_time_is_that_of_a_simulated_line(seconds: list[float], count: int) -> None:
    assert seconds_in_stages(seconds, count) == pytest.approx(simulated(seconds, count))
