"""Agreement of distances where it is known, and intervals that know of how few images pairs are."""

import numpy as np
import pytest

from ldm_export.analyze.distances import advantage, agreement, next_different, pair_distances, typical_distance
from ldm_export.analyze.statistics import pearson, spearman

POINTS = np.random.default_rng(0).standard_normal((40, 3))


def random():
    return np.random.default_rng(1)


def test_typical_distance_of_a_gaussian():
    points = np.random.default_rng(0).standard_normal((400, 50)) * 3
    assert typical_distance(pair_distances(points)) == pytest.approx(3 * np.sqrt(2 * 50), rel=0.02)


@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_an_isometry_keeps_all_distances(correlation):
    turn, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((3, 3)))
    found = agreement(pair_distances(POINTS), pair_distances(5 * POINTS @ turn), correlation, random(), 50)
    assert found.value == pytest.approx(1) and found.low == pytest.approx(1)


def test_ranks_do_not_mind_a_monotone_change_of_the_distance():
    distances = pair_distances(POINTS)
    assert agreement(distances, distances**3, spearman, random(), 20).value == pytest.approx(1)
    assert agreement(distances, distances**3, pearson, random(), 20).value < 0.98


def test_unrelated_distances_do_not_agree():
    others = np.random.default_rng(3).standard_normal((40, 3))
    found = agreement(pair_distances(POINTS), pair_distances(others), spearman, random(), 200)
    assert found.low < 0 < found.high


def test_the_interval_is_that_of_images_and_not_of_pairs():
    """Over many samples, the interval holds the truth (0: independent) about as often as it says; pairs would not."""
    held, width = 0, 0.0
    for seed in range(40):
        one, other = np.random.default_rng(seed).standard_normal((2, 30, 2))
        found = agreement(pair_distances(one), pair_distances(other), pearson, np.random.default_rng(seed), 100)
        held += found.low <= 0 <= found.high
        width += (found.high - found.low) / 40
    assert held >= 34
    assert width > 2 * 2 * 1.96 / np.sqrt(30 * 29 / 2) / 2


def test_a_distance_that_knows_more_has_the_advantage():
    noisy = POINTS + 2 * np.random.default_rng(4).standard_normal(POINTS.shape)
    distances = pair_distances(POINTS)
    better = advantage(pair_distances(POINTS), pair_distances(noisy), distances, spearman, random(), 100)
    worse = advantage(pair_distances(noisy), pair_distances(POINTS), distances, spearman, random(), 100)
    assert better.low > 0 and worse.high < 0


def test_the_next_that_differs():
    distances = pair_distances(np.array([0.0, 0.0, 1.0, 0.0])[:, None])
    assert next_different(distances, 0.5).tolist() == [2, 2, 3, 2]
    assert next_different(np.zeros((3, 3)), 0.5).tolist() == [0, 1, 2]


def test_resamples_without_distances_that_differ_are_left_out():
    points = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 3.0])[:, None]
    distances = pair_distances(points)
    found = agreement(distances, distances, pearson, np.random.default_rng(0), 200)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    alike = pair_distances(np.array([0.0] * 40 + [1.0])[:, None])
    found = agreement(alike, alike, pearson, np.random.default_rng(0), 200)
    assert found.value == pytest.approx(1) and 0.3 < (1 - 1 / 41) ** 41 < 0.5  # of the resamples are all alike
    assert found.low == pytest.approx(1)
