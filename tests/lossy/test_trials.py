"""What is decided on few prompts leaves a margin."""

import pytest

from ldm_export.lossy.trials import MARGIN, stricter
from ldm_runtime.budget import read_budget


def test_a_budget_of_trials_leaves_a_margin() -> None:
    assert MARGIN == 2.0
    assert stricter(read_budget("psnr=30"), MARGIN).value == 32.0
    assert stricter(read_budget("ssim=0.9"), MARGIN).value == pytest.approx(1 - 0.1 * 10**-0.2)
