"""What is decided on few prompts leaves a margin."""

import pytest

from ldm_export.lossy.measure import RunError
from ldm_export.lossy.trials import MARGIN, in_words, stricter
from ldm_runtime.budget import read_budget


def test_a_budget_of_trials_leaves_a_margin() -> None:
    assert MARGIN == 2.0
    assert stricter(read_budget("psnr=30"), MARGIN).value == 32.0
    assert stricter(read_budget("ssim=0.9"), MARGIN).value == pytest.approx(1 - 0.1 * 10**-0.2)


def test_what_a_trial_says_is_no_more_than_what_it_reached() -> None:
    assert in_words(RunError((0.1,), 31.999, 0.94999, 0)) == "31.99 dB, SSIM 0.9499"
    assert in_words(RunError((0.0,), None, 1.0, 0)) == "equal images, SSIM 1"
