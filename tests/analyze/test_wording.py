"""Numbers in sentences."""

import pytest

from ldm_export.analyze.wording import counted, times_as


@pytest.mark.parametrize(("count", "said"), ((1, "1 step"), (2, "2 steps"), (0, "0 steps"), (1_000, "1,000 steps")))
def test_one_and_several(count: int, said: str) -> None:
    assert counted(count, "step") == said


@pytest.mark.parametrize(
    ("factor", "said"),
    ((1.0, "as long"), (0.9999, "as long"), (1.04, "1.04 times as long"), (34.87, "34.9 times as long")),
)
def test_a_factor_of_one_is_not_said(factor: float, said: str) -> None:
    assert times_as(factor, "long") == said
