"""Bootstrap intervals hold the value as often as they say; correlations of known cases."""

import numpy as np
import pytest

from ldm_export.analyze.findings import SINGLE, Figure
from ldm_export.analyze.statistics import (
    bootstrap,
    groups_of,
    jackknife,
    over_images,
    over_left_out,
    over_resampled,
    pearson,
    spearman,
    spread,
)


def test_a_mean_s_interval_holds_it_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        found = bootstrap(random.normal(3.0, 2.0, 100), random, resamples=300)
        held += found.low <= 3.0 <= found.high
    assert 0.91 <= held / 400 <= 0.98


def test_a_statistic_of_several_columns() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=500)
    samples = np.stack([x, x + 0.1 * random.normal(size=500)], axis=1)
    found = bootstrap(samples, random, lambda rows: pearson(rows[:, 0], rows[:, 1]), 200)
    assert 0.98 < found.low < found.value < found.high < 1.0


def test_the_same_seed_gives_the_same_interval() -> None:
    samples = np.arange(50.0)
    assert bootstrap(samples, np.random.default_rng(4)) == bootstrap(samples, np.random.default_rng(4))


def test_correlations() -> None:
    x = np.arange(20.0)
    assert pearson(x, -2 * x) == pytest.approx(-1)
    assert spearman(x, np.exp(x)) == pytest.approx(1) and pearson(x, np.exp(x)) < 0.7


def test_spread() -> None:
    assert spread(np.array([3.0, 1.0, 9.0])).value == 3.0
    assert (spread(np.array([3.0, 1.0, 9.0])).low, spread(np.array([3.0, 1.0, 9.0])).high) == (1.0, 9.0)


def test_few_images_have_a_range_and_not_a_bootstrap() -> None:
    random = np.random.default_rng(0)
    few, how = over_images(np.array([1.0, 2.0, 6.0]), random)
    assert (few.value, few.low, few.high, how) == (3.0, 1.0, 6.0, "range of 3 images")
    squares, _ = over_images(np.array([1.0, 4.0, 9.0]), random, lambda each: float(np.sqrt(each.mean())))
    assert (squares.low, squares.high) == (1.0, 3.0)
    many, how = over_images(np.arange(100.0), random)
    assert 40 < many.low < many.value < many.high < 60 and how == "95 % by bootstrap over 100 images"


def test_a_single_value_has_no_interval() -> None:
    one, random = np.array([5.0]), np.random.default_rng(0)
    for found in (over_images(one, random)[0], bootstrap(one, random), bootstrap(one, random, np.max), spread(one)):
        assert found.value == 5.0 and found.low < 0 < found.high, "nothing is decided from it"
        figure = Figure.measured("name", "title", found, "bits", "estimator", "", over_resampled(1))
        assert (figure.low, figure.high, figure.interval, figure.note) == (None, None, "", SINGLE)
    two = Figure.measured("name", "title", spread(np.array([1.0, 3.0])), "bits", "estimator", "", "range of 2")
    assert (two.low, two.high, two.interval, two.note) == (1.0, 3.0, "range of 2", "")


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(2).normal(size=200)
    (value,), (low,), (high,) = jackknife(np.arange(200), lambda kept: np.array([values[kept].mean()]))
    assert value == values.mean() and high - value == pytest.approx(value - low)
    assert high - value == pytest.approx(1.972 * values.std(ddof=1) / np.sqrt(200), rel=1e-3)


def test_the_jackknife_in_groups_holds_the_value_as_often_as_it_says() -> None:
    random, held = np.random.default_rng(3), 0
    for _ in range(400):
        values = random.normal(0, 2, 60)
        groups = groups_of(60, random)
        assert sorted(np.bincount(groups)) == [3] * 20
        _, (low,), (high,) = jackknife(groups, lambda kept, values=values: np.array([np.log(values[kept].var(ddof=1))]))
        held += low <= np.log(4) <= high
    assert 0.91 <= held / 400 <= 0.98


def test_what_a_single_image_does_not_tell_a_few_do_not_either() -> None:
    """Its place among them does not matter."""
    for values in ([1.0, np.nan, 2.0], [np.nan, 1.0, 2.0], [1.0, 2.0, np.nan]):
        found, how = over_images(np.array(values), np.random.default_rng(0), lambda part: float(part[0]))
        assert np.isnan(found.low) and np.isnan(found.high) and how == "range of 3 images"


def test_what_intervals_are_over() -> None:
    assert over_resampled(8) == "95 % by bootstrap over 8 images"
    assert over_resampled(3, "pairs") == "95 % by bootstrap over 3 pairs"
    assert over_left_out(40) == "95 % by the jackknife over 40 images"


def test_an_interval_reaches_to_its_estimate() -> None:
    """Of resampled samples the variance is less, so counts of what varies enough only fall: 999 of 973 to 996."""
    samples = np.random.default_rng(0).normal(size=(32, 500))
    threshold = np.quantile(samples.var(axis=0), 0.01)

    def varying(part: np.ndarray) -> float:
        return float((part.var(axis=0) > threshold).sum())

    found = bootstrap(samples, np.random.default_rng(1), varying, 100)
    assert found.low < found.value == found.high
