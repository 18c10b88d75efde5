"""Ordinary codecs, and rates at equal error."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from ldm_export.analyze.image_codecs import code
from ldm_export.analyze.rate_distortion import (
    Point,
    at_equal_error,
    equal_error_samples,
    psnr,
)
from tests.analyze.linear_study import draw_levels


def test_jpeg_s_content_is_what_changes_with_the_image() -> None:
    flat, busy = np.full((64, 64, 3), 90, np.uint8), draw_levels(1, 64)[0]
    coded = [code(each, "JPEG", 50) for each in (flat, busy)]
    assert coded[0].size - coded[0].content == coded[1].size - coded[1].content > 500
    assert 0 < coded[0].content < coded[1].content / 2


@pytest.mark.parametrize("codec", ["JPEG", "WebP"])
def test_codecs_give_what_pillow_reads(codec: str) -> None:
    pixels = draw_levels(1, 64)[0]
    coded = code(pixels, codec, 80)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, codec, quality=80)
    assert coded.size == len(file.getvalue())
    assert (coded.pixels == np.asarray(Image.open(file).convert("RGB"))).all()
    assert code(pixels, codec, 10).size < coded.size


def point(setting: float, error: float, bits: float) -> Point:
    return Point(setting, np.full(5, bits), np.full(5, error), np.zeros((0,)))


def test_the_rate_at_equal_error_lies_between_the_settings() -> None:
    line = [point(1, 400.0, 100.0), point(2, 4.0, 400.0)]
    assert at_equal_error(equal_error_samples(point(0, 40.0, 1.0), line)) == pytest.approx(200.0)
    assert math.isnan(at_equal_error(equal_error_samples(point(0, 500.0, 1.0), line)))
    assert math.isnan(at_equal_error(equal_error_samples(point(0, 3.0, 1.0), line)))


def test_psnr() -> None:
    assert psnr(255.0**2) == 0 and psnr(0.0) > 130
