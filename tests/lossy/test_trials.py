"""What is decided on few prompts leaves a margin."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from ldm_export.lossy.measure import RunError
from ldm_export.lossy.method import MARGIN
from ldm_export.lossy.trials import in_words, shortfall, stricter
from ldm_runtime.budget import read_budget
from ldm_runtime.package.variants import MeasuredError


def test_a_budget_of_trials_leaves_a_margin() -> None:
    assert MARGIN == 2.0
    assert stricter(read_budget("psnr=30"), MARGIN).value == 32.0
    assert stricter(read_budget("ssim=0.9"), MARGIN).value == pytest.approx(1 - 0.1 * 10**-0.2)


def test_what_is_missing_is_the_margin_that_a_budget_would_need() -> None:
    def error(psnr: float | None, ssim: float) -> MeasuredError:
        return cast(MeasuredError, SimpleNamespace(psnr=psnr, ssim=ssim))

    assert shortfall(read_budget("psnr=30"), error(28.5, 0.5)) == 1.5
    assert shortfall(read_budget("psnr=30"), error(None, 1.0)) == -math.inf
    budget, missing = read_budget("ssim=0.98"), shortfall(read_budget("ssim=0.98"), error(20.0, 0.95))
    assert missing == pytest.approx(10 * math.log10(2.5))
    assert stricter(replace(budget, value=0.95), missing).value == pytest.approx(0.98)
    assert shortfall(read_budget("exact"), error(20.0, 0.5)) == 0.0


def test_what_a_trial_says_is_no_more_than_what_it_reached() -> None:
    assert in_words(RunError((0.1,), 31.999, 0.94999, 0)) == "31.99 dB, SSIM 0.9499"
    assert in_words(RunError((0.0,), None, 1.0, 0)) == "equal images, SSIM 1"
