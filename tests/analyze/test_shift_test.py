"""Shifts of autoencoders that follow them, and of one that does not."""

import numpy as np
import pytest
import torch

from ldm_export.analyze.shift_test import shift_test
from ldm_export.analyze.subject import Codec
from tests.analyze.codec_study import CELL, SIDE, all_of_cell, fill_cell, mean_of_cell, pictures, spread_cell

IMAGE = np.ascontiguousarray(pictures(1).pixels[0].transpose(2, 0, 1), np.float32) / 127.5 - 1


def codec(encode=mean_of_cell, decode=fill_cell, channels=3) -> Codec:
    return Codec(lambda pixels: (encode(pixels), torch.zeros(1)), decode, channels, CELL)


def test_means_of_cells_follow_whole_cells_exactly_and_others_nearly():
    found = shift_test(codec(), IMAGE)
    assert all(len(each) == CELL + 1 for each in (found.still, found.moved, found.decoded, found.error))
    assert found.moved[0] == 0 and found.moved[CELL] < 1e-12 and found.decoded[CELL] < 1e-12
    assert 0 < found.moved[2] < 0.2 * found.still[2]  # waves are nearly linear from cell to cell
    assert (np.diff(found.still) > 0).all()


def test_a_linear_ramp_moves_the_grid_at_every_offset():
    ramp = np.broadcast_to(np.linspace(-1, 1, SIDE, dtype=np.float32), (3, SIDE, SIDE))
    found = shift_test(codec(), ramp)
    assert found.moved.max() < 1e-12 < found.still[1]


def test_lossless_latents_decode_to_the_shifted_image_at_every_offset():
    found = shift_test(codec(all_of_cell, spread_cell, 3 * CELL**2), IMAGE)
    assert found.decoded.max() < 1e-12 and found.error.max() < 1e-12
    assert found.moved[1] > 1e-4  # though the latents are others


def test_latents_that_depend_on_the_place_do_not_follow():
    ramp = torch.linspace(0.2, 2, SIDE // CELL - 1)
    found = shift_test(codec(lambda pixels: mean_of_cell(pixels) * ramp), IMAGE)
    assert found.moved[CELL] > 0.001


def test_images_need_not_be_square():
    found = shift_test(codec(), IMAGE[:, :24])
    assert found.moved[CELL] < 1e-12 and found.error[0] == pytest.approx(found.error[CELL], rel=0.5)


def test_the_network_sees_windows_of_the_image_as_it_stands():
    """It knows rows from columns: a transposed image is another one."""
    seen: list[torch.Tensor] = []

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        seen.extend(pixels)
        return mean_of_cell(pixels)

    shift_test(codec(encode), IMAGE)
    length = SIDE - CELL
    right = [IMAGE[:, :length, offset : offset + length] for offset in range(CELL + 1)]
    down = [IMAGE[:, offset : offset + length, :length] for offset in range(CELL + 1)]
    assert len(seen) == len(right + down)
    assert all(np.array_equal(one, other) for one, other in zip(seen, right + down, strict=True))


def test_rows_and_columns_count_the_same():
    """An encoder that is wrong from left to right alone, and one that is so from top to bottom alone."""
    ramp = torch.linspace(0.2, 2, SIDE // CELL - 1)
    wide = shift_test(codec(lambda pixels: mean_of_cell(pixels) * ramp), IMAGE)
    tall = shift_test(codec(lambda pixels: mean_of_cell(pixels) * ramp[:, None]), IMAGE.transpose(0, 2, 1).copy())
    assert wide.moved == pytest.approx(tall.moved) and wide.still == pytest.approx(tall.still)
