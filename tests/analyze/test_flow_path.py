"""Bending and length of lines, arcs and loops, and of the flow to a Gaussian, which are known."""

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


@pytest.mark.parametrize("deviation", [0.0, 0.3, 1.0, 2.0])
def test_the_flow_to_a_gaussian_has_its_closed_form(deviation: float) -> None:
    noise = np.random.default_rng(0).normal(size=(3, 5))
    paths = gaussian_paths(noise, np.full(5, deviation), TIMES)

    def squared_speed(t: float) -> float:
        scale = (1 - t) ** 2 * deviation**2 + t**2
        return (t - (1 - t) * deviation**2) ** 2 / scale if scale > 0 else 1.0

    energy = quad(squared_speed, 0, 1, limit=200)[0]
    expected = 1 - (1 - deviation) ** 2 / energy
    assert bending(paths) == pytest.approx(np.full(3, expected), abs=2e-3)
    np.testing.assert_allclose(paths.points[:, 0], noise)
    np.testing.assert_allclose(paths.points[:, -1], deviation * noise, atol=1e-12)
