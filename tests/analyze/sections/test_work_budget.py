"""A budget of counted work: what fits, what is cut, and that it is said."""

from types import SimpleNamespace

import pytest

from ldm_export.analyze.findings import Findings
from ldm_export.analyze.sections import work_budget
from ldm_export.analyze.sections.work_budget import FULL, QUICK, WorkBudget, budget_of


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
