"""Tables hold medians, ratios within a round and reasons, and go between the marks of the page."""

import pytest

from benchmarks.start.contenders import Drawing
from benchmarks.start.measure import Measured, Row
from benchmarks.start.tables import BEGIN, END, PAGE, render, write_page
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import builtin_package

OWN = Measured(0.1, 1.0, 0.1, 3_000_000, {"ldm": 1_000_000, "libldm.so": 500_000})
OTHER = Measured(None, 3.0, 0.1, 3_000_000_000, {})


@pytest.fixture
def drawing():
    return Drawing(open_package(builtin_package()), (128, 64), 4, 2)


def test_ratios_are_within_a_round(drawing):
    rows = render(drawing, [Row("a", 1_000_000, [OWN, OWN]), Row("b", 1_000_000, [OTHER, OTHER])]).splitlines()
    assert rows[0] == (
        "emoji-128, 128x64 pixels, 4 steps of `euler`, guidance 3, 2 threads; weights of 1 MB; 2 rounds:"
    )
    assert rows[-2] == "| a | 0.1 (0.1 to 0.1) | 1 (1 to 1) | 3 (3 to 3) | 2 (2 to 2) | 1.5 | 1.00 |"
    assert rows[-1] == "| b | – | 3 (3 to 3) | 3000 (3000 to 3000) | 2999 (2999 to 2999) | – | 3.00 |"


def test_a_peak_below_the_weights_has_all_of_its_digits(drawing):
    rows = render(drawing, [Row("a", 1_349_000_000, [OWN])]).splitlines()
    assert rows[-1] == "| a | 0.1 (0.1 to 0.1) | 1 (1 to 1) | 3 (3 to 3) | -1346 (-1346 to -1346) | 1.5 | 1.00 |"


def test_who_is_not_measured_has_the_reason(drawing):
    rows = render(drawing, [Row("a", 0, [OWN]), Row("b", 0, [], "no `--sd-cli`")]).splitlines()
    assert rows[-1] == "| b | not measured: no `--sd-cli` |  |  |  |  |  |"


def test_the_page_keeps_what_is_around_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n\n{END}\nafter\n", encoding="utf-8")
    write_page("new", page)
    assert page.read_text(encoding="utf-8") == f"before\n\n{BEGIN}\nnew\n\n{END}\nafter\n"


def test_the_documentation_has_the_marks_once():
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)
