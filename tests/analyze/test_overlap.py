"""Overlap of maps with masks of which the answer is known."""

import numpy as np
import pytest

from ldm_export.analyze.overlap import (
    agreement,
    best_by_grid,
    by_chance,
    intersection_over_union,
    is_usable,
    pooled,
    ranking,
    share_inside,
)

SIDE = 64


def half() -> np.ndarray:
    """The left half of an image."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:, : SIDE // 2] = True
    return mask


def left_map(size: int = 8) -> np.ndarray:
    grid = np.zeros((size, size), np.float32)
    grid[:, : size // 2] = 1
    return grid


def test_a_map_of_the_object_and_one_of_the_ground() -> None:
    mask = half()
    assert intersection_over_union(left_map(), mask) == pytest.approx(1, abs=0.01)
    assert intersection_over_union(1 - left_map(), mask) == pytest.approx(0, abs=0.01)
    assert ranking(left_map(), mask) > 0.99 and ranking(1 - left_map(), mask) < 0.01
    assert share_inside(left_map(), mask) == 1 and share_inside(1 - left_map(), mask) == 0


def test_chance() -> None:
    random = np.random.default_rng(0)
    mask = random.random((SIDE, SIDE)) < 0.3
    even = np.ones((8, 8), np.float32)
    assert ranking(even, mask) == 0.5
    assert share_inside(even, mask) == pytest.approx(mask.mean())
    found = [intersection_over_union(random.random((SIDE, SIDE)), mask) for _ in range(8)]
    assert np.mean(found) == pytest.approx(0.3 / 1.7, abs=0.02)
    assert by_chance(mask) == pytest.approx(0.3 / 1.7, abs=0.01)


@pytest.mark.parametrize("turned", (0, 1, 2, 3))
def test_an_even_map_overlaps_as_chance_does_wherever_the_object_is(turned: int) -> None:
    """Rounding of its values, which is most where the object is, says nothing."""
    mask = np.rot90(half(), turned)
    for even in (np.ones((8, 8)), 0.03 + 1e-8 * np.rot90(left_map(), turned)):
        assert intersection_over_union(even, mask) == pytest.approx(by_chance(mask)) == pytest.approx(1 / 3)
        assert ranking(even, mask) == 0.5
        assert np.isnan(agreement(even, left_map(4)))
    told = 0.03 + 1e-4 * np.rot90(left_map(), turned)
    assert intersection_over_union(told, mask) == pytest.approx(1, abs=0.01)


def test_pixels_that_share_the_last_value_are_taken_in_part() -> None:
    mask = np.array([[True, True, False, False]])
    assert intersection_over_union(np.array([[2, 1, 1, 0]], float), mask) == pytest.approx(1.5 / 2.5)
    assert intersection_over_union(np.array([[0, 1, 1, 2]], float), mask) == pytest.approx(0.5 / 3.5)


def test_what_a_grid_loses() -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(x - 30, y - 33)
    ring = (distance > 18) & (distance < 24)
    reached = [best_by_grid(ring, (size, size)) for size in (4, 8, 16, SIDE)]
    assert reached == sorted(reached) and reached[0] < 0.6 < reached[2] and reached[3] == 1


def test_a_grid_that_is_not_square() -> None:
    mask = half()[:32]
    assert pooled(mask, (4, 8)).shape == (4, 8)
    assert best_by_grid(mask, (4, 8)) == pytest.approx(1, abs=0.01)


def test_scales_agree_or_not() -> None:
    random = np.random.default_rng(0)
    fine = random.random((8, 8)).astype(np.float32)
    assert agreement(fine, pooled(fine, (4, 4))) == pytest.approx(1)
    assert agreement(fine, -pooled(fine, (4, 4))) == pytest.approx(-1)
    assert abs(agreement(fine, random.random((4, 4)))) < 0.7
    assert np.isnan(agreement(np.ones((8, 8)), pooled(fine, (4, 4))))


def test_masks_without_object_or_ground_tell_nothing() -> None:
    assert is_usable(half())
    assert not is_usable(np.ones((4, 4), bool)) and not is_usable(np.zeros((4, 4), bool))
    assert np.isnan(share_inside(np.zeros((4, 4)), half()))
