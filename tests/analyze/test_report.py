"""report.json is as docs/analyze.md describes it, and the documentation's figures are its report's."""

import json
import re
from pathlib import Path

import pytest

from ldm_export.analyze.findings import Figure, Findings, Picture, Table
from ldm_export.analyze.run import Analysis, SectionResult
from ldm_export.analyze.section import Section
from scripts import analysis_pages

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "analyze.md").read_text(encoding="utf-8")


def small_report() -> dict:
    findings = Findings(
        ["It is so."],
        [
            Figure("bits", "Bits", 12345.6, "bits", "counting", "None.", 12000.0, 12600.0, "made up"),
            Figure("none", "None", None, "bits", "counting", "None.", note="Too few."),
            Figure("plain", "Plain", 0.5, "", "counting", "None."),
        ],
        [Table("rows", "Rows", ("a", "b"), (("x", 1.5), ("y", None)))],
        [Picture("dots", "Dots", b"png")],
    )
    section = Section("first", "First", "Is it so?", lambda study: findings)
    facts = {"model": {"name": "small", "size": [64, 32]}}
    return Analysis(facts, [SectionResult(section, findings, None, 1.0)]).to_json()


def keys_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for each in value.values() for key in keys_of(each)}
    return {key for each in value for key in keys_of(each)} if isinstance(value, list) else set()


def test_every_key_of_a_report_is_in_the_guide() -> None:
    documented = set(re.findall(r"`([a-z_]+)`", GUIDE.partition("## report.json")[2]))
    report = json.loads(analysis_pages.REPORT.read_text(encoding="utf-8"))
    assert keys_of(report) - set(report["sections"]) <= documented
    assert keys_of(small_report()) - {"first"} <= documented


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("first.bits", "12,346 bits (12,000 to 12,600)"),
        ("first.none", "no value (too few)"),
        ("first.plain", "0.5"),
        ("report.model.name", "small"),
        ("report.model.size", "64x32"),
        ("first.sentences", "\n\n- It is so.\n\n"),
        ("first.table.rows", "\n\n| a | b |\n| --- | --- |\n| x | 1.5 |\n| y |  |\n\n"),
    ],
)
def test_a_place_of_a_page_takes_what_the_report_says(place: str, shown: str) -> None:
    text = f"before <!--={place}-->old\ntext<!--/--> after <!--={place}--><!--/-->"
    filled = analysis_pages.filled(text, small_report())
    assert filled == f"before <!--={place}-->{shown}<!--/--> after <!--={place}-->{shown}<!--/-->"
    assert analysis_pages.filled(filled, small_report()) == filled


def test_a_place_that_the_report_does_not_have_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"first\.other"):
        analysis_pages.filled("<!--=first.other--><!--/-->", small_report())


@pytest.mark.parametrize("name", analysis_pages.PAGES)
def test_no_figure_of_the_documentation_was_typed(name: str) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    report = json.loads(analysis_pages.REPORT.read_text(encoding="utf-8"))
    assert analysis_pages.filled(page, report) == page, "run scripts/analysis_pages.py"


def typed_figures(page: str) -> list[str]:
    """Return the lines of a page with a number that is not of a report, a formula, a quotation, a link or a year."""
    plain = re.sub(r"<!--=.*?<!--/-->|`[^`]*`|\"[^\"]*\"|\]\([^)]*\)|, \d{4}\)|float32", "", page, flags=re.DOTALL)
    return [line for line in plain.splitlines() if re.search(r"\d", line)]


def test_no_figure_of_the_theory_was_typed() -> None:
    assert typed_figures((ROOT / "docs" / "theory.md").read_text(encoding="utf-8")) == []
    for typed in ("It is 42 dB.", "r² is 2,304", "<!--=a.b-->1<!--/--> of 20"):
        assert typed_figures(typed) != []
    assert typed_figures('`f² = 64`, <!--=a.b-->1\n2<!--/--> (Kong et al., 2023), "16 times"') == []


def test_the_pictures_of_the_documentation_are_all_that_it_shows() -> None:
    assert {path.name for path in analysis_pages.PICTURES.iterdir()} == set(
        analysis_pages.pictures_of(analysis_pages.PAGES)
    )
