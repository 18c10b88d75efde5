"""Curves of a linear autoencoder, whose error is known."""

import math

import numpy as np
import pytest

from ldm_export.analyze.rate_distortion import LATENTS, working_point
from ldm_export.analyze.sections.information_curves import measure_curves
from tests.analyze.linear_study import LinearSubject, draw_levels, make_study


def test_curves_of_a_linear_autoencoder(tmp_path) -> None:
    """Squares of one colour and a little noise, which the autoencoder leaves out: its error is the noise's."""
    curves = measure_curves(make_study(tmp_path, draw_levels(64), LinearSubject()), np.full(64, 1000.0))
    assert math.sqrt(curves.unquantised.mean()) == pytest.approx(4, rel=0.05)
    fine, *_, coarse = curves.lines[LATENTS]
    assert fine.bits.mean() > 1.3 * coarse.bits.mean() and fine.psnr > coarse.psnr + 3
    assert all(abs(each.excess) < 0.01 for each in curves.lines[LATENTS] if each.excess is not None)
    assert working_point(curves, 100.0) is coarse and working_point(curves, 0.0) is fine
    # The step's own error adds to the noise's: step²/12, in grey levels.
    deviation = 32 * np.array(coarse.setting)
    assert coarse.error.mean() == pytest.approx(16 + deviation**2 / 12, rel=0.1)
