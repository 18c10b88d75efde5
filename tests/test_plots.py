"""Plots show every value that they are given, and nothing outside of the program changes them."""

import re
import sys
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ldm_export import plots
from ldm_export.cli.main import verbs
from ldm_export.plots import draw_bars, draw_curves, draw_drift, image_grid

pytestmark = pytest.mark.slow  # imports matplotlib

CURVES = {"loss": [(100.0 * i, 1 / i) for i in range(1, 20)], "held_out_loss": [(500.0, 0.3), (1500.0, 0.2)]}
BARS = {"ort": {"text": 0.01, "20 steps": 1.0}, "openvino": {"text": 0.02, "20 steps": 1.5}}


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    """Saturated colours that cover more than a few pixels."""
    counted = image.getcolors(maxcolors=1 << 24)
    assert counted is not None
    return {colour for count, colour in counted if count > 40 and max(colour) - min(colour) > 80}


def test_curves_have_a_colour_each():
    image = draw_curves(CURVES, "step")
    assert image.mode == "RGB" and image.size == (720, 360)
    assert len(colours(image)) == 2


@pytest.mark.parametrize("points", [[(10.0, 0.5)], [(0.0, 1e-9), (1.0, 1e9)], [(0.0, 2.0), (1.0, 2.0)]])
def test_curves_of_any_positive_values_are_drawn(points):
    assert draw_curves({"loss": points}, "step").size == (720, 360)


def test_bars_are_as_long_as_their_values():
    image = draw_bars(BARS, "s")
    assert image.width == 720
    pixels = np.asarray(image).reshape(-1, 3)
    steps = (pixels == max(colours(image), key=lambda colour: (pixels == colour).all(1).sum())).all(1)
    rows = steps.reshape(image.height, image.width).sum(1)
    lengths = sorted({int(length) for length in rows if length > 100})
    assert lengths[-1] / lengths[0] == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize("name", ["x" * 5000, "\x07\u202eab\ud800", "\U0001f600 日本語", "a\nb", ""])
def test_bars_of_any_name_are_as_long_and_say_nothing_on_stderr(name, recwarn):
    """A long name left its bar no room, with a warning of a library; half a character was a fault of it."""
    image = draw_bars({f"{name}: first": {"share": 0.5}, f"{name}: second": {"share": 0.25}}, "")
    pixels = np.asarray(image).astype(int)
    rows = ((pixels[..., 2] - pixels[..., 0]) > 80).sum(axis=1)
    lengths = sorted({int(length) for length in rows if length > 100})
    assert lengths[-1] / lengths[0] == pytest.approx(2, rel=0.05) and lengths[-1] > 200
    assert not recwarn.list


def test_groups_of_long_names_that_begin_and_end_alike_have_bars_of_their_own():
    names = [f"{'x' * 100}{middle}{'y' * 100}" for middle in "ab"]
    alone, both = (draw_bars({name: {"share": 1.0} for name in chosen}, "") for chosen in (names[:1], names))
    assert both.height > alone.height and plots.shortened(names[0], 40) == plots.shortened(names[1], 40)
    blue = (np.asarray(both).astype(int)[..., 2] - np.asarray(both).astype(int)[..., 0] > 80).sum(axis=1) > 100
    assert np.count_nonzero(np.diff(blue.astype(int)) == 1) == 2


@pytest.mark.parametrize("longest", [1, 2, 7, 40])
def test_a_shortened_name_is_as_long_as_allowed(longest):
    assert len(plots.shortened("abc" * 100, longest)) == longest
    assert plots.shortened("\u202e\n", 99) == "\\u202e\\x0a"


def points_of(svg: bytes) -> list[float]:
    """Heights of the markers, in the file's units from the top."""
    return [float(y) for y in re.findall(r'<use [^>]*y="([\d.]+)" style="fill: #1f77b4', svg.decode())]


def test_the_drift_has_a_point_for_each_measured_step():
    svg = draw_drift("Latents", [140.0, None, 100.0], 60.0, log=False)
    high, low = points_of(svg)
    assert high < low and b"floor 60" in svg
    assert b"floor" not in draw_drift("Latents", [1e-7, 2e-7], None, log=True)


def test_the_same_numbers_give_the_same_file():
    assert draw_drift("Latents", [1e-7, 2e-7], None, log=True) == draw_drift("Latents", [1e-7, 2e-7], None, log=True)


def test_a_style_file_of_the_user_changes_nothing():
    import matplotlib

    before = draw_curves(CURVES, "step").tobytes()
    with matplotlib.rc_context({"axes.facecolor": "red", "text.usetex": True, "figure.dpi": 20}):
        assert draw_curves(CURVES, "step").tobytes() == before
        assert matplotlib.rcParams["axes.facecolor"] == "red"  # the caller's style is as it was


def test_a_dollar_sign_is_no_formula():
    assert draw_curves({r"$\frac{": [(0.0, 1.0), (1.0, 2.0)]}, r"$x_{").size == (720, 360)


def test_a_grid_holds_every_image_row_by_row():
    images = np.stack([np.full((3, 64, 64), value, np.float32) for value in (-1.0, 0.0, 1.0)])
    grid = np.asarray(image_grid(images, columns=2, captions=["a", "b", "c"]))
    assert grid.shape == (2 * (128 + 4 + 14), 2 * (128 + 4), 3)
    assert [int(grid[y, x, 0]) for y, x in ((60, 60), (60, 200), (200, 60))] == [0, 128, 255]


def test_a_caption_that_is_wider_than_its_image_is_cut_with_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        plots.ImageDraw.ImageDraw, "text", lambda pen, at, text, **kwargs: written.append(text), raising=True
    )
    image_grid(np.zeros((2, 3, 128, 128), np.float32), columns=2, captions=["short", "head shaking vertically" * 3])
    assert written[0] == "short"
    assert written[1].endswith("…") and "head shaking vertically".startswith(written[1].rstrip("…")[:10])
    assert plots.ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(written[1]) <= 128


def test_an_image_that_is_not_there_looks_like_the_ground_of_the_grid() -> None:
    grid = np.asarray(image_grid(np.full((1, 3, 128, 128), plots.EMPTY, np.float32), columns=1))
    assert set(grid.ravel().tolist()) == {plots.GROUND}


def test_bars_of_one_part_are_named_at_the_axis_and_show_their_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    axes: list[Any] = []

    def look(figure: Any) -> Image.Image:
        axes.extend(figure.axes)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(plots, "_image", look)
    draw_bars({"a": {"speed-up": 1.5}, "b": {"speed-up": 2.0}}, "times", {"a": (1.0, 3.0)})
    draw_bars({"a": {"load": 1.0, "run": 2.0}}, "s")
    one, several = axes
    assert one.get_xlabel() == "speed-up, times" and one.get_legend() is None
    assert several.get_xlabel() == "s" and [each.get_text() for each in several.get_legend().texts] == ["load", "run"]
    (span,) = one.collections
    assert span.get_segments()[0][:, 0].tolist() == [1.0, 3.0]
    assert one.get_xlim()[1] > 3.0


@pytest.mark.parametrize("arguments", [["plan", "--plot", "a.png"], ["bench", "--out", "a"]])
def test_a_plot_without_matplotlib_is_refused_before_any_work(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = CliRunner().invoke(verbs, arguments)
    assert result.exit_code == 1 and result.stdout == ""
    assert "needs matplotlib, which is not installed: pip install 'ldm-export[plot]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_numbers_along_logarithmic_axes_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formulas are not drawn, so matplotlib's own labels of such axes would show their markup."""
    found = []

    def look(figure: Any) -> Image.Image:
        (axes,) = figure.axes
        found.extend(axis.get_major_formatter()(100.0) for axis in (axes.xaxis, axes.yaxis))
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(plots, "_image", look)
    plots.draw_lines({"a": [(1, 10), (1000, 20)]}, "x", "y", log=True, log_x=True)
    assert found == ["100", "100"]
