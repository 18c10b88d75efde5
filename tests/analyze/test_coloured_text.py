"""Words are shaded by their numbers, and all of them are on the page."""

import numpy as np
import pytest

from ldm_export.analyze.coloured_text import LESS, MORE, PAPER, WIDTH, Coloured, draw_coloured, shade

pytestmark = pytest.mark.slow  # imports matplotlib


def test_shades() -> None:
    assert shade(0.0) == PAPER and shade(1.0) == MORE and shade(-1.0) == LESS
    assert shade(5.0) == MORE, "no more than the largest"


def test_a_long_caption_takes_more_lines() -> None:
    image = np.zeros((3, 16, 16), np.float32)
    short, long = (draw_coloured([Coloured(image, [("word", 1.0)] * count)]) for count in (2, 60))
    assert short.width == long.width == WIDTH and long.height > 2 * short.height
    shown = np.asarray(long)
    green = (shown == np.array(MORE)).all(axis=-1)
    assert green.any() and not green[:, -4:].any()


def test_numbers_are_relative_to_the_largest() -> None:
    page = np.asarray(draw_coloured([Coloured(np.zeros((3, 16, 16), np.float32), [("a", 2.0), ("b", -1.0)])]))
    assert (page == np.array(MORE)).all(axis=-1).any()
    assert (page == np.array(shade(-0.5))).all(axis=-1).any()


def test_an_image_without_words() -> None:
    assert draw_coloured([Coloured(np.zeros((3, 16, 16), np.float32), [])]).height > 16
