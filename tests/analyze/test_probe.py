"""Labels that can be read in part, wholly or not at all."""

import math

import numpy as np
import pytest
from scipy.special import logsumexp

from ldm_export.analyze.probe import components, entropy_of, gram_matrix, information, read_labels, usable


def classes(shift: float, count: int = 400, width: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Draw points of two Gaussians `shift` deviations apart; return points and labels."""
    random = np.random.default_rng(0)
    index = np.arange(count) % 2
    points = random.normal(size=(count, width))
    points[:, 0] += shift * index
    return points, index


def read(points: np.ndarray, index: np.ndarray) -> float:
    reading = read_labels(gram_matrix(points), index, np.random.default_rng(1))
    return information(np.stack([index, reading.cross_entropy], axis=1))


def test_what_cannot_be_read_is_not() -> None:
    points, index = classes(4.0)
    shuffled = np.random.default_rng(2).permutation(index)
    assert read(points, shuffled) < 0.02


def test_what_is_apart_is_read() -> None:
    assert read(*classes(30.0)) > 0.97


def test_a_bound_below_the_information_of_two_gaussians() -> None:
    points, index = classes(2.0, 1000, 2)
    random = np.random.default_rng(3)
    x = random.normal(size=200_000)  # of the first class, along the line between them
    log_odds = 2.0 * x - 2.0  # log p(1 | x) - log p(0 | x)
    exact = 1 - logsumexp(np.stack([np.zeros_like(x), log_odds]), axis=0).mean() / math.log(2)
    found = read(points, index)
    assert exact - 0.08 < found < exact + 0.05


def test_held_out_images_do_not_leak() -> None:
    """More dimensions than images: any labels can be learnt by heart, and none of that counts."""
    random = np.random.default_rng(4)
    assert read(random.normal(size=(100, 5000)), np.arange(100) % 4) < 0.02


def test_components_of_held_out_points_are_projections() -> None:
    points = np.random.default_rng(5).normal(size=(60, 7)) * np.arange(1, 8)
    fitted, others = components(gram_matrix(points), np.arange(40), np.arange(40, 60))
    centred = points - points[:40].mean(axis=0)
    _, _, right = np.linalg.svd(centred[:40], full_matrices=False)
    scale = np.sqrt((centred[:40] @ right[0]) @ (centred[:40] @ right[0]) / 40)
    assert np.abs(fitted) == pytest.approx(np.abs(centred[:40] @ right.T) / scale, abs=1e-6)
    assert np.abs(others) == pytest.approx(np.abs(centred[40:] @ right.T) / scale, abs=1e-6)


def test_which_labels_have_enough_images() -> None:
    labels = ("a",) * 16 + ("b",) * 15 + ("c",) * 20
    assert usable(labels).tolist() == [*range(16), *range(31, 51)]
    assert len(usable(("a",) * 40 + ("b",) * 15)) == 0


def test_entropy_of_labels() -> None:
    assert entropy_of(np.array([0, 1, 2, 3])) == pytest.approx(math.log(4))
    assert information(np.array([[0.0, 0.1], [0.0, 0.1]])) == 0.0, "one label has no entropy to read"


def test_a_bound_that_says_nothing_is_below_zero() -> None:
    """A probe that is sure and wrong: its cross-entropy is more than the labels' entropy."""
    assert information(np.array([[0.0, 2.0], [1.0, 2.0]])) == pytest.approx(1 - 2 / math.log(2))


def test_products_are_those_of_centred_points_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    points = 100 + np.random.default_rng(6).normal(size=(9, 5, 7)).astype(np.float32)
    centred = points.reshape(9, -1).astype(np.float64) - points.reshape(9, -1).mean(axis=0, dtype=np.float64)
    monkeypatch.setattr("ldm_export.analyze.probe.BLOCK", 8)
    assert gram_matrix(points) == pytest.approx(centred @ centred.T, abs=1e-9)
