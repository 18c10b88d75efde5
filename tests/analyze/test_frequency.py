"""Bands of frequency, on sines of known length and on images that are blurred, shifted or noisy in a known way."""

import numpy as np
import pytest
from scipy import ndimage

from ldm_export.analyze.frequency import Bands, band_powers, edge_correlation, share_kept

BANDS = Bands.of(64, 64)


def sine(length: float, side: int = 64) -> np.ndarray:
    wave = np.sin(2 * np.pi * np.arange(side) / length)
    return np.broadcast_to(wave, (1, 3, side, side)).astype(np.float64)


def noise(count: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 1, 64, 64))


def test_bands_are_octaves() -> None:
    assert BANDS.names == ("over 32", "32 to 16", "16 to 8", "8 to 4", "4 to 2")
    assert BANDS.edges.tolist() == [0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2]
    assert BANDS.index[0, 0] == 0 and BANDS.index[32, 32] == 4


@pytest.mark.parametrize(("length", "band"), [(24, 1), (11, 2), (6, 3), (2.7, 4)])
def test_a_sine_is_in_its_band(length: float, band: int) -> None:
    power = band_powers(sine(length), sine(length), BANDS)[0, 0]
    assert power[band] > 0.9 * power.sum()


def test_equal_images_keep_everything_and_other_ones_nothing() -> None:
    images = noise()
    kept = [share_kept(band_powers(images, images, BANDS)[..., band]) for band in range(BANDS.count)]
    assert kept == pytest.approx([1] * BANDS.count)
    other = band_powers(images, noise(seed=1), BANDS)
    assert share_kept(other) < 0.01


def test_added_noise_leaves_the_share_of_signal_to_all() -> None:
    images = noise()
    powers = band_powers(images, images + 0.5 * noise(seed=2), BANDS)
    assert share_kept(powers[..., 3]) == pytest.approx(1 / 1.25, abs=0.02)
    image, other, cross = powers.sum(axis=0)
    assert (image + other - 2 * cross)[3] == pytest.approx(0.25 * image[3], rel=0.1)


def test_blur_takes_power_from_fine_detail_alone() -> None:
    images = noise()
    image, other, _ = band_powers(images, ndimage.gaussian_filter(images, (0, 0, 2, 2)), BANDS).sum(axis=0)
    gain = other / image
    assert gain[0] > 0.9 and gain[4] < 0.01 and (np.diff(gain) < 0).all()


def test_an_image_s_colour_is_left_out_and_a_change_of_colour_is_not() -> None:
    images = noise() + 5
    same, brighter = (band_powers(images, images + by, BANDS).sum(axis=0) for by in (0, 1))
    assert same[0].sum() == pytest.approx(brighter[0].sum())
    assert brighter[1, 0] > 2 * same[1, 0] and brighter[1, 1:] == pytest.approx(same[1, 1:], rel=0.05)


def test_nothing_keeps_nothing() -> None:
    assert share_kept(band_powers(np.zeros((1, 3, 64, 64)), noise(1).repeat(3, 1), BANDS)) == 0.0


def test_edges() -> None:
    y, x = np.mgrid[:64, :64]
    disc = np.broadcast_to((x - 32) ** 2 + (y - 32) ** 2 < 300, (3, 64, 64)).astype(np.float64)
    assert edge_correlation(disc, disc) == pytest.approx(1)
    assert edge_correlation(disc, -2 * disc + 1) == pytest.approx(1), "an edge's direction and size do not count"
    blurred = edge_correlation(disc, ndimage.gaussian_filter(disc, (0, 3, 3)))
    moved = edge_correlation(disc, np.roll(disc, 6, 2))
    assert moved < blurred - 0.2 < 0.8
    assert np.isnan(edge_correlation(disc, np.ones((3, 64, 64))))
