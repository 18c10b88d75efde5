"""Bending and length of lines, arcs and loops, and of the flow to a Gaussian, which are known."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from ldm_export.analyze.flow_path import Paths, bending, bending_by_time, chords, energies, gaussian_paths, lengths

TIMES = np.linspace(1, 0, 401)


def paths_of(*points: np.ndarray) -> Paths:
    return Paths(np.stack(points), TIMES)


def line(speed: float) -> np.ndarray:
    """From (0, 0) to (3, 4): at one speed where `speed` is 1, otherwise faster at one end."""
    return ((1 - TIMES) ** speed)[:, None] * np.array([3.0, 4.0])


def arc(turn: float) -> np.ndarray:
    angle = turn * (1 - TIMES)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_a_line_that_is_walked_at_one_speed_does_not_bend() -> None:
    paths = paths_of(line(1))
    assert bending(paths) == pytest.approx(0, abs=1e-12)
    assert lengths(paths) == pytest.approx(5) and chords(paths) == pytest.approx(5)


def test_a_line_at_changing_speed_is_no_longer_but_no_step_can_follow_it() -> None:
    """Its position is time², so the mean square of its speed is 4/3 of the chord's."""
    paths = paths_of(line(2))
    assert lengths(paths) == pytest.approx(5)
    assert bending(paths) == pytest.approx(1 - 3 / 4, abs=1e-4)


def test_arcs_and_loops() -> None:
    paths = paths_of(arc(np.pi / 2), arc(2 * np.pi))
    assert lengths(paths) / [np.sqrt(2), 1] == pytest.approx([np.pi / np.sqrt(8), 2 * np.pi], rel=1e-4)
    assert bending(paths) == pytest.approx([1 - 8 / np.pi**2, 1], abs=1e-4)


def test_points_that_are_far_apart_hide_bending() -> None:
    paths = paths_of(arc(np.pi / 2))
    coarse = Paths(paths.points[:, ::200], TIMES[::200])
    assert bending(coarse)[0] < bending(paths.thinned())[0] <= bending(paths)[0]


def test_bending_by_time_sums_to_the_whole() -> None:
    paths = paths_of(line(2))
    by_time, whole = bending_by_time(paths), bending(paths)[0]
    assert (by_time * -np.diff(TIMES)).sum() == pytest.approx(whole / (1 - whole))
    assert by_time.argmax() in (0, len(by_time) - 1) and energies(paths).shape == (1, len(TIMES) - 1)


def test_a_path_that_stands_still_does_not_bend() -> None:
    assert bending(paths_of(np.ones((len(TIMES), 2)))) == pytest.approx(0)


@pytest.mark.parametrize("mean", [0.0, 1.5])
@pytest.mark.parametrize("deviation", [0.0, 0.3, 1.0, 2.0])
def test_the_flow_to_a_gaussian_has_its_closed_form(mean: float, deviation: float) -> None:
    """With s² = (1 - t)² deviation² + t² the velocity is s' noise - mean, and s(1) = 1."""
    noise = np.random.default_rng(0).normal(size=(3, 5))
    paths = gaussian_paths(noise, np.full(5, mean), np.full(5, deviation), TIMES)

    def speed(t: float) -> float:
        scale = np.sqrt((1 - t) ** 2 * deviation**2 + t**2)
        return (t - (1 - t) * deviation**2) / scale if scale > 0 else 1.0

    squared, mixed = quad(lambda t: speed(t) ** 2, 0, 1, limit=200)[0], 1 - deviation
    energy = (squared * noise**2 - 2 * mixed * mean * noise + mean**2).sum(axis=1)
    chord = ((mixed * noise - mean) ** 2).sum(axis=1)
    assert bending(paths) == pytest.approx(1 - chord / energy, abs=2e-3)
    np.testing.assert_allclose(paths.points[:, 0], noise, atol=1e-12)
    np.testing.assert_allclose(paths.points[:, -1], mean + deviation * noise, atol=1e-12)


def test_paths_to_a_mean_are_those_of_its_flow() -> None:
    """Each number moves by E[noise - data | x], whatever noise it starts from; so it does not without the mean."""
    mean, deviation, noise = 1.5, 0.3, np.array([[0.7]])
    exact = gaussian_paths(noise, np.array([mean]), np.array([deviation]), TIMES).points[0, :, 0]
    x = 0.7
    for first, second in pairwise(TIMES):
        t = (first + second) / 2
        variance = ((1 - t) * deviation) ** 2 + t**2
        x += (second - first) * ((t - (1 - t) * deviation**2) / variance * (x - (1 - t) * mean) - mean)
    assert exact[-1] == pytest.approx(x, abs=5e-3)
    without = gaussian_paths(noise, np.zeros(1), np.array([deviation]), TIMES).points[0, :, 0]
    assert abs(without[-1] - x) > 1
