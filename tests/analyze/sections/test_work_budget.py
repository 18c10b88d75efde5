"""A budget of counted work: what fits, what is cut, and that it is said."""

from types import SimpleNamespace

import pytest

from ldm_export.analyze.derivative_cost import Work
from ldm_export.analyze.findings import Findings
from ldm_export.analyze.sections import work_budget
from ldm_export.analyze.sections.work_budget import (
    FULL,
    QUICK,
    USUAL,
    WorkBudget,
    affordable,
    budget_of,
    said_of_work,
    shown_work,
)


def test_runs_are_what_fits_between_the_wanted_and_the_least() -> None:
    found = WorkBudget(1.0, 1.0, 100.0)
    assert found.runs("all", 10, 5.0, 0.5, 4) == 10 and found.cuts == []
    assert found.runs("some", 20, 5.0, 0.5, 4) == 10
    assert found.runs("few", 20, 50.0, 0.5, 4) == 4
    assert found.runs("fewer than the least are wanted", 2, 50.0, 0.5, 4) == 2
    assert found.cuts == ["some: 10 of 20", "few: 4 of 20"]


def test_what_was_cut_is_said() -> None:
    findings, whole = Findings(), WorkBudget(4e11, 1.2e12, 3e13)
    whole.add_cuts(findings)
    assert findings.sentences == []
    whole.runs("images", 128, 1.2e12, 0.4, 4)
    whole.add_cuts(findings)
    (said,) = findings.sentences
    assert "(400 GMAC, a decoded image 1,200 GMAC)" in said
    assert "near 30 TMAC" in said and "images: 10 of 128" in said


@pytest.mark.parametrize(("quick", "most"), ((False, FULL), (True, QUICK)))
def test_it_counts_the_denoiser_and_the_decoder(monkeypatch: pytest.MonkeyPatch, quick: bool, most: float) -> None:
    cost = {name: SimpleNamespace(total=each) for name, each in (("unet", 7), ("vae_decoder", 5), ("text", 3))}
    monkeypatch.setattr(work_budget, "component_costs", lambda subject: cost)
    contract = SimpleNamespace(
        denoiser=SimpleNamespace(component="unet"),
        codec=SimpleNamespace(decoder=SimpleNamespace(component="vae_decoder")),
    )
    study = SimpleNamespace(subject=SimpleNamespace(contract=contract), quick=quick)
    assert budget_of(study) == WorkBudget(7.0, 5.0, most)  # type: ignore[arg-type]


def test_what_does_not_fit_says_what_it_would_be() -> None:
    budget = WorkBudget(1.0, 1.0, 30e12)
    assert budget.lacking("8 images", 15e12, 0.5) == ""
    assert budget.lacking("8 images", 1.5e15, 0.5) == (
        "8 images, the fewest that it takes, would be 1,500 TMAC, and 15 TMAC are what it may take here"
    )
    assert (shown_work(391.68e12), shown_work(4.2e9)) == ("392 TMAC", "0.0042 TMAC")


def times(factor: float) -> Work:
    """Work that is a multiple of the usual."""
    return Work(int(factor * USUAL), 0)


def test_more_work_takes_fewer_samples_and_less_takes_no_more() -> None:
    assert affordable(times(0.1), 12, 2) == affordable(times(1), 12, 2) == 12
    assert affordable(times(3), 12, 2) == 4 and affordable(times(100), 12, 2) == 2
    assert affordable(times(100), 1, 2) == 1  # there are no more


def test_work_that_is_more_than_the_usual_is_said() -> None:
    assert said_of_work(times(1.01), "fewer") == []
    assert said_of_work(times(3), "fewer are taken") == [
        "An evaluation of the decoder takes 3 times the work that the numbers of samples here are meant for: fewer are "
        "taken."
    ]
