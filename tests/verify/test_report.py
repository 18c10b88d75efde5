"""The report: strict to read, honest about what failed, and a page that is safe to open."""

import dataclasses
import json
import math
import sys
from html.parser import HTMLParser

import pytest

from ldm_export.verify import page as report_page
from ldm_export.verify.proven_contract import ProvenContract, digest
from ldm_export.verify.report import (
    SCHEMA_VERSION,
    FactResult,
    Report,
    StepResult,
    TrajectoryResult,
    VariantResult,
    case_result,
    parse,
    write,
)
from ldm_runtime.errors import LdmError, PackageError
from ldm_runtime.package.artefacts import Difference
from tests.runtime import cached_package

HOSTILE = '<script>alert("1")</script>&\' onerror=x'


def made_case(relative_rms=1e-7, problem=None, case="seeded"):
    return case_result(
        component="unet",
        artefact="canonical",
        case=case,
        output="out_sample",
        shape=(2, 4, 6, 10),
        tolerance=2e-6,
        found=Difference(relative_rms=relative_rms, max_abs=1e-6),
        psnr=130.0,
        problem=problem,
    )


def made_trajectory(psnr=(100.0, 90.0, 80.0), passed=True, problem=None, prompt="a lighthouse"):
    return TrajectoryResult(
        sampler="ddim",
        steps=len(psnr),
        guidance=7.5,
        size=(80, 48),
        seed=5,
        prompt=prompt,
        negative="",
        drift=tuple(StepResult(i, 900.0 - i, 10 ** (-value / 20), value) for i, value in enumerate(psnr)),
        timesteps=(),
        latents_floor=60.0,
        image_psnr=70.0,
        image_ssim=0.9999,
        image_max_levels=1,
        image_floor=50.0,
        problem=problem,
        passed=passed,
    )


def made_report(**changes):
    report = Report(
        schema_version=SCHEMA_VERSION,
        package="tiny",
        engine="ort 1.0",
        passed=True,
        facts=(FactResult("contract.latent.scale", "0.18215", "0.18215", True),),
        cases=(made_case(),),
        trajectory=made_trajectory(),
        artefacts={"unet/model.onnx": "0" * 64},
        contract=ProvenContract(digest({"image": {"width": 64}}), {"image": {"width": 64}}),
    )
    return dataclasses.replace(report, **changes)


def test_a_report_survives_being_written_and_read():
    report = made_report()
    assert parse(report.to_json(), "report.json") == report


@pytest.mark.parametrize("figure", [math.nan, math.inf, 3e-6])
def test_a_case_beyond_its_tolerance_or_not_measurable_fails(figure):
    case = made_case(relative_rms=figure)
    assert not case.passed
    report = made_report(cases=(case,), passed=False)
    assert len(report.failures) == 1
    assert "unet (canonical), case seeded, out_sample" in report.failures[0]
    assert parse(report.to_json(), "report.json") == report  # NaN and infinity never reach the JSON


def test_a_problem_fails_a_case_whatever_its_figures():
    assert made_case().passed
    assert not made_case(problem="it returned the wrong shape").passed


def test_a_verdict_that_contradicts_the_results_is_rejected():
    text = made_report(cases=(made_case(relative_rms=1.0),)).to_json()
    with pytest.raises(PackageError, match="contradicts itself"):
        parse(text, "report.json")


def test_another_schema_version_is_rejected():
    value = json.loads(made_report().to_json()) | {"schema_version": 99}
    with pytest.raises(PackageError, match="schema_version 99"):
        parse(json.dumps(value), "report.json")


@pytest.mark.parametrize("change", [{"surprise": 1}, {"passed": "yes"}, {"cases": [{}]}])
def test_unknown_keys_and_wrong_types_are_rejected(change):
    value = json.loads(made_report().to_json()) | change
    with pytest.raises(PackageError, match=r"report\.json"):
        parse(json.dumps(value), "report.json")


def test_a_sampling_run_that_was_not_reached_is_a_failure():
    assert made_report(trajectory=None).failures == ["the sampling run was not reached"]


def test_failures_name_the_fact_the_step_and_the_image():
    fact = FactResult("contract.latent.scale", "0.18215", "0.2", False)
    report = made_report(facts=(fact,), trajectory=made_trajectory((90.0, 50.0, 40.0), passed=False))
    assert "contract.latent.scale: the package has 0.2" in report.failures[0]
    assert "after step 2 the latents" in report.failures[1]
    assert "image" in made_report(trajectory=made_trajectory(passed=False)).failures[0]


def test_the_summary_holds_the_worst_figures():
    report = made_report(cases=(made_case(1e-7), made_case(5e-7), made_case(math.nan)))
    assert report.summary()["unet"] == {"relative_rms": 5e-7, "tolerance": 2e-6}
    assert report.summary()["trajectory_psnr"] == 80.0


def test_the_table_tells_the_verdict_of_every_graph():
    assert "passed" in made_report().table()
    failed = made_report(cases=(made_case(), made_case(1.0)), passed=False).table()
    assert "1 failed" in failed and "FAILED" in failed


class Tags(HTMLParser):
    """Collects tags, attributes and outside references; complains about elements left open."""

    VOID = {"meta", "img", "br"}

    def __init__(self):
        super().__init__()
        self.seen, self.open, self.sources = set(), [], []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "action")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing():
    tags = Tags()
    tags.feed(report_page.render(made_report(), [report_page.Figure("torch", b"\x89PNG")]))
    assert tags.open == []
    assert {"img", "table", "details"} <= tags.seen
    assert "script" not in tags.seen
    kinds = [source.partition(";base64,")[0] for source in tags.sources]
    assert kinds == ["data:image/svg+xml", "data:image/svg+xml", "data:image/png"]


def test_the_three_images_of_each_comparison_are_a_row_of_their_own():
    names = ["torch", "this engine", "difference x 9", "torch", "int8", "difference x 2"]
    page = report_page.render(made_report(), [report_page.Figure(name, b"\x89PNG") for name in names])
    rows = [row.partition("</div>")[0] for row in page.split('<div class="three">')[1:]]
    captions = [[text.partition("<")[0] for text in row.split("<figcaption>")[1:]] for row in rows]
    assert captions == [names[:3], names[3:]]


def test_the_page_draws_the_variants_that_the_package_records():
    recorded = [cached_package.variant(), dataclasses.replace(cached_package.variant(), name=HOSTILE, time=0.75)]
    results = tuple(VariantResult.left_out_for(each.name, "needs a unit") for each in recorded)
    report, tags = made_report(variants=results), Tags()
    page = report_page.render(report, [], recorded)
    tags.feed(page)
    assert tags.open == [] and "script" not in tags.seen
    assert [source.partition(";base64,")[0] for source in tags.sources].count("data:image/png") == 1
    assert '<td class="number">0.50</td>' in page and '<td class="number">30.0</td>' in page
    without = report_page.render(made_report(), [], ())
    assert "Variants" not in without and "data:image/png" not in without


def test_everything_that_came_from_a_file_is_escaped():
    report = made_report(
        package=HOSTILE,
        engine=HOSTILE,
        passed=False,
        facts=(FactResult(HOSTILE, HOSTILE, HOSTILE, False),),
        cases=(made_case(problem=HOSTILE, case=HOSTILE),),
        trajectory=made_trajectory(passed=False, problem=HOSTILE, prompt=HOSTILE),
        artefacts={HOSTILE: HOSTILE},
    )
    page = report_page.render(report, [report_page.Figure(HOSTILE, b"")])
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.seen
    assert "<script" not in page


def test_a_page_without_differences_or_steps_still_renders():
    still = tuple(StepResult(i, 1.0, 0.0, None) for i in range(2))
    equal = dataclasses.replace(made_trajectory(), drift=still, image_psnr=None)
    assert "image/svg" not in report_page.render(made_report(trajectory=equal), [])
    one = made_report(trajectory=made_trajectory((80.0,)))
    assert report_page.render(one, []).count("image/svg") == 2
    assert "Not reached" in report_page.render(made_report(trajectory=None, passed=False), [])


def test_without_matplotlib_the_page_has_every_step_as_a_table(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = report_page.render(made_report(), [])
    assert "image/svg" not in page and "matplotlib is not installed" in page
    assert "<details open>" in page
    for step in made_trajectory().drift:
        assert f"{step.relative_rms:.2e}" in page and f"{step.psnr:.1f}" in page


def test_existing_reports_are_kept_unless_forced(tmp_path):
    write(made_report(), "<p>", tmp_path, force=False)
    with pytest.raises(LdmError, match="exists already"):
        write(made_report(package="other"), "<p>", tmp_path, force=False)
    assert parse((tmp_path / "report.json").read_text(), "report.json").package == "tiny"
    write(made_report(package="other"), "<p>", tmp_path, force=True)
    assert parse((tmp_path / "report.json").read_text(), "report.json").package == "other"
