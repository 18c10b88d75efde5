"""Scales are those with the least error, tails that would cost levels are cut off, and zero is always a level."""

import numpy as np
import pytest

from ldm_export.lossy.ranges import Scale, ValueRange, fit_scale, join_ranges, smoothing
from tests.lossy.graphs import range_of
from tests.optimise.graphs import normal

EVEN = np.ones(4, np.float32)


def error(scale: Scale, values: np.ndarray) -> float:
    return float(np.mean(np.square(scale.rounded(values) - values)))


@pytest.mark.parametrize("values", [normal(500, 4), np.abs(normal(500, 4)), -1 - np.abs(normal(500, 4))])
def test_zero_is_a_level(values: np.ndarray) -> None:
    scale = fit_scale(range_of(values), EVEN)
    assert scale.rounded(np.float32([0.0]))[0] == 0.0


def test_the_error_is_that_of_uniform_rounding() -> None:
    values = np.random.default_rng(1).uniform(-1, 3, (5000, 4)).astype(np.float32)
    scale = fit_scale(range_of(values), EVEN)
    assert scale.scale == pytest.approx(4 / 255, rel=0.02)
    assert error(scale, values) == pytest.approx(scale.scale**2 / 12, rel=0.05)


def test_a_rare_outlier_is_cut_off_where_that_is_better() -> None:
    values = normal(20000, 4)
    values[7, 2] = 25.0
    found = range_of(values)
    whole = Scale(np.float32((25 - values.min()) / 255), np.uint8(np.rint(-values.min() / ((25 - values.min()) / 255))))
    scale = fit_scale(found, EVEN)
    assert scale.scale < whole.scale and error(scale, values) < error(whole, values)


def test_a_channel_that_counts_keeps_its_outlier() -> None:
    values = normal(20000, 4)
    values[7, 2] = 25.0
    counts = np.float32([1e-4, 1e-4, 1e4, 1e-4])
    assert fit_scale(range_of(values), counts).scale > 2 * fit_scale(range_of(values), 1 / counts).scale


def test_smoothing_balances_inputs_and_weights() -> None:
    values = normal(100, 4) * np.float32([1, 10, 100, 1000])
    weights = np.float32([1, 1, 1, 1])
    divisors = smoothing(range_of(values), weights, 0.5)
    largest = np.abs(values).max(axis=0)
    np.testing.assert_allclose(divisors / divisors[0], np.sqrt(largest / largest[0]), rtol=1e-5)
    assert np.log(divisors).mean() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(range_of(values).divided(divisors).largest, largest / divisors, rtol=1e-6)


def test_a_channel_without_inputs_or_weights_is_not_smoothed() -> None:
    values = normal(100, 4)
    values[:, 1] = 0
    divisors = smoothing(range_of(values), np.float32([1, 1, 0, 1]), 0.5)
    assert divisors[1] == divisors[2] == 1 and np.isfinite(divisors).all()


def test_joined_ranges_hold_all() -> None:
    first, second = normal(10, 4, seed=1), normal(20, 4, seed=2)
    joined, expected = join_ranges([range_of(first), range_of(second)]), range_of(np.concatenate([first, second]))
    for got, wanted in zip(
        (joined.low, joined.high, joined.sample), (expected.low, expected.high, expected.sample), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)


def test_a_range_without_a_sample_has_its_ends() -> None:
    ends = ValueRange(np.float32([-1] * 4), np.float32([3] * 4), np.empty((0, 4), np.float32))
    assert fit_scale(ends, EVEN).scale == pytest.approx(4 / 255)
