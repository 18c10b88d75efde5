"""Analyses: resumed, failing in a section, refused; the report and its page."""

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_export.analyze import run
from ldm_export.analyze.findings import Figure, Findings, Picture, Table
from ldm_export.analyze.section import Needs
from ldm_export.analyze.study import Study
from ldm_export.errors import AnalysisError
from ldm_export.plots import draw_lines, to_png
from ldm_runtime.errors import InputError, OutputError
from ldm_runtime.files.atomic import atomic_file
from tests.analyze.conftest import write_images

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
    assert report["data"] == {
        "folder": "images",
        "images": 8,
        "available": 8,
        "cropped": 0,
        "too_small": 0,
        "size": [128, 128],
        "captions": True,
        "masks": True,
    }
    assert report["options"] == {"samples": 512, "seed": 0, "quick": False, "features": "mean colour"}
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


@pytest.mark.parametrize("change", ["mask", "caption", "label", "weights", "machine", "threads", "nothing"])
def test_what_is_kept_belongs_to_all_that_it_was_made_of(
    images: Path, tmp_path: Path, sections, make_extractor, monkeypatch, change: str
) -> None:
    """A mask of which no pixel shows, a caption, a label, the weights beside the images, and what times are of."""
    (section,) = sections(Counted("first")).values()
    run.analyze(None, data=images, out=tmp_path / "o", make_extractor=make_extractor)
    rows = [json.loads(line) for line in (images / "captions.jsonl").read_text().splitlines()]
    if change == "mask":  # where nothing is, white on white is nothing too
        with Image.open(images / "000.png") as image:
            rgba = np.array(image)
        rgba[0, 0] = 255
        Image.fromarray(rgba).save(images / "000.png")
    elif change == "caption":
        rows[0]["caption"] = "another"
    elif change == "label":
        rows = [{**row, "group": "a"} for row in rows]
    elif change == "weights":
        (images / "vgg16.safetensors").write_bytes(b"weights")
    elif change == "machine":
        monkeypatch.setattr(run, "cpu_names", lambda: ["another"])
    elif change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    (images / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.analyze(None, data=images, out=tmp_path / "o", force=True, make_extractor=make_extractor)
    assert section.calls == (1 if change == "nothing" else 2)
    kept = [each for each in (tmp_path / "o" / "kept").iterdir() if each.is_dir()]
    assert len(kept) == 1, "what was kept of the other analysis is gone"


def test_only_what_this_program_kept_is_removed(images: Path, tmp_path: Path, sections, make_extractor) -> None:
    sections(Counted("first"))
    kept = tmp_path / "out" / "kept"
    for name in ("0123456789abcdef", "mine", "0123456789abcdef.bak"):
        (kept / name).mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (kept / "fedcba9876543210").symlink_to(tmp_path / "elsewhere")
    run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    left = {each.name for each in kept.iterdir()}
    assert left > {"mine", "0123456789abcdef.bak", "fedcba9876543210"} and "0123456789abcdef" not in left


@pytest.mark.parametrize("place", ["array", "result", "elsewhere"])
def test_a_full_disk_ends_the_analysis_and_it_goes_on_later(
    images: Path, tmp_path: Path, sections, make_extractor, monkeypatch, place: str
) -> None:
    first, second, third = Counted("first"), Counted("second"), Counted("third")
    sections(first, second, third)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(study: Study) -> Findings:
        if place == "elsewhere":
            raise full
        if place == "array":
            with monkeypatch.context() as patch:
                patch.setattr(np, "save", raise_full)
                return study.kept("large", lambda: np.zeros(3))
        monkeypatch.setattr(run.json, "dumps", lambda facts: "x" * 2**21)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
        return Findings()

    def raise_full(*arguments: object, **options: object) -> None:
        raise full

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    measure, second.measure = second.measure, fail  # type: ignore[method-assign]
    pattern = r"(No space left on device|File too large).*; the analysis ends here, and what it has done is kept in .*"
    try:
        with pytest.raises(
            OutputError, match=pattern + "/kept/[0-9a-f]{16}: make room, and run the same command again"
        ):
            run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        monkeypatch.undo()
    assert third.calls == 0 and not (tmp_path / "out" / "report.json").exists()
    second.measure = measure  # type: ignore[method-assign]
    sections(first, second, third)
    assert run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor).failures == []
    assert (first.calls, second.calls, third.calls) == (1, 1, 1)


def test_a_report_that_does_not_fit_leaves_what_was_measured(
    images: Path, tmp_path: Path, sections, make_extractor, monkeypatch
) -> None:
    (section,) = sections(Counted("first")).values()

    def full(analysis: run.Analysis) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(run, "render", full)
        with pytest.raises(OutputError, match="No space left on device; the analysis ends here"):
            run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    assert section.calls == 1


def test_a_disk_without_room_is_refused_before_anything_is_measured(
    images: Path, tmp_path: Path, sections, make_extractor, monkeypatch
) -> None:
    (section,) = sections(Counted("first")).values()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=50_000_000))
    with pytest.raises(OutputError, match=r"will need about 0\.1\d? GB .* of 8 images; free on that disk are 0\.05 GB"):
        run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    assert section.calls == 0


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_memory_that_does_not_do_is_no_fault(
    images: Path, tmp_path: Path, sections, make_extractor, error: Exception
) -> None:
    hungry = Counted("hungry")
    sections(hungry, Counted("whole"))

    def fail(study: Study) -> Findings:
        raise error

    hungry.measure = fail  # type: ignore[method-assign]
    analysis = run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    assert analysis.failures == [
        f"{hungry.title}: the machine ran out of memory; give fewer images with --samples, or use a larger one"
    ]


def test_a_report_without_its_page_was_interrupted_and_goes_on(
    images: Path, tmp_path: Path, sections, make_extractor, monkeypatch
) -> None:
    """The page is written last: a full disk or a kill before it left a report that the same command refused."""
    (section,) = sections(Counted("first")).values()

    def full_at_the_page(path: Path) -> object:
        if path.name == "report.html":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return atomic_file(path)

    with monkeypatch.context() as patch:
        patch.setattr(run, "atomic_file", full_at_the_page)
        with pytest.raises(OutputError, match="make room, and run the same command again"):
            run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    assert (tmp_path / "out" / "report.json").exists() and not (tmp_path / "out" / "report.html").exists()
    assert run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor).failures == []
    assert section.calls == 1 and (tmp_path / "out" / "report.html").exists()
    with pytest.raises(OutputError, match=r"report\.json.* exists"):
        run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)


def test_progress_says_how_many_sections_there_are(images: Path, tmp_path: Path, sections, make_extractor) -> None:
    sections(Counted("first"), Counted("second"))
    Image.new("RGB", (9, 9)).save(images / "003.png")
    said: list[str] = []
    run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor, progress=said.append)
    assert said == [
        "images that are smaller than the model's, and left out: 1",
        "section 1 of 2: first: A <title>",
        "section 2 of 2: second: A <title>",
    ]


@pytest.mark.parametrize("out", [".", "link", ".."])
def test_a_report_among_the_images_is_refused(tmp_path: Path, sections, make_extractor, out: str) -> None:
    (section,) = sections(Counted("first")).values()
    write_images(tmp_path / "pictures", 1)
    (tmp_path / "pictures" / "link").symlink_to(".")
    data = tmp_path / "pictures"
    with pytest.raises(InputError, match="the report would be written into .*pictures, the folder of the images"):
        run.analyze(None, data=data, out=data / out, make_extractor=make_extractor)
    assert section.calls == 0


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
        raise RuntimeError("no more\nroom in \udcff")

    broken.measure = fault  # type: ignore[method-assign]
    analysis = run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    (failure,) = analysis.failures
    assert "a fault of the program itself, RuntimeError: no more\\x0aroom in \\udcff; its traceback is in " in failure
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


def test_two_analyses_into_one_folder(images: Path, tmp_path: Path, sections, make_extractor) -> None:
    first, out = Counted("first"), tmp_path / "out"
    sections(first)
    measure = first.measure

    def second_meanwhile(study: Study) -> Findings:
        with pytest.raises(OutputError, match=r"another analysis is writing its report into .*out; wait for its end"):
            run.analyze(None, data=images, out=out, seed=1, make_extractor=make_extractor)
        return measure(study)

    first.measure = second_meanwhile  # type: ignore[method-assign]
    analysis = run.analyze(None, data=images, out=out, make_extractor=make_extractor)
    assert analysis.failures == [] and first.calls == 1
    first.measure = measure  # type: ignore[method-assign]
    run.analyze(None, data=images, out=out, seed=1, force=True, make_extractor=make_extractor)


@pytest.mark.parametrize("name", ["pictures", "kept"])
def test_a_file_in_place_of_a_folder_is_refused_before_anything_is_measured(
    images: Path, tmp_path: Path, sections, make_extractor, name: str
) -> None:
    (section,) = sections(Counted("first")).values()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(OutputError, match=f"{name} is no folder, and the report needs one there"):
        run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    assert section.calls == 0


def test_a_picture_that_cannot_be_written_is_no_want_of_room(
    images: Path, tmp_path: Path, sections, make_extractor
) -> None:
    sections(Counted("first"))
    (tmp_path / "out" / "pictures" / "first-line.png").mkdir(parents=True)
    with pytest.raises(OutputError, match="a folder has that name.*: without that trouble, run the same command again"):
        run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)


def test_nothing_is_removed_from_a_place_that_kept_is_a_link_to(
    images: Path, tmp_path: Path, sections, make_extractor
) -> None:
    sections(Counted("first"))
    (tmp_path / "shared" / "0123456789abcdef").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").symlink_to(tmp_path / "shared")
    run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    assert (tmp_path / "shared" / "0123456789abcdef").is_dir()


def test_a_digit_that_changed_in_what_was_kept(images: Path, tmp_path: Path, sections, make_extractor) -> None:
    (section,) = sections(Counted("first")).values()
    run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    (file,) = (tmp_path / "out").rglob("first.json")
    file.write_text(file.read_text().replace('"value": 1.0', '"value": 7.0'))
    again = run.analyze(None, data=images, out=tmp_path / "out", force=True, make_extractor=make_extractor)
    assert again.results[0].findings is not None and again.results[0].findings.value("one") == 1.0
    assert section.calls == 2


@pytest.mark.parametrize("what", ["link", "folder", "digit"])
def test_what_is_in_the_place_of_a_kept_section_is_said_and_measured_again(
    images: Path, tmp_path: Path, sections, make_extractor, what: str
) -> None:
    (section,) = sections(Counted("first")).values()
    run.analyze(None, data=images, out=tmp_path / "out", make_extractor=make_extractor)
    (file,) = (tmp_path / "out").rglob("first.json")
    elsewhere = tmp_path / "elsewhere.json"
    if what == "digit":
        file.write_text(file.read_text().replace('"value": 1.0', '"value": 7.0'))
    else:
        file.rename(elsewhere)
        if what == "link":
            file.symlink_to(elsewhere)
        else:
            file.mkdir()
    before, said = elsewhere.read_text() if elsewhere.exists() else "", []
    again = run.analyze(
        None, data=images, out=tmp_path / "out", force=True, make_extractor=make_extractor, progress=said.append
    )
    assert again.failures == [] and section.calls == 2
    assert any(each.endswith("first.json is damaged: first is measured again") for each in said)
    assert file.is_file() and not file.is_symlink()
    assert (elsewhere.read_text() if elsewhere.exists() else "") == before


def test_parents_of_the_output_are_made(images: Path, tmp_path: Path, sections, make_extractor) -> None:
    sections(Counted("first"))
    out = tmp_path / "runs" / "today" / "analysis"
    assert run.analyze(None, data=images, out=out, make_extractor=make_extractor).failures == []
    assert (out / "report.html").is_file()


def test_nothing_is_made_of_an_analysis_that_is_refused(images: Path, tmp_path: Path, sections, make_extractor) -> None:
    sections(Counted("first", needs=Needs(pictures=99)))
    with pytest.raises(AnalysisError, match="first needs 99 images"):
        run.analyze(None, data=images, out=tmp_path / "runs" / "o", only=["first"], make_extractor=make_extractor)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "''; expected a path"),
        ("x" * 5000, "which cannot be looked up: File name too long"),
        ("a\0b", "is not a path"),
    ],
)
@pytest.mark.parametrize("option", ["data", "out"])
def test_paths_that_cannot_be(
    images: Path, tmp_path: Path, sections, make_extractor, option: str, path: str, said: str
) -> None:
    sections(Counted("first"))
    given = {"data": images, "out": tmp_path / "out"} | {option: path}
    with pytest.raises(InputError, match=f"^{option} is .*{said}"):
        run.analyze(None, **given, make_extractor=make_extractor)
