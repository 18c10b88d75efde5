"""Stages: items that pass through functions one after the other, each group of functions on a worker of its own."""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

Stage = Callable[[Any], Any]


def run_in_stages(items: Sequence[Any], stages: Sequence[Stage]) -> list[Any]:
    """Pass every item through the stages, each a thread that takes the items in order; raises what a stage raises."""
    with ExitStack() as stack:
        workers = [stack.enter_context(ThreadPoolExecutor(1)) for _ in stages]
        ends = []
        for item in items:
            end: Future[Any] = Future()
            end.set_result(item)
            for worker, stage in zip(workers, stages, strict=True):
                end = worker.submit(_after, stage, end)
            ends.append(end)
        return [end.result() for end in ends]


def _after(stage: Stage, before: "Future[Any]") -> Any:
    return stage(before.result())


def chain(stages: Sequence[Stage]) -> Stage:
    """Return one function of several that follow one another."""

    def run(item: Any) -> Any:
        for stage in stages:
            item = stage(item)
        return item

    return run


def balance(seconds: Sequence[float], workers: int) -> tuple[range, ...]:
    """Divide stages in their order between workers so that the slowest worker has the least to do."""
    count = len(seconds)
    divisions = []
    for cuts in itertools.combinations(range(1, count), min(workers, count) - 1):
        ends = (0, *cuts, count)
        divisions.append(tuple(range(start, stop) for start, stop in itertools.pairwise(ends)))
    return min(divisions, key=lambda groups: max(sum(seconds[each] for each in group) for group in groups))


def seconds_in_stages(seconds: Sequence[float], count: int) -> float:
    """Return how long `count` items take through stages that take so long each: the first, then the slowest stage."""
    return sum(seconds) + (count - 1) * max(seconds)
