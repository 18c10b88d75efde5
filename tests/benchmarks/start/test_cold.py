"""The start from cold within a budget: verdicts from made-up figures, and one round of the built-in model."""

import pytest
from click.testing import CliRunner

from benchmarks.start import cold
from benchmarks.start.cold import EXACT, Cold, contender, measure_cold, render
from benchmarks.start.contenders import EXPORT, RUNTIME
from benchmarks.start.measure import Measured
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import builtin_package


def runs(*seconds: float) -> tuple[Measured, ...]:
    return tuple(Measured(None, each, each, 200_000_000, {}) for each in seconds)


@pytest.mark.parametrize(("share", "verdict"), [(0.8, "met"), (0.85, "met"), (0.86, "missed")])
def test_the_ratio_is_taken_within_each_round(share, verdict):
    exact = [1.0, 1.0, 2.0, 2.0, 4.0, 1.0, 1.0, 1.0, 1.0]  # others used the machine in between
    found = [
        Cold(RUNTIME, EXACT, runs(*exact)),
        Cold(RUNTIME, "psnr=30", runs(*[share * each for each in exact]), "int8"),
    ]
    text = render(found)
    assert (
        f"- {RUNTIME}, psnr=30: at most 0.85 of exact: **{verdict}**; {share:.3g} ({share:.3g} to {share:.3g})" in text
    )
    assert "fewer than" not in text
    assert f"| {RUNTIME} | exact | exact | 1 (1 to 4) | 200 (200 to 200) | 1 (1 to 1) |" in text


def test_each_way_is_compared_with_itself():
    found = [
        Cold(RUNTIME, EXACT, runs(1.0, 1.0)),
        Cold(RUNTIME, "psnr=30", runs(0.9, 0.9), "int8"),
        Cold(EXPORT, EXACT, runs(2.0, 2.0)),
        Cold(EXPORT, "psnr=30", runs(1.0, 1.0), "int8"),
    ]
    text = render(found)
    assert f"- {RUNTIME}, psnr=30: at most 0.85 of exact: **missed**; 0.9 (0.9 to 0.9); 2 rounds, fewer than 9" in text
    assert f"- {EXPORT}, psnr=30: at most 0.85 of exact: **met**; 0.5 (0.5 to 0.5)" in text


def test_a_budget_that_nothing_is_within_is_no_verdict():
    text = render([Cold(RUNTIME, EXACT, runs(1.0)), Cold(RUNTIME, "psnr=90", runs(0.5))])
    assert "psnr=90: nothing of the package is within it here; drawn exactly" in text and "**" not in text


def test_every_file_of_the_package_is_read_before(tmp_path):
    package = open_package(builtin_package(), check="size")
    for way in (RUNTIME, EXPORT):
        made = contender(package, way, "psnr=30", 1, tmp_path / "image.png")
        assert "psnr=30" in made.command and len(made.weights) == len(package.manifest.files)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--budget", "psnr=abc"], "psnr=abc"), (["--rounds", "0"], "rounds"), (["nowhere"], "nowhere")],
)
def test_arguments_that_cannot_be_are_refused(arguments, said):
    outcome = CliRunner().invoke(cold.main, arguments)
    assert outcome.exit_code != 0 and said in outcome.output


@pytest.mark.slow
def test_the_built_in_model_is_drawn_from_cold_in_turns():
    found = measure_cold(open_package(builtin_package(), check="size"), (EXACT, "psnr=30"), 1, 1)
    assert [(each.way, each.budget, len(each.runs)) for each in found] == [
        (way, budget, 1) for way in (RUNTIME, EXPORT) for budget in (EXACT, "psnr=30")
    ]
    assert all(each.runs[0].image > 0.1 and each.runs[0].peak > 5e7 for each in found)
