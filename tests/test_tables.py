"""Tables of strings, for a terminal and as Markdown."""

import pytest

from ldm_export.tables import NONE, markdown_table, spread, text_table

HEAD, ROWS = ["graph", "cases", "verdict"], [["unet", "12", "passed"], ["vae_decoder", "7", "1 failed"]]


def test_columns_are_as_wide_as_their_widest_cell_and_lines_end_at_their_text():
    assert text_table(HEAD, ROWS, "<><") == [
        "graph        cases  verdict",
        "unet            12  passed",
        "vae_decoder      7  1 failed",
    ]


def test_a_table_without_rows_is_its_head():
    assert text_table(HEAD, [], "<><") == ["graph  cases  verdict"]


def test_a_markdown_table_aligns_by_its_rule():
    assert markdown_table(HEAD, ROWS[:1], "<><") == (
        "| graph | cases | verdict |\n| --- | ---: | --- |\n| unet | 12 | passed |"
    )
    assert markdown_table(["a"], []) == "| a |\n| --- |"


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="shorter|longer"):
        text_table(HEAD, [["unet"]], "<><")


@pytest.mark.parametrize(
    ("values", "scale", "form", "written"),
    [
        ([3.0, 1.0, 2.0], 1.0, "", "2 (1 to 3)"),
        ([1234.5, 0.12345], 1.0, "", "617 (0.123 to 1234)"),
        ([1.0, 2.5], 1e3, ".1f", "1750.0 (1000.0 to 2500.0)"),
        ([], 1.0, ".2f", NONE),
    ],
)
def test_repeated_measurements_are_their_median_with_its_ends(values, scale, form, written):
    assert spread(values, scale, form) == written
