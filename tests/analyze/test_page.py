"""What the page shows of figures without an interval, and of names that are long or dangerous."""

import re

import pytest

from ldm_export.analyze.findings import Figure, Findings, Table
from ldm_export.analyze.page import LONGEST_NAME, render, shown_interval, shown_name
from ldm_export.analyze.run import Analysis, SectionResult
from ldm_export.analyze.section import Section

FACTS = {
    "tool": "ldm-export",
    "model": {"name": "m" * 300, "identity": "0" * 64},
    "data": {"images": 8, "available": 9, "cropped": 0, "too_small": 1, "size": (8, 8), "folder": "\u202e<b>"},
    "options": {"seed": 0, "quick": False, "features": "none"},
    "machine": {"threads": 1, "processor": "p"},
}


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (Figure("a", "A", 2.0, "", "counting", "None.", 1.0, 3.0, "made up"), "1 to 3 (made up)"),
        (Figure("a", "A", 2.0, "", "counting", "None.", interval="exact"), "exact"),
        (Figure("a", "A", 2.0, "", "counting", "None."), "no interval"),
        (Figure("a", "A", None, "", "counting", "None.", note="Too few."), ""),
    ],
)
def test_a_figure_says_its_interval_or_that_it_has_none(figure: Figure, shown: str) -> None:
    assert shown_interval(figure) == shown


def test_a_long_name_is_cut_in_its_middle() -> None:
    name = shown_name("a" * 100 + "z" * 100)
    assert len(name) == LONGEST_NAME and name.startswith("aaa") and name.endswith("zzz") and "…" in name
    assert shown_name("a" * LONGEST_NAME) == "a" * LONGEST_NAME


def test_the_page_has_limits_and_notes_and_escapes_names() -> None:
    findings = Findings(figures=[Figure("a", "A", None, "", "counting", "It says little.", note="Too few.")])
    section = Section("first", "First", "Is it so?", lambda study: findings)
    page = render(Analysis(FACTS, [SectionResult(section, findings, None, 1.0)]))
    assert "counting. It says little. Too few." in page
    assert "8 of 9 images of \\u202e&lt;b&gt;, 8 x 8 pixels, 1 left out as smaller than the model's" in page
    assert "m" * LONGEST_NAME not in page and "m" * (LONGEST_NAME // 2) + "…" in page


def test_words_of_a_table_are_not_broken_and_numbers_stand_under_their_heads() -> None:
    table = Table("t", "Times", ("component", "ms", "empty"), (("unet", None, None), ("decoder", 1.5, None)))
    findings = Findings(tables=[table])
    section = Section("first", "First", "Is it so?", lambda study: findings)
    page = render(Analysis(FACTS, [SectionResult(section, findings, None, 1.0)]))
    assert "<th>component</th><th class=number>ms</th><th>empty</th>" in page
    assert page.count('<div class="wide"><table') == page.count("</table></div>") == 1
    assert re.search(r"^table \{[^}]*overflow-wrap: break-word;", page, re.MULTILINE)


def test_the_page_tells_where_to_look_and_what_its_words_mean() -> None:
    page = render(Analysis(FACTS, []))
    for asked in ("Why does the autoencoder blur?", "Which compression ratio?", "GMAC", "log-SNR", "posterior"):
        assert asked in page
