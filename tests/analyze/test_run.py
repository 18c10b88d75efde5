"""Analyses: resumed, failing in a section, refused; the report and its page."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ldm_export.analyze import run
from ldm_export.analyze.findings import Figure, Findings, Picture, Table
from ldm_export.analyze.section import Needs
from ldm_export.analyze.study import Study
from ldm_export.errors import AnalysisError
from ldm_export.plots import draw_lines, to_png
from ldm_runtime.errors import InputError, OutputError

pytestmark = pytest.mark.slow  # each opens the built-in model


@dataclass
class Counted:
    """A section that says how often it was measured."""

    name: str
    value: float = 1.0
    needs: Needs = Needs()
    title: str = "A <title>"
    claim: str = "Is it so?"
    calls: int = 0

    def measure(self, study: Study) -> Findings:
        self.calls += 1
        drawn = study.kept(f"{self.name}-draw", lambda: study.random("draw").normal(size=3))
        return Findings(
            ["It is."],
            [Figure("one", "One", self.value, "bits", "counting", "It tells nothing.", 0.5, 1.5, "made up")],
            [Table("drawn", "Drawn", ("a", "b", "c"), (tuple(map(float, drawn)),))],
            [Picture("line", "A line", to_png(draw_lines({"x": [(0, 1), (1, 2)]}, "x", "y")))],
            ["Look at it."],
        )


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Counted]]:
    def use(*chosen: Counted) -> dict[str, Counted]:
        table = {each.name: each for each in chosen}
        monkeypatch.setattr(run, "SECTIONS", table)
        return table

    return use


def test_a_report_and_its_page(images: Path, tmp_path: Path, sections, make_extractor) -> None:
    sections(Counted("first"), Counted("second", 2.0))
    out = tmp_path / "out"
    analysis = run.analyze(None, data=images, out=out, make_extractor=make_extractor)
    assert analysis.failures == []
    report = json.loads((out / "report.json").read_text())
    assert report["data"] | {"folder": ""} == report["data"] | {"folder": ""}
    options = {"samples": 512, "seed": 0, "quick": False, "features": "mean colour"}
    assert report["data"]["images"] == 8 and report["options"] == options
    figure = report["sections"]["second"]["findings"]["figures"][0]
    assert (figure["value"], figure["unit"], figure["low"], figure["interval"]) == (2.0, "bits", 0.5, "made up")
    page = (out / "report.html").read_text()
    assert "A &lt;title&gt;" in page and "data:image/png;base64," in page and "Look at it." in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_same_seed_gives_the_same_figures(images: Path, tmp_path: Path, sections, make_extractor) -> None:
    sections(Counted("first"))
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run.analyze(None, data=images, out=tmp_path / name, seed=seed, make_extractor=make_extractor)
        facts = json.loads((tmp_path / name / "report.json").read_text())
        found.append(facts["sections"]["first"]["findings"]["tables"][0]["rows"])
    assert found[0] == found[1] != found[2]


def test_an_interrupted_analysis_goes_on(images: Path, tmp_path: Path, sections, make_extractor) -> None:
    first, second = Counted("first"), Counted("second")
    sections(first, second)

    def interrupt(study: Study) -> Findings:
        study.kept("second-draw", lambda: np.zeros(3))
        raise KeyboardInterrupt

    measure, second.measure = second.measure, interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    assert not (tmp_path / "out" / "report.json").exists()
    second.measure = measure  # type: ignore[method-assign]
    analysis = run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    assert (first.calls, second.calls) == (1, 1)
    assert analysis.results[1].findings is not None
    assert analysis.results[1].findings.tables[0].rows == ((0.0, 0.0, 0.0),), "what was kept before the interruption"


def test_other_images_are_another_analysis(images: Path, tmp_path: Path, sections, make_extractor) -> None:
    (section,) = sections(Counted("first")).values()
    for force, count in ((False, 8), (True, 7)):
        run.analyze(None, data=images, out=tmp_path / "o", samples=count, force=force, make_extractor=make_extractor)
    assert section.calls == 2


def test_a_section_that_fails_leaves_the_others(images: Path, tmp_path: Path, sections, make_extractor) -> None:
    sections(Counted("broken", float("nan")), Counted("whole"), Counted("hungry", needs=Needs(pictures=99)))
    analysis = run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    assert len(analysis.failures) == 2
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "NaN or infinity" in report["sections"]["broken"]["problem"]
    assert "needs 99 images, and 8 were read of 8" in report["sections"]["hungry"]["problem"]
    assert report["sections"]["whole"]["problem"] is None
    assert "Not measured: One is nan" in (tmp_path / "out" / "report.html").read_text()


def test_a_fault_of_a_section_leaves_the_others_and_its_traceback(
    images: Path, tmp_path: Path, sections, make_extractor
) -> None:
    broken = Counted("broken")
    sections(broken, Counted("whole"))

    def fault(study: Study) -> Findings:
        raise RuntimeError("no more\nmemory")

    broken.measure = fault  # type: ignore[method-assign]
    analysis = run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    (failure,) = analysis.failures
    assert "a fault of the program itself, RuntimeError: no more\\x0amemory; its traceback is in " in failure
    assert "in fault" in Path(failure.rpartition(" in ")[2]).read_text()
    assert analysis.results[1].findings is not None


def test_what_was_kept_and_is_damaged_is_measured_again(images: Path, tmp_path: Path, sections, make_extractor) -> None:
    section = Counted("first")
    sections(section)
    first = run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    for name, content in (("first.json", "{"), ("first-draw.npy", "no array"), ("first-draw.npy", "")):
        (file,) = (tmp_path / "out").rglob(name)
        file.write_text(content)
        if name != "first.json":
            next((tmp_path / "out").rglob("first.json")).unlink()
        again = run.analyze(None, data=images, out=tmp_path / "out", force=True, make_extractor=make_extractor)
        assert again.results[0].findings == first.results[0].findings
    assert section.calls == 4


@pytest.mark.parametrize(
    ("options", "error", "pattern"),
    [
        ({"only": ["nothing"]}, InputError, "there is no section 'nothing'; expected some of first, hungry"),
        ({"only": ["hungry"]}, AnalysisError, "hungry needs 99 images"),
        ({"samples": 0}, InputError, "samples is 0; expected an integer from 1"),
        ({"seed": -1}, InputError, "seed is -1"),
    ],
)
def test_refusals(images: Path, tmp_path: Path, sections, make_extractor, options, error, pattern: str) -> None:
    sections(Counted("first"), Counted("hungry", needs=Needs(pictures=99)))
    with pytest.raises(error, match=pattern):
        run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor, **options)


def test_an_existing_report_is_kept(images: Path, tmp_path: Path, sections, make_extractor) -> None:
    sections(Counted("first"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("mine")
    with pytest.raises(OutputError, match="report.json"):
        run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    assert (tmp_path / "out" / "report.json").read_text() == "mine"


def test_a_checkpoint_is_drawn_with_torch(images: Path, tmp_path: Path, sections, make_extractor, tiny_build) -> None:
    """The latents and reconstructions of a diffusers folder are those of its package."""
    built = tiny_build("sd15")
    found = []

    class Looking(Counted):
        def measure(self, study: Study) -> Findings:
            found.append((study.latents, study.reconstructions))
            return super().measure(study)

    for name, source in (("a", built.source), ("b", built.package)):
        sections(Looking("first"))
        run.analyze(source, data=images, out=tmp_path / name, samples=2, make_extractor=make_extractor)
    for from_torch, from_engine in zip(*found, strict=True):
        np.testing.assert_allclose(from_torch, from_engine, rtol=0, atol=2e-4 * np.abs(from_engine).max())
