"""Costs of pairs whose best assignment is known, and a lower bound that holds."""

import numpy as np
import pytest

from ldm_export.analyze.pairing import least_cost, pairing


def test_the_best_pairs_are_found_and_others_save_nothing() -> None:
    """Numbers on a line are best moved in their order."""
    noise = np.sort(np.random.default_rng(0).normal(size=(40, 1)), axis=0)
    best = pairing(noise, 2 * noise + 1)
    assert best.share_saved == pytest.approx(1) and best.given == pytest.approx(best.best)
    assert best.best == pytest.approx(((noise + 1) ** 2).mean())
    reversed_ = pairing(noise, (2 * noise + 1)[::-1])
    assert reversed_.best == pytest.approx(best.best)
    assert reversed_.share_saved is not None and reversed_.share_saved < -0.5


def test_random_pairs_save_nothing_on_average() -> None:
    random = np.random.default_rng(0)
    shares = [pairing(*random.normal(size=(2, 32, 2, 2, 2))).share_saved for _ in range(100)]
    assert np.mean(shares) == pytest.approx(0, abs=0.05)


def test_where_all_pairs_cost_the_same_there_is_no_share() -> None:
    noise = np.random.default_rng(0).normal(size=(8, 4))
    assert pairing(noise, np.zeros((8, 4))).share_saved is None


def test_the_bound_is_the_distance_of_gaussians() -> None:
    random = np.random.default_rng(0)
    deviations, mean = np.array([0.2, 1.0, 3.0, 0.5]), np.array([1.0, 0.0, 0.0, -2.0])
    turn = np.linalg.qr(random.normal(size=(4, 4)))[0]
    data = (random.normal(size=(20_000, 4)) * deviations) @ turn + mean
    expected = (((deviations - 1) ** 2).sum() + (mean**2).sum()) / 4
    assert least_cost(data, 10_000) == pytest.approx(expected, rel=0.03)
    assert least_cost(random.normal(size=(4000, 4)), 2000) == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("count", [64, 512])
def test_the_bound_is_below_the_truth_with_few_images_too(count: int) -> None:
    """Gaussians in 200 dimensions, of more than the images span: (deviation - 1)² is the true cost."""
    random = np.random.default_rng(1)
    deviations = np.linspace(0.1, 2.5, 200)
    data = random.normal(size=(count, 200)) * deviations
    true = ((deviations - 1) ** 2).mean()
    assert 0.3 * true < least_cost(data, count // 2) < 1.02 * true
