"""The frontier: who is on it, and that its table, files and plot say of every row what was measured."""

import csv
import io

import numpy as np
import pytest

from ldm_export.tune import frontier
from ldm_export.tune.frontier import Row, best_rows

AUTO = Row("exact, auto", True, 0.5, 0.4, 192_000_000, 38_000_000, 4e-7)
EXACT = Row("exact, openvino", True, 0.4, 0.6, 361_000_000, 40_000_000, 4e-7)
BF16 = Row("bf16", False, 0.3, 0.6, 300_000_000, 40_000_000, 2e-3, 38.2, 0.991)
INT8 = Row("int8", False, 0.2, 0.6, 250_000_000, 12_000_000, 3e-2, 31.25, 0.95)
SLOW = Row("int4", False, 0.45, 0.6, 250_000_000, 6_000_000, 9e-2, 25.0, 0.9)
BROKEN = Row("caching", False, None, trouble="openvino does not run it")
ROWS = [AUTO, EXACT, BF16, INT8, SLOW, BROKEN]


def test_on_the_frontier_is_what_none_beats():
    assert best_rows(ROWS) == [EXACT, BF16, INT8]


def test_of_two_that_are_alike_both_are_on_it_and_a_little_more_error_takes_one_off():
    twin = Row("twin", False, BF16.seconds, psnr=BF16.psnr, ssim=0.9)
    assert best_rows([BF16, twin]) == [BF16, twin]
    assert best_rows([BF16, Row("twin", False, BF16.seconds, psnr=38.1, ssim=0.9)]) == [BF16]


def test_the_table_has_every_row_with_its_ratio_and_its_trouble():
    lines = frontier.table(ROWS).splitlines()
    assert lines[1].split() == ["exact,", "auto", "0.5", "1.00", "0.40", "192", "38", "4.0e-07", "exact"]
    assert lines[4].split() == ["*", "int8", "0.2", "0.40", "0.60", "250", "12", "3.0e-02", "31.2", "0.950"]
    assert lines[6].split() == ["caching"] and lines[7].strip() == "caching: openvino does not run it"
    assert len(lines) == 1 + len(ROWS) + 1


def test_rows_whose_turn_did_not_come_are_one_line_of_the_table_and_all_in_the_csv():
    waiting = [Row(f"waiting {index}", False, None, psnr=40.0, trouble=frontier.NO_TURN) for index in range(20)]
    lines = frontier.table([*ROWS, *waiting]).splitlines()
    assert lines[:-1] == frontier.table(ROWS).splitlines()
    assert lines[-1].strip() == "20 more: the time was over before its turn"
    assert frontier.to_csv([*ROWS, *waiting]).count("the time was over before its turn") == 20


def test_a_lossy_row_that_drew_equal_images_is_not_called_exact():
    line = frontier.table([Row("bf16", False, 0.3, relative_rms=1e-3, psnr=None, ssim=1.0)]).splitlines()[1]
    assert line.split()[-2:] == ["equal", "1.000"] and "exact" not in line


def test_the_csv_has_what_the_rows_have():
    rows = list(csv.DictReader(io.StringIO(frontier.to_csv(ROWS))))
    assert [row["configuration"] for row in rows] == [row.configuration for row in ROWS]
    assert [row["is_best"] for row in rows] == [str(row in best_rows(ROWS)) for row in ROWS]
    assert [row["psnr"] for row in rows] == ["" if row.psnr is None else str(row.psnr) for row in ROWS]
    assert frontier.to_csv([]) == "\n" and frontier.table([]).startswith("  configuration")


BLUE, GREY = (31, 119, 180), (176, 190, 197)


def places(rows: list[Row], colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of pixels of a colour."""
    return np.argwhere((np.asarray(frontier.draw(rows)) == colour).all(axis=2))


@pytest.mark.slow
def test_the_plot_has_a_point_for_every_configuration_that_was_measured():
    image = frontier.draw(ROWS)
    assert image.mode == "RGB" and image.width == 720 and 300 < image.height < 500
    assert places(ROWS, GREY).size > 0 and places(ROWS[:4], GREY).size == 0
    np.testing.assert_array_equal(np.asarray(frontier.draw(ROWS)), np.asarray(frontier.draw(ROWS[:-1])))


@pytest.mark.slow
def test_a_lossy_one_that_drew_equal_images_is_in_the_plot_beside_the_exact_ones():
    equal = Row("steps", False, 0.45, psnr=None, ssim=1.0)
    exact = places([AUTO, EXACT, Row("exact, c", True, 0.45)], GREY)
    np.testing.assert_array_equal(places([AUTO, EXACT, equal], GREY), exact)
    assert exact.size > 0 and places([AUTO, EXACT, Row("unknown", False, 0.45)], GREY).size == 0


@pytest.mark.slow
def test_a_slower_one_lies_to_the_right_and_a_worse_one_below():
    early, late = (
        places([AUTO, EXACT, BF16, Row("a", False, time, psnr=30.0, ssim=0.9)], GREY) for time in (0.32, 0.38)
    )
    assert late[:, 1].mean() > early[:, 1].mean() + 20
    high, low = (
        places([AUTO, EXACT, BF16, INT8, Row("a", False, 0.35, psnr=psnr, ssim=0.9)], GREY) for psnr in (36.0, 32.0)
    )
    assert low[:, 0].mean() > high[:, 0].mean() + 20


@pytest.mark.slow
@pytest.mark.parametrize("rows", [[AUTO], [AUTO, EXACT], [AUTO, Row("x" * 500, False, 1e-6, psnr=3.0, ssim=0.1)]])
def test_any_rows_can_be_drawn(rows, recwarn):
    assert places(rows, BLUE).size > 0
    assert not recwarn.list
