"""Curves and bars by matplotlib, which is an extra, and grids of images."""

import contextlib
import importlib.util
import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ldm_runtime.errors import InputError, one_line
from ldm_runtime.image import to_levels
from ldm_runtime.sampling.plan import Plan

Points = Sequence[tuple[float, float]]

DOTS_PER_INCH = 100
GROUND = 0x44  # grey level between the images of a grid
MOST_INSIDE = 3  # lines whose legend finds room among them
EMPTY = GROUND / 127.5 - 1  # value of an image that is not there: it looks like the ground
LONGEST_NAME = 48  # characters beside a bar
# Text is drawn as it is: a dollar sign begins no formula. The same numbers give the same file.
_STYLE = {"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "ldm-export", "font.size": 9.0}


def has_matplotlib() -> bool:
    """Tell whether plots can be drawn here, without importing what draws them."""
    return importlib.util.find_spec("matplotlib") is not None


def require_matplotlib(plot: str) -> None:
    """Raise InputError if the file `plot` that was asked for cannot be drawn here."""
    if not has_matplotlib():
        raise InputError(f"{plot} needs matplotlib, which is not installed: pip install 'ldm-export[plot]'")


def draw_curves(curves: Mapping[str, Points], x_label: str) -> Image.Image:
    """Draw named curves of positive values on a logarithmic vertical axis, 720 x 360 pixels."""
    with _figure(7.2, 3.6) as figure:
        axes = figure.add_subplot()
        for name, points in curves.items():
            axes.plot(*zip(*points, strict=True), label=name)
        _make_logarithmic(axes)
        _count_along(axes, x_label)
        axes.legend()
        return _image(figure)


def draw_lines(
    lines: Mapping[str, Points], x_label: str, y_label: str, *, log: bool = False, log_x: bool = False
) -> Image.Image:
    """Draw named lines with a marker at each point, 720 x 360 pixels; `log` scales the vertical axis."""
    with _figure(7.2, 3.6) as figure:
        axes = figure.add_subplot()
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        if log:
            _make_logarithmic(axes)
        if log_x:
            axes.set_xscale("log")
            _number_plainly(axes.xaxis)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(color="#dddddd")
        if len(lines) > MOST_INSIDE:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        else:
            axes.legend()
        return _image(figure)


def to_png(image: Image.Image) -> bytes:
    """Return an image as the content of a PNG file."""
    file = io.BytesIO()
    image.save(file, format="png")
    return file.getvalue()


def draw_plan(plan: Plan) -> Image.Image:
    """Draw the noise level and the timestep of each row of a sampling plan."""
    curves = {
        "sigma / alpha": [(float(index), row.sigma / max(row.alpha, 1e-6)) for index, row in enumerate(plan.rows)],
        "timestep + 1": [(float(index), row.timestep + 1.0) for index, row in enumerate(plan.rows)],
    }
    return draw_curves(curves, "evaluation")


def draw_bars(
    groups: Mapping[str, Mapping[str, float]], unit: str, spans: Mapping[str, tuple[float, float]] | None = None
) -> Image.Image:
    """Draw a horizontal bar for each group, stacked of its named parts, 720 pixels wide.

    Groups that come from a file may have any name: a long one is cut in its middle. A single part names the axis, in
    place of a legend. spans: the intervals of totals, of the groups that have one.
    """
    names = list(dict.fromkeys(part for parts in groups.values() for part in parts))
    with _figure(7.2, 1.1 + 0.3 * len(groups)) as figure:
        axes = figure.add_subplot()
        places, left = np.arange(len(groups)), np.zeros(len(groups))
        for name in names:
            widths = np.array([parts.get(name, 0.0) for parts in groups.values()])
            axes.barh(places, widths, left=left, label=name)
            left += widths
        axes.set_yticks(places, [shortened(name, LONGEST_NAME) for name in groups])
        ends = left.copy()
        for place, (group, total) in enumerate(zip(groups, left, strict=True)):
            if spans is not None and group in spans:
                low, ends[place] = spans[group]
                axes.hlines(place, low, ends[place], color="black", linewidth=1)
            shown, at = f"{total:.3g} {unit}".rstrip(), (max(total, ends[place]), place)
            axes.annotate(shown, at, (4, 0), textcoords="offset points", va="center")
        axes.invert_yaxis()
        axes.set_xlim(0, 1.2 * max(left.max(), ends.max()))
        if len(names) == 1:
            axes.set_xlabel(f"{names[0]}, {unit}" if unit else names[0])
        else:
            axes.set_xlabel(unit)
            axes.legend(ncols=len(names), loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
        return _image(figure)


def draw_drift(title: str, values: Sequence[float | None], floor: float | None, *, log: bool) -> bytes:
    """Draw a value for each step as an SVG file; None leaves a gap, `floor` is a dashed line."""
    with _figure(4.6, 2.4) as figure:
        axes = figure.add_subplot()
        steps = range(1, len(values) + 1)
        axes.plot(steps, [math.nan if value is None else value for value in values], marker="o", markersize=3)
        if floor is not None:
            axes.axhline(floor, color="#c62828", linestyle="--", label=f"floor {floor:.0f}")
            axes.legend()
        if log:
            _make_logarithmic(axes)
        axes.set_title(title)
        _count_along(axes, "step")
        return _svg(figure)


def shortened(name: str, longest: int) -> str:
    """Return a name that came from a file on one line, cut in the middle where it has over `longest` characters."""
    text = one_line(name)
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[len(text) + longest // 2 - longest + 1 :]}"


def _make_logarithmic(axes: Any) -> None:
    """Scale the vertical axis by the logarithm."""
    axes.set_yscale("log")
    _number_plainly(axes.yaxis)


def _number_plainly(axis: Any) -> None:
    """Write plain numbers at the ticks of a logarithmic axis."""
    axis.get_major_locator().set_params(subs=(1, 2, 5))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def _count_along(axes: Any, label: str) -> None:
    """Label the horizontal axis, whose values are integers, and draw a grid."""
    axes.set_xlabel(label)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.grid(color="#dddddd")


@dataclass(frozen=True)
class FrontierPoint:
    """A configuration in a plot.

    time: in what the axis is labelled with. psnr: in dB beside the exact image, None: they are equal. file_bytes: None
    where they are not known.
    """

    name: str
    time: float
    psnr: float | None
    file_bytes: int | None = None


def on_frontier(places: Sequence[tuple[float, float | None]]) -> list[bool]:
    """Tell of each time and PSNR (None: equal images) whether no other is as good in both and better in one."""
    known = [(time, math.inf if psnr is None else psnr) for time, psnr in places]
    return [
        not any(other != place and other[0] <= place[0] and other[1] >= place[1] for other in known) for place in known
    ]


def draw_frontier(points: Sequence[FrontierPoint], x_label: str) -> Image.Image:
    """Draw time and PSNR of at least one configuration, those with equal images along the top, 720 pixels wide.

    The area of a point is the size of its files. The first one and those on the frontier have a number and below the
    plot a name, the others are grey. The frontier is a line of steps: the best that there is in a time.
    """
    known = [point.psnr for point in points if point.psnr is not None]
    top = 5.0 * math.ceil(max(known, default=35.0) / 5.0 + 1.0)  # where equal images are, in dB
    is_best = on_frontier([(point.time, point.psnr) for point in points])
    named = [point for place, point in enumerate(points) if place == 0 or is_best[place]]
    has_others = len(named) < len(points)
    with _figure(7.2, 3.2 + 0.18 * math.ceil((len(named) + has_others) / 2)) as figure:
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        axes.grid(color="#dddddd")
        best = sorted((point.time, _height(point, top)) for point, on in zip(points, is_best, strict=True) if on)
        axes.step(*zip(*best, strict=True), where="post", color="#1f77b4", linewidth=1)
        colours = [
            "#1f77b4" if on else "#555555" if point in named else "#b0bec5"
            for point, on in zip(points, is_best, strict=True)
        ]
        _put_points(axes, points, colours, top)
        _put_names(axes, named, top, has_others=has_others)
        axes.set_xlim(0, 1.08 * max(point.time for point in points))
        axes.set_xlabel(x_label)
        _scale_likeness(axes, min(known, default=top), top)
        return _image(figure)


def _put_points(axes: Any, points: Sequence[FrontierPoint], colours: Sequence[str], top: float) -> None:
    """Draw each point, as large as its files."""
    largest = max(point.file_bytes or 0 for point in points)
    for point, colour in zip(points, colours, strict=True):
        share = (point.file_bytes or 0) / largest if largest else 0.3
        axes.scatter(point.time, _height(point, top), s=12 + 110 * share, color=colour, zorder=3, linewidth=0)


def _put_names(axes: Any, points: Sequence[FrontierPoint], top: float, *, has_others: bool) -> None:
    """Write a number above each point, and its name below the plot; has_others: there are grey ones without."""
    for number, point in enumerate(points, 1):
        place = (point.time, _height(point, top))
        axes.annotate(f"{number}", place, (0, 8), textcoords="offset points", ha="center", weight="bold")
        axes.plot([], [], label=f"{number}  {shortened(point.name, LONGEST_NAME)}")
    if has_others:
        axes.plot([], [], label="grey: another is as fast and as near")
    below = {"loc": "upper left", "bbox_to_anchor": (0, -0.18), "ncols": 2}
    axes.legend(**below, handlelength=0, handletextpad=0, frameon=False)


def _scale_likeness(axes: Any, least: float, top: float) -> None:
    """Scale the vertical axis from the `least` PSNR to the `top`, where equal images are."""
    lowest = 5.0 * math.floor(least / 5.0)
    step = 5.0 * math.ceil((top - lowest) / 40.0) or 5.0
    ticks = np.arange(lowest, top - 1.0, step)
    axes.set_yticks([*ticks, top], [*(f"{tick:g}" for tick in ticks), "equal"])
    axes.set_ylim(lowest - 0.08 * (top - lowest + 5.0), top + 0.15 * (top - lowest + 5.0))
    axes.set_ylabel("PSNR of the worst image, dB")


def _height(point: FrontierPoint, top: float) -> float:
    return top if point.psnr is None else point.psnr


@contextlib.contextmanager
def _figure(width: float, height: float) -> Iterator[Any]:
    """Make a figure of a size in inches, by matplotlib's defaults: files of the user and the folder set nothing."""
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", _STYLE]):
        yield Figure((width, height), dpi=DOTS_PER_INCH, layout="constrained")


def _image(figure: Any) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():  # a letter that the font lacks is a box in the image, which says enough
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _svg(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def image_grid(images: np.ndarray, columns: int, captions: Sequence[str] | None = None) -> Image.Image:
    """Lay out many images as one: float (N, 3, H, W) in [-1, 1], row by row, each with its caption under it.

    A caption that is wider than its image ends in "…".
    """
    count, _, height, width = images.shape
    scale = max(1, 128 // width)
    line = 0 if captions is None else 14
    cell_width, cell_height = width * scale + 4, height * scale + 4 + line
    rows = math.ceil(count / columns)
    grid = Image.new("RGB", (columns * cell_width, rows * cell_height), (GROUND,) * 3)
    pen = ImageDraw.Draw(grid)
    levels = to_levels(images)
    for index in range(count):
        x, y = (index % columns) * cell_width + 2, (index // columns) * cell_height + 2
        tile = Image.fromarray(levels[index]).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        grid.paste(tile, (x, y))
        if captions is not None:
            pen.text((x, y + height * scale), _cut(captions[index], width * scale, pen), fill="white")
    return grid


def _cut(text: str, width: int, pen: ImageDraw.ImageDraw) -> str:
    """Return a text that is as wide in pixels as there is room, or its beginning."""
    if pen.textlength(text) <= width:
        return text
    while text and pen.textlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
