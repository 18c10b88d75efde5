"""The noisiest layers are found, and as few of them stay in float32 as a search of few runs finds."""

import numpy as np
import pytest

from ldm_export.lossy import sensitivity
from ldm_export.lossy.ranges import Scale, ValueRange, fit_scale
from ldm_export.lossy.sensitivity import MOST_TRIALS, fewest_kept, rank_groups
from tests.lossy.graphs import parsed, range_of
from tests.optimise.graphs import normal

TWO = """g (float[B, T, 8] x, float[B, T, 32] s) => (float[B, T, 32] e, float[B, T, 32] f, float[B, T, 32] h) {
    a = Exp(s)
    p = MatMul(a, m)
    e = Exp(p)
    b = Neg(s)
    q = MatMul(b, n)
    r = MatMul(b, k)
    f = Exp(q)
    h = Exp(r)
}"""


def two_groups(outlier: float) -> list[tuple[str, ...]]:
    """Of two values that layers read, one has a channel of another size."""
    weights = {name: normal(32, 32, seed=seed) for seed, name in enumerate(("m", "n", "k"))}
    a, b = normal(2, 40, 32, seed=5), normal(2, 40, 32, seed=6)
    b[..., 3] *= np.float32(outlier)
    ranges = {"a": range_of(a, 2), "b": range_of(b, 2)}
    return rank_groups(parsed(TWO, weights), ranges)


def test_layers_that_read_one_value_are_one_group_and_the_one_with_an_outlier_is_first() -> None:
    assert two_groups(200.0) == [("q/MatMul", "r/MatMul"), ("p/MatMul",)]
    assert set(two_groups(1.0)) == {("q/MatMul", "r/MatMul"), ("p/MatMul",)}


def test_the_scale_of_a_group_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[ValueRange] = []

    def fit(values: ValueRange, importance: np.ndarray) -> Scale:
        fitted.append(values)
        return fit_scale(values, importance)

    monkeypatch.setattr(sensitivity, "fit_scale", fit)
    assert len(two_groups(1.0)) == len(fitted) == 2


def test_a_channel_of_zeros_in_every_sample_is_no_error() -> None:
    weights = {name: np.zeros((32, 32), np.float32) for name in ("m", "n", "k")}
    zero = np.zeros((4, 32), np.float32)
    ranges = {name: ValueRange(zero[0], zero[0], zero) for name in ("a", "b")}
    assert len(rank_groups(parsed(TWO, weights), ranges)) == 2


@pytest.mark.parametrize("needed", [0, 1, 3, 17, 60])
def test_few_more_than_needed_are_kept_in_few_trials(needed: int) -> None:
    tried: list[int] = []

    def holds(kept: int) -> bool:
        tried.append(kept)
        return kept >= needed

    best = fewest_kept(96, holds)
    assert best in tried and needed <= best <= max(2 * needed, needed + 12)
    assert len(tried) == len(set(tried)) <= MOST_TRIALS


def test_what_never_holds_ends_with_three_quarters_kept() -> None:
    assert fewest_kept(96, lambda kept: False) == 72


@pytest.mark.parametrize("groups", [0, 1, 2])
def test_a_model_of_hardly_a_layer_is_searched_too(groups: int) -> None:
    assert fewest_kept(groups, lambda kept: False) <= groups
    assert fewest_kept(groups, lambda kept: True) == 0
