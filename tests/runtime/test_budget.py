"""The text of a budget, and which measured figures are within it."""

from typing import Any

import pytest

from ldm_runtime.budget import Budget, read_budget
from ldm_runtime.errors import InputError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("exact", Budget("exact", None)),
        ("psnr=35", Budget("psnr", 35.0)),
        ("psnr=10", Budget("psnr", 10.0)),
        ("psnr=100.0", Budget("psnr", 100.0)),
        ("ssim=0.95", Budget("ssim", 0.95)),
        ("ssim=0", Budget("ssim", 0.0)),
        ("ssim=1", Budget("ssim", 1.0)),
    ],
)
def test_a_budget_is_read(text: str, budget: Budget) -> None:
    assert read_budget(text) == budget


@pytest.mark.parametrize(
    "text",
    ["", "Exact", "psnr", "psnr=", "psnr=abc", "psnr=9.9", "psnr=101", "psnr=nan", "psnr=inf", "psnr=-35", "psnr=3_5"]
    + ["psnr = 35", "psnr=35dB", "psnr=٣٥", "psnr=1e2", "ssim=1.1", "ssim=-0.5", "mse=1", "psnr=35,ssim=0.9", None, 35],
)
def test_another_text_is_no_budget(text: Any) -> None:
    with pytest.raises(InputError) as refused:
        read_budget(text)
    expected = "; expected exact, psnr=DB from 10 to 100, or ssim=SHARE from 0 to 1, such as psnr=35"
    assert str(refused.value) == f"budget is {text!r}{expected}"
    assert refused.value.code == "request.invalid"


def test_figures_are_held_to_a_budget() -> None:
    psnr, ssim = read_budget("psnr=35"), read_budget("ssim=0.95")
    assert psnr.holds(35.0, 0.0) and psnr.holds(None, 0.0) and not psnr.holds(34.9, 1.0)
    assert ssim.holds(0.0, 0.95) and ssim.holds(None, 1.0) and not ssim.holds(99.0, 0.949)


def test_no_figures_are_exact() -> None:
    assert not read_budget("exact").holds(None, 1.0)


@pytest.mark.parametrize("text", ["exact", "psnr=35", "psnr=31.5", "psnr=35.12345678", "ssim=0.95", "ssim=0"])
def test_a_budget_says_what_it_is_read_from(text: str) -> None:
    assert read_budget(text).text == text


def test_what_is_reached_is_told_in_the_figure_of_the_budget_and_never_more_than_that() -> None:
    psnr, ssim = read_budget("psnr=30"), read_budget("ssim=0.95")
    assert psnr.reached(29.999, 0.5) == "29.99 dB" and not psnr.holds(29.999, 0.5)
    assert psnr.reached(None, 1.0) == "equal images"
    assert ssim.reached(None, 0.94999) == "SSIM 0.9499" and not ssim.holds(None, 0.94999)
