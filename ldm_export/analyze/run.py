"""Runs the sections that are asked for, one after the other, and writes the report. An interrupted analysis goes on."""

import contextlib
import json
import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ldm_export.analyze.features import Extractor, efficientnet_lite0
from ldm_export.analyze.findings import Findings
from ldm_export.analyze.keeping import (
    FULL,
    ends_analysis,
    is_kept_file,
    key_of,
    open_kept,
    remove_others,
    sealed,
    unsealed,
)
from ldm_export.analyze.lock import only_analysis
from ldm_export.analyze.page import render
from ldm_export.analyze.pictures import Pictures, load_pictures
from ldm_export.analyze.report_folder import (
    PAGE,
    PICTURES,
    REPORT,
    refuse_images_in,
    refuse_other_than_folders_in,
    refuse_report_in,
)
from ldm_export.analyze.section import Section
from ldm_export.analyze.sections import SECTIONS
from ldm_export.analyze.study import Say, Study
from ldm_export.analyze.subject import Subject, open_subject
from ldm_export.errors import AnalysisError
from ldm_export.process.cores import usable_cores
from ldm_export.process.out_of_memory import is_out_of_memory
from ldm_export.recipes.train import Background, load_train_recipe
from ldm_runtime import __version__
from ldm_runtime.checks import check_path
from ldm_runtime.engines.units import cpu_names
from ldm_runtime.errors import InputError, LdmError, OutputError, one_line
from ldm_runtime.files.atomic import atomic_file, make_folder, refuse_unwritable
from ldm_runtime.files.strict_json import parse as parse_json

SCHEMA_VERSION = 1
SAMPLES, QUICK_SAMPLES = 512, 96  # images
MAX_SAMPLES = 100_000
MAX_SEED = 2**63 - 1
OUT_OF_MEMORY = "the machine ran out of memory; give fewer images with --samples, or use a larger one"


@dataclass
class SectionResult:
    """A section of the report: its findings, or why there are none."""

    section: Section
    findings: Findings | None
    problem: str | None
    seconds: float


@dataclass
class Analysis:
    """A finished analysis: the facts about it, and its sections."""

    facts: dict[str, Any]
    results: list[SectionResult] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """Return a sentence for each section that failed."""
        return [f"{each.section.title}: {each.problem}" for each in self.results if each.problem is not None]

    def to_json(self) -> dict[str, Any]:
        """Return the values of report.json: of a picture, the name of its file."""
        sections = {}
        for each in self.results:
            found = None if each.findings is None else each.findings.to_json()
            for picture in [] if found is None else found["pictures"]:
                del picture["png"]
                picture["file"] = picture_file(each.section, picture["name"])
            sections[each.section.name] = {
                "title": each.section.title,
                "claim": each.section.claim,
                "problem": each.problem,
                "seconds": round(each.seconds, 1),
                "findings": found,
            }
        return {"schema_version": SCHEMA_VERSION, **self.facts, "sections": sections}


def analyze(
    source: Path | None,
    *,
    data: Path,
    out: Path,
    only: Sequence[str] = (),
    samples: int | None = None,
    seed: int = 0,
    quick: bool = False,
    force: bool = False,
    make_extractor: Callable[[], Extractor] = efficientnet_lite0,
    progress: Say | None = None,
) -> Analysis:
    """Measure a model (None: the built-in one) on the images in `data`; writes the report and its pictures into `out`.

    out: may be missing, with its parents. only: names of sections; all if empty. samples: the most images. A section
    that fails does not stop the others.

    Raises:
        InputError: a path or option that cannot be, a section that does not exist, or features that are not installed.
        AnalysisError: the images are not usable, or are fewer than a section needs that was asked for by name.
        OutputError: `out` cannot be written, has no room, has a report already (without `force`), or another analysis
            is writing there.
        LdmError: the model cannot be opened.
    """
    say = progress if progress is not None else lambda text: None
    data, out = check_path("data", data), check_path("out", out)
    chosen = choose_sections(only)
    count = _samples(samples, quick)
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed is {seed}; expected an integer from 0 to {MAX_SEED}")
    refuse_report_in(out, force=force)
    refuse_images_in(out, data)
    refuse_other_than_folders_in(out)
    refuse_unwritable(out)
    extractor = make_extractor()
    with contextlib.ExitStack() as held:
        with open_subject(source) as subject:
            pictures = load_pictures(data, count, subject.size, seed, backgrounds_of(subject), out)
            if pictures.too_small:
                say(f"images that are smaller than the model's, and left out: {pictures.too_small}")
            if only:
                for section in chosen:
                    require(section, pictures)
            held.enter_context(only_analysis(out))
            refuse_report_in(out, force=force)  # of an analysis that ended meanwhile
            facts = _facts(
                subject, pictures, {"samples": count, "seed": seed, "quick": quick, "features": extractor.name}
            )
            key = key_of(facts, pictures)
            study = Study(subject, pictures, extractor, seed, quick, open_kept(out, key, pictures), say)
            analysis = Analysis(facts, [_next(section, study, n, chosen, say) for n, section in enumerate(chosen, 1)])
        with ends_analysis(study.folder):
            _write(analysis, out)
        remove_others(out, key)
    return analysis


def _next(section: Section, study: Study, number: int, chosen: Sequence[Section], say: Say) -> SectionResult:
    """Measure a section, and say before all that it says which of the chosen ones it is."""
    study.say = _numbered(say, number, len(chosen))
    study.say(f"{section.name}: {section.title}")
    with ends_analysis(study.folder):
        return _measured(section, study)


def _numbered(say: Say, number: int, total: int) -> Say:
    return lambda text: say(f"section {number} of {total}: {text}")


def picture_file(section: Section, name: str) -> str:
    """Return the path of a picture's file in the folder of the report."""
    return f"{PICTURES}/{section.name}-{name}.png"


def choose_sections(names: Sequence[str]) -> list[Section]:
    """Return the sections of these names in the order of the report; all if there are none."""
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise InputError(f"there is no section {unknown[0]!r}; expected some of {', '.join(SECTIONS)}")
    return [section for name, section in SECTIONS.items() if not names or name in names]


def require(section: Section, pictures: Pictures) -> None:
    """Raise AnalysisError unless the images are what a section needs."""
    needs = section.needs
    if len(pictures) < needs.pictures:
        have_more = len(pictures) + pictures.too_small < pictures.available
        small = f", of which {pictures.too_small} are too small" if pictures.too_small else ""
        raise AnalysisError(
            f"{section.name} needs {needs.pictures} images, and {len(pictures)} were read of {pictures.available} in "
            f"{pictures.folder}{small}; give more{', or raise --samples' if have_more else ''}"
        )
    if needs.captions and not pictures.captions:
        raise AnalysisError(
            f"{section.name} needs captions, and the images in {pictures.folder} have none; write captions.jsonl "
            f"there, as docs/train.md has it"
        )


def backgrounds_of(subject: Subject) -> tuple[Background, ...]:
    """Return the backgrounds that the model was trained on, by the recipe that lies beside it; () without one."""
    for document in subject.checkpoint.documents:
        if document.name.lower() == "recipe.toml":
            return load_train_recipe(document).data.all_backgrounds
    return ()


def _samples(samples: int | None, quick: bool) -> int:
    if samples is None:
        return QUICK_SAMPLES if quick else SAMPLES
    if not 1 <= samples <= MAX_SAMPLES:
        raise InputError(f"samples is {samples}; expected an integer from 1 to {MAX_SAMPLES}")
    return samples


def _facts(subject: Subject, pictures: Pictures, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "tool": f"ldm-export {__version__}",
        "model": {"name": subject.name, "identity": subject.identity, "layout": subject.checkpoint.layout},
        "data": {
            "folder": pictures.folder.name,
            "images": len(pictures),
            "available": pictures.available,
            "cropped": pictures.cropped,
            "too_small": pictures.too_small,
            "size": list(pictures.size),
            "captions": bool(pictures.captions),
            "masks": pictures.alpha is not None,
        },
        "options": options,
        "machine": {"processor": cpu_names()[0], "threads": usable_cores()},
    }


def _measured(section: Section, study: Study) -> SectionResult:
    """Measure one section, or take what was kept of it."""
    kept = study.folder / f"{section.name}.json"
    found = _kept(section, kept)
    if found is not None:
        study.say(f"{section.name}: kept from before")
        return found
    if os.path.lexists(kept):
        study.say(f"what was kept in {kept} is damaged: {section.name} is measured again")
    started = time.monotonic()
    try:
        require(section, study.pictures)
        findings = section.measure(study)
        findings.require_finite()
    except OutputError:  # no section after this could keep what it makes
        raise
    except LdmError as error:
        return _failed(section, study, str(error), started)
    except Exception as error:  # a fault of the section: the others are still to be had, and its traceback
        if is_out_of_memory(error):
            return _failed(section, study, OUT_OF_MEMORY, started)
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        name, trace = f"{section.name}.traceback.txt", "".join(traceback.format_exception(error))
        study.keep(name, lambda file: file.write(trace.encode(errors="backslashreplace")))
        what = f"a fault of the program itself, {type(error).__name__}: {error}"
        return _failed(section, study, one_line(f"{what}; its traceback is in {study.folder / name}"), started)
    seconds = time.monotonic() - started
    text = json.dumps(sealed({"findings": findings.to_json(), "seconds": seconds}))
    study.keep(kept.name, lambda file: file.write(text.encode()))
    return SectionResult(section, findings, None, seconds)


def _failed(section: Section, study: Study, problem: str, started: float) -> SectionResult:
    study.say(f"{section.name}: failed: {problem}")
    return SectionResult(section, None, problem, time.monotonic() - started)


def _kept(section: Section, file: Path) -> SectionResult | None:
    """Return what was kept of a section; None without it, or if it is damaged: then it is measured again."""
    if not is_kept_file(file):
        return None
    try:
        facts = unsealed(parse_json(file.read_text(encoding="utf-8"), str(file)))
        return SectionResult(section, Findings.from_json(facts["findings"]), None, facts["seconds"])
    except (LdmError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _write(analysis: Analysis, out: Path) -> None:
    text = json.dumps(analysis.to_json(), indent=1, allow_nan=False) + "\n"
    page = render(analysis)
    make_folder(out / PICTURES)
    for each in analysis.results:
        for picture in [] if each.findings is None else each.findings.pictures:
            with atomic_file(out / picture_file(each.section, picture.name)) as temporary:
                temporary.write_bytes(picture.png)
    for name, content in ((REPORT, text), (PAGE, page)):
        with atomic_file(out / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
