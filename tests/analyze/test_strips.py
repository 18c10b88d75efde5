"""Strips: exact where a decoder sees no further than they overlap, and not otherwise."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ldm_export.analyze.strips import beside_seams, cut, decode_strips, join
from tests.analyze.codec_study import CELL, fill_cell

LATENTS = np.random.default_rng(0).normal(size=(2, 3, 13, 5)).astype(np.float32)


def local(latents: np.ndarray) -> np.ndarray:
    """A decoder of single cells."""
    return fill_cell(torch.from_numpy(latents)).numpy()


def reaching(rows: int, latents: np.ndarray) -> np.ndarray:
    """A decoder that sees `rows` cells up and down; zeros outside."""
    kernel = torch.ones(3, 1, 2 * rows + 1, 1) / (2 * rows + 1)
    return fill_cell(torch.nn.functional.conv2d(torch.from_numpy(latents), kernel, padding=(rows, 0), groups=3)).numpy()


def normalising(latents: np.ndarray) -> np.ndarray:
    """A decoder that takes the mean of all it is given away, as a normalisation does."""
    return local(latents - latents.mean(axis=(2, 3), keepdims=True))


@pytest.mark.parametrize("count", (1, 2, 3, 5, 13))
@pytest.mark.parametrize("overlap", (0, 1, 4, 100))
def test_strips_have_every_row_once(count: int, overlap: int) -> None:
    strips = cut(13, count, overlap)
    assert [row for strip in strips for row in range(strip.start, strip.stop)] == list(range(13))
    heights = [strip.stop - strip.start for strip in strips]
    assert len(strips) == count and max(heights) - min(heights) <= 1
    for strip in strips:
        assert (strip.low, strip.high) == (max(0, strip.start - overlap), min(13, strip.stop + overlap))


@pytest.mark.parametrize("count", (2, 3, 5))
def test_cells_that_stand_alone_need_no_overlap(count: int) -> None:
    np.testing.assert_array_equal(decode_strips(local, LATENTS, cut(13, count, 0)), local(LATENTS))


@pytest.mark.parametrize("reach", (1, 2, 3))
def test_a_decoder_needs_the_overlap_that_it_reaches(reach: int) -> None:
    def decode(latents: np.ndarray) -> np.ndarray:
        return reaching(reach, latents)

    whole = decode(LATENTS)
    for overlap in range(5):
        difference = np.abs(decode_strips(decode, LATENTS, cut(13, 2, overlap)) - whole)
        rows = difference.max(axis=(0, 1, 3))
        assert bool(rows.max() < 1e-6) is (overlap >= reach)
        seam, far = 6 * CELL, (reach - overlap) * CELL
        assert rows[: seam - max(0, far)].max() < 1e-6 and rows[seam + max(0, far) :].max() < 1e-6


def test_no_overlap_helps_a_decoder_that_mixes_all() -> None:
    whole = normalising(LATENTS)
    errors = [
        np.abs(decode_strips(normalising, LATENTS, cut(13, 2, each)) - whole).min(axis=(0, 1, 3)) for each in range(5)
    ]
    assert all(each.min() > 1e-3 for each in errors)  # in every row, also far from the seam


def test_workers_decode_what_one_does() -> None:
    strips = cut(13, 4, 2)
    with ThreadPoolExecutor(3) as pool:
        found = decode_strips(normalising, LATENTS, strips, pool.map)
    np.testing.assert_array_equal(found, decode_strips(normalising, LATENTS, strips))


def test_parts_are_laid_in_their_order() -> None:
    strips = cut(4, 2, 1)
    parts = [np.full((1, 3, (each.high - each.low) * 8, 2), number, np.float32) for number, each in enumerate(strips)]
    joined = join(parts, strips)
    assert joined.shape == (1, 3, 32, 2) and joined[0, 0, :, 0].tolist() == [0.0] * 16 + [1.0] * 16


def test_rows_beside_a_seam_are_within_a_cell_of_it() -> None:
    assert np.flatnonzero(beside_seams(cut(6, 2, 0), 2)).tolist() == [4, 5, 6, 7]
    assert not beside_seams(cut(6, 1, 0), 2).any()
    assert np.flatnonzero(beside_seams(cut(6, 3, 3), 1)).tolist() == [1, 2, 3, 4]
