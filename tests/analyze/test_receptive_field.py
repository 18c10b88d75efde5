"""Receptive fields of maps that are known."""

import numpy as np
import pytest
import torch

from ldm_export.analyze.jacobian import Jacobian
from ldm_export.analyze.receptive_field import energy_map, outlined, pick_cells, square, window
from tests.analyze.codec_study import CELL, fill_cell, mean_of_cell

PIXELS, LATENTS = (3, 16, 24), (3, 4, 6)
CELL_AT = (1, 4)


def test_a_cell_that_is_the_mean_of_its_square_reads_nothing_else():
    jacobian = Jacobian(mean_of_cell, torch.zeros(1, *PIXELS))
    energy = energy_map(jacobian.transposed_times, CELL_AT, LATENTS, PIXELS)
    assert energy.shape == (16, 24)
    assert np.allclose(energy[square(CELL_AT, CELL)], 3 / CELL**4)  # a derivative of 1 / f² for each of three colours
    assert energy.sum() == pytest.approx(3 / CELL**2)


def test_a_cell_that_fills_its_square_changes_nothing_else():
    jacobian = Jacobian(fill_cell, torch.zeros(1, *LATENTS))
    energy = energy_map(jacobian.times, CELL_AT, LATENTS, PIXELS)
    assert np.allclose(energy[square(CELL_AT, CELL)], 3) and energy.sum() == pytest.approx(3 * CELL**2)


def test_a_pixel_is_made_of_its_cell():
    jacobian = Jacobian(fill_cell, torch.zeros(1, *LATENTS))
    energy = energy_map(jacobian.transposed_times, (CELL_AT[0] * CELL + 3, CELL_AT[1] * CELL), PIXELS, LATENTS)
    assert energy[CELL_AT] == pytest.approx(3) and energy.sum() == pytest.approx(3)


def test_squares_and_windows_at_the_border():
    energy = np.arange(16.0 * 24).reshape(16, 24)
    assert energy[square((0, 0), CELL, 1)].shape == (8, 8)
    around = window(energy, (0, 5), CELL, 1)
    assert around.shape == (12, 12) and np.array_equal(around[4:8, 4:8], energy[0:4, 20:24])
    assert not around[:4].any() and not around[:, 8:].any()


def test_cells_are_picked_where_there_is_something():
    image = np.zeros((3, 40, 40))
    image[:, 16:24, 16:24] = np.random.default_rng(0).standard_normal((3, 8, 8))  # four cells
    picked = pick_cells(image, CELL, 4, np.random.default_rng(1))
    lively = {(row, column) for row in (4, 5) for column in (4, 5)}
    assert len(set(picked)) == 4 and set(picked) & lively
    assert all(2 <= at < 8 for place in picked for at in place)
    assert len(pick_cells(np.zeros((3, 8, 8)), CELL, 3, np.random.default_rng(1))) == 3  # all border


def test_the_outline_leaves_the_square_as_it_is():
    marked = outlined(np.zeros((3, 16, 24)), CELL_AT, CELL)
    assert not marked[(slice(None), *square(CELL_AT, CELL))].any()
    assert (marked[0] == 1).sum() == 4 * CELL + 4 and (marked[1] == -1).sum() == 4 * CELL + 4
