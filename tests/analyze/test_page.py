"""What the page shows of figures without an interval, and of names that are long or dangerous."""

import re

import pytest

from ldm_export.analyze.findings import Figure, Findings, Picture, Table
from ldm_export.analyze.page import LONGEST_CELL, LONGEST_NAME, render, shown_interval, shown_name
from ldm_export.analyze.run import Analysis, SectionResult
from ldm_export.analyze.section import Section
from ldm_runtime.errors import UNPRINTABLE

FACTS: dict = {
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


def page_of(findings: Findings, **data: object) -> str:
    section = Section("first", "First", "Is it so?", lambda study: findings)
    facts = {**FACTS, "data": {**FACTS["data"], **data}}
    return render(Analysis(facts, [SectionResult(section, findings, None, 1.0)]))


def test_the_page_has_limits_and_notes_and_escapes_names() -> None:
    findings = Findings(figures=[Figure("a", "A", None, "", "counting", "It says little.", note="Too few.")])
    page = page_of(findings)
    assert "counting. It says little. Too few." in page
    assert "8 of 9 images of \\u202e&lt;b&gt;, 8 x 8 pixels, 1 left out as smaller than the model's" in page
    assert "m" * LONGEST_NAME not in page and "m" * (LONGEST_NAME // 2) + "…" in page


def test_words_of_a_table_are_not_broken_and_numbers_stand_under_their_heads() -> None:
    table = Table("t", "Times", ("component", "ms", "empty"), (("unet", None, None), ("decoder", 1.5, None)))
    findings = Findings(tables=[table])
    page = page_of(findings)
    assert "<th>component</th><th class=number>ms</th><th>empty</th>" in page
    assert page.count('<div class="wide"><table') == page.count("</table></div>") == 1
    assert re.search(r"^table \{[^}]*overflow-wrap: break-word;", page, re.MULTILINE)


def test_the_page_tells_where_to_look_and_what_its_words_mean() -> None:
    page = render(Analysis(FACTS, []))
    for asked in ("Why does the autoencoder blur?", "Which compression ratio?", "GMAC", "log-SNR", "posterior"):
        assert asked in page


HOSTILE = "\u202e\x00\x1b\u2028<script>alert(1)</script>\ufeff"


def test_nothing_of_a_caption_turns_or_hides_the_pages_own_text() -> None:
    """Captions and labels stand in sentences, warnings, figures, tables and below pictures."""
    findings = Findings(
        [HOSTILE],
        [Figure(HOSTILE, HOSTILE, 1.0, HOSTILE, HOSTILE, HOSTILE, 0.0, 2.0, HOSTILE, HOSTILE)],
        [Table("a", HOSTILE, (HOSTILE,), ((HOSTILE,),), HOSTILE)],
        [Picture("a", HOSTILE, b"png")],
        [HOSTILE],
    )
    page = page_of(findings)
    assert not UNPRINTABLE.search(page) and "<script" not in page
    assert page.count("\\u202e\\x00\\x1b\\u2028&lt;script&gt;alert(1)&lt;/script&gt;\\ufeff") == 14


def test_a_family_emoji_stays_whole() -> None:
    assert "\U0001f468\u200d\U0001f469\u200d\U0001f467" in page_of(
        Findings(["\U0001f468\u200d\U0001f469\u200d\U0001f467"])
    )


def test_a_caption_of_thousands_of_letters_is_cut_in_its_cell() -> None:
    page = page_of(Findings(tables=[Table("a", "A", ("caption",), (("x" * 4096 + "end",),))]))
    assert "x" * LONGEST_CELL not in page and "xend</td>" in page


def test_words_of_tables_are_not_broken_and_wide_tables_scroll() -> None:
    """With overflow-wrap: anywhere a browser makes a narrow column one letter wide."""
    table = Table("a", "A", ("word",), (("standard",),))
    page = page_of(Findings(figures=[Figure("a", "A", 1.0, "", "counting", "None.")], tables=[table]))
    assert "anywhere" not in page and page.count("<table") == page.count('<div class="wide"><table') == 2
