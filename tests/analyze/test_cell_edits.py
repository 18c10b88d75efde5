"""Edits of single cells in images that are known."""

import numpy as np
import pytest

from ldm_export.analyze.cell_edits import edited, followed, measure_edits

SIDE = 4
CELL, PARTNER = (1, 1), (2, 3)


def fill(latents: np.ndarray) -> np.ndarray:
    return np.kron(latents, np.ones((SIDE, SIDE)))


LATENTS, OTHER = np.random.default_rng(0).standard_normal((2, 3, 4, 5))


def test_each_edit_changes_its_cells_alone():
    zeroed, replaced, exchanged = edited(LATENTS, CELL, PARTNER, OTHER)
    changed = [
        set(zip(*np.nonzero((each != LATENTS).any(axis=0)), strict=True)) for each in (zeroed, replaced, exchanged)
    ]
    assert changed == [{CELL}, {CELL}, {CELL, PARTNER}]
    assert not zeroed[:, 1, 1].any() and np.array_equal(replaced[:, 1, 1], OTHER[:, 1, 1])
    assert np.array_equal(exchanged[:, 1, 1], LATENTS[:, 2, 3]) and np.array_equal(exchanged[:, 2, 3], LATENTS[:, 1, 1])


def test_a_decoder_that_fills_squares_changes_them_alone():
    before, after = fill(LATENTS), np.stack([fill(each) for each in edited(LATENTS, CELL, PARTNER, OTHER)])
    for edit in measure_edits(before, after, CELL, PARTNER, SIDE):
        assert edit.share == pytest.approx(1) and edit.near == pytest.approx(1) and edit.outside == 0
    zeroed = measure_edits(before, after, CELL, PARTNER, SIDE)[0]
    assert zeroed.inside == pytest.approx(127.5 * np.sqrt(np.mean(LATENTS[:, 1, 1] ** 2)))
    assert followed(before, after[2], CELL, PARTNER, SIDE) == pytest.approx(1)


def test_a_change_that_is_everywhere_is_seen_outside():
    before = fill(LATENTS)
    found = measure_edits(before, np.stack([before + 1] * 3), CELL, PARTNER, SIDE)
    assert found[0].share == pytest.approx(1 / 20) and found[0].near == pytest.approx(9 / 20)
    assert found[2].share == pytest.approx(2 / 20) and found[0].inside == found[0].outside == pytest.approx(127.5)


def test_pixels_that_stay_have_not_followed():
    before = fill(LATENTS)
    assert followed(before, before, CELL, PARTNER, SIDE) == pytest.approx(0)
    assert followed(before, -before, CELL, PARTNER, SIDE) < 0.5


def test_nothing_is_outside_of_two_cells_that_are_the_whole_image():
    latents = LATENTS[:, :2, :1]
    before, after = fill(latents), np.stack([fill(each) for each in edited(latents, (0, 0), (1, 0), 2 * latents)])
    zeroed, _, exchanged = measure_edits(before, after, (0, 0), (1, 0), SIDE)
    assert zeroed.outside == 0 and np.isnan(exchanged.outside) and exchanged.share == pytest.approx(1)
