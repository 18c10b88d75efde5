"""What is said of rates, from points whose rates are known."""

import math

import numpy as np
import pytest

from ldm_export.analyze.findings import Figure
from ldm_export.analyze.rate_distortion import Point
from ldm_export.analyze.sections.information_rate import _rate_at, draws_sentence, times
from ldm_export.analyze.statistics import Interval

PIXELS = 100


def point(bits: float, error: float = 10.0) -> Point:
    return Point(1.0, np.full(4, bits), np.full(4, error), np.zeros((0,)))


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (Interval(1.05, 0.9, 1.2), "as many, as far as these images tell: 1.05 times, 0.90 to 1.20"),
        (Interval(2.3, 1.8, 2.9), "2.30 times, 1.80 to 2.90"),
        (Interval(0.5, 0.4, 0.6), "0.50 times, 0.40 to 0.60"),
        (Interval(2.3, math.nan, math.nan), "2.30 times as many"),
    ],
)
def test_a_ratio_is_told_from_one_by_its_interval(ratio: Interval, said: str) -> None:
    assert times(ratio) == said


def test_the_difference_to_draws_is_divided_by_the_rate_at_their_psnr() -> None:
    """300 bits fall to 150 at the draws' PSNR, and to the 100 of the draws: three quarters are precision."""
    text = draws_sentence(point(300.0), point(100.0, 20.0), 150.0, Interval(1.5, 1.2, 1.8), PIXELS)
    assert "take 1 bits per pixel (33% of those" in text and "that PSNR take 1.5 (1.50 times" in text
    assert "So 75% of the difference pays for a higher PSNR; the rest is what rounding costs" in text


@pytest.mark.parametrize(
    ("same", "ratio", "said"),
    [
        (100.0, Interval(1.0, 0.9, 1.1), "save nothing that can be seen"),
        (50.0, Interval(0.5, 0.4, 0.6), "save nothing: for the same PSNR they take more"),
        (200.0, Interval(2.0, math.nan, math.nan), "what draws save is not known"),
        (math.nan, Interval(math.nan, math.nan, math.nan), "No step of quantised latents has that PSNR"),
    ],
)
def test_draws_that_save_nothing_have_no_cause_named(same: float, ratio: Interval, said: str) -> None:
    text = draws_sentence(point(300.0), point(100.0), same, ratio, PIXELS)
    assert said in text and "rounding" not in text


def test_draws_of_a_higher_psnr_save_at_that_psnr() -> None:
    """They take more bits than the coarser working point, and fewer than latents in steps of their PSNR."""
    text = draws_sentence(point(80.0), point(100.0, 5.0), 150.0, Interval(1.5, 1.2, 1.8), PIXELS)
    assert "So draws save 33% at the same PSNR: that is what rounding costs" in text


def test_a_rate_without_an_interval_says_why() -> None:
    def rate(value: float, low: float, high: float) -> Figure:
        return _rate_at("rate", "Rate", Interval(value, low, high), "how", "", "over 8", "They go to 30 dB.")

    known, unsure, missing = rate(1, 0.5, 2), rate(1, math.nan, math.nan), rate(math.nan, math.nan, math.nan)
    assert (known.low, known.high, known.interval, known.note) == (0.5, 2, "over 8", "")
    assert unsure.value == 1 and unsure.low is None and "no interval. They go to 30 dB." in unsure.note
    assert missing.value is None and missing.note == "They go to 30 dB."
