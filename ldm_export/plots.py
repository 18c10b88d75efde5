"""Curves, bars and grids of pictures, drawn with Pillow alone."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ldm_runtime.sampling.plan import Plan

_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


def draw_curves(curves: dict[str, list[tuple[float, float]]], width: int = 720, height: int = 360) -> Image.Image:
    """Curves of positive values over steps, on a logarithmic vertical axis."""
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = 70, 12, width - 12, height - 30
    logs = {name: [(x, math.log10(max(y, 1e-12))) for x, y in points] for name, points in curves.items()}
    everything = [point for points in logs.values() for point in points]
    last = max(max(x for x, _ in everything), 1)
    low, high = min(y for _, y in everything) - 0.02, max(y for _, y in everything) + 0.02
    pen.rectangle((left, top, right, bottom), outline="#888888")
    for part in range(5):
        level = low + (high - low) * part / 4
        y = bottom - (bottom - top) * part / 4
        pen.line((left, y, right, y), fill="#dddddd")
        pen.text((6, y - 6), f"{10**level:.4g}", fill="black")
        pen.text((left + (right - left) * part / 4 - 12, bottom + 8), f"{last * part / 4:.0f}", fill="black")
    for index, (name, points) in enumerate(logs.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        places = [
            (left + (right - left) * x / last, bottom - (bottom - top) * (y - low) / (high - low)) for x, y in points
        ]
        pen.line(places, fill=colour, width=2)
        pen.text((right - 130, top + 6 + 14 * index), name, fill=colour)
    return image


def draw_plan(plan: Plan) -> Image.Image:
    """Draw the noise level and the timestep of each row of a sampling plan."""
    return draw_curves(
        {
            "sigma / alpha": [(float(index), row.sigma / max(row.alpha, 1e-6)) for index, row in enumerate(plan.rows)],
            "timestep + 1": [(float(index), row.timestep + 1.0) for index, row in enumerate(plan.rows)],
        }
    )


def draw_bars(groups: dict[str, dict[str, float]], unit: str, width: int = 720) -> Image.Image:
    """Horizontal bars of positive values: one group for each name, in it one stacked bar of named parts."""
    line, left, right = 26, 150, width - 110
    names = list(dict.fromkeys(part for parts in groups.values() for part in parts))
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}
    longest = max(sum(parts.values()) for parts in groups.values())
    image = Image.new("RGB", (width, line * len(groups) + 44), "white")
    pen = ImageDraw.Draw(image)
    for row, (group, parts) in enumerate(groups.items()):
        y, x = 8 + row * line, float(left)
        pen.text((8, y + 4), group, fill="black")
        for name, value in parts.items():
            end = x + (right - left) * value / longest
            pen.rectangle((x, y, end, y + line - 8), fill=colours[name])
            x = end
        pen.text((x + 6, y + 4), f"{sum(parts.values()):.3g} {unit}", fill="black")
    for index, name in enumerate(names):
        pen.text((left + 130 * index, line * len(groups) + 20), name, fill=colours[name])
    return image


def picture_grid(pictures: np.ndarray, columns: int, captions: Sequence[str] | None = None) -> Image.Image:
    """One image of many: pictures float (N, 3, H, W) in [-1, 1], row by row, each with its caption under it."""
    count, _, height, width = pictures.shape
    scale = max(1, 128 // width)
    line = 0 if captions is None else 14
    cell_width, cell_height = width * scale + 4, height * scale + 4 + line
    rows = math.ceil(count / columns)
    grid = Image.new("RGB", (columns * cell_width, rows * cell_height), "#444444")
    pen = ImageDraw.Draw(grid)
    levels = np.rint((np.clip(pictures, -1, 1) + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
    for index in range(count):
        x, y = (index % columns) * cell_width + 2, (index // columns) * cell_height + 2
        tile = Image.fromarray(levels[index]).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        grid.paste(tile, (x, y))
        if captions is not None:
            pen.text((x, y + height * scale), captions[index][: cell_width // 6], fill="white")
    return grid
