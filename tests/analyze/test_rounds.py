"""Rounds: what is counted of runs whose rounds are known."""

from types import SimpleNamespace

import numpy as np
import pytest

from ldm_export.analyze.rounds import Outcome, round_sizes
from tests.runtime.sampling.test_picard import gaussian, side_by_side
from tests.runtime.sampling.test_steps import plan_of


def outcome(rows: int, *sizes: list[int]) -> Outcome:
    padded = np.array([each + [0] * (rows - len(each)) for each in sizes], float)
    return Outcome(rows, padded, np.zeros(len(sizes)), np.zeros(len(sizes)))


def test_sizes_of_rounds_are_those_of_the_run() -> None:
    plan = plan_of("ddim", 10)
    sizes = round_sizes(side_by_side(plan, 4, 1e-4, model=gaussian(plan, 1.0)))
    assert sizes.tolist() == [4, 4, 2, 0, 0, 0, 0, 0, 0, 0]
    exact = round_sizes(side_by_side(plan, 3, 0.0, model=gaussian(plan, 4.0)))
    assert exact.sum() == side_by_side(plan, 3, 0.0, model=gaussian(plan, 4.0))[-1].evaluations
    assert exact[0] == 3 and exact[-1] <= 1


def test_a_run_one_by_one_has_rounds_of_one() -> None:
    steps = [SimpleNamespace(rounds=k, evaluations=k) for k in (1, 2, 3)]
    assert round_sizes(steps).tolist() == [1, 1, 1]  # type: ignore[arg-type]


def test_counts_are_those_of_the_sizes() -> None:
    found = outcome(8, [4, 4, 4, 1], [4, 4, 2])
    assert found.rounds.tolist() == [4, 3] and found.evaluations.tolist() == [13, 10]
    assert (
        found.waits(1).tolist() == [13, 10] and found.waits(2).tolist() == [7, 5] and found.waits(4).tolist() == [4, 3]
    )


def test_it_pays_where_waits_are_fewer_than_rows() -> None:
    assert outcome(8, [4, 4, 4, 4]).pays_from == 4  # 2 workers wait 8 times, and 3 too: their second wait has one row
    assert outcome(8, [4, 4, 4]).pays_from == 2
    assert outcome(4, [4, 3, 2, 1]).pays_from is None
    assert outcome(4, [1, 1, 1, 1]).pays_from is None


@pytest.mark.parametrize("workers", (1, 2, 3, 8))
def test_waits_are_never_fewer_than_rounds(workers: int) -> None:
    found = outcome(8, [8, 5, 3, 1])
    assert found.rounds[0] <= found.waits(workers)[0] <= found.evaluations[0]
