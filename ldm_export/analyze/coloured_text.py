"""Captions whose words are coloured by a number, beside their images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ldm_runtime.image import to_levels

WIDTH, GAP, THUMBNAIL = 900, 8, 72  # pixels
PAPER, INK = (255, 255, 255), (20, 20, 20)
MORE, LESS = (38, 166, 91), (214, 69, 65)  # colours of the largest positive and negative number


@dataclass(frozen=True)
class Coloured:
    """An image, float (3, H, W) in [-1, 1], and the words of its caption, each with a number."""

    image: np.ndarray
    words: Sequence[tuple[str, float]]


def draw_coloured(rows: Sequence[Coloured]) -> Image.Image:
    """Draw each image with its words after it and their numbers under them; green is positive, red negative."""
    word_font, number_font = _font(16), _font(11)
    largest = max((abs(number) for row in rows for _, number in row.words), default=0.0) or 1.0
    line = 46
    placed = [_place(row.words, word_font, number_font) for row in rows]
    heights = [max(THUMBNAIL, (words[-1][1] + 1) * line if words else 0) + GAP for words in placed]
    page = Image.new("RGB", (WIDTH, sum(heights) + GAP), PAPER)
    pen = ImageDraw.Draw(page)
    top = GAP
    for row, words, height in zip(rows, placed, heights, strict=True):
        page.paste(Image.fromarray(to_levels(row.image[None])[0]).resize((THUMBNAIL, THUMBNAIL)), (GAP, top))
        for (left, number_of_line, width), (word, number) in zip(words, row.words, strict=True):
            y = top + number_of_line * line
            pen.rounded_rectangle((left, y, left + width, y + 26), 4, fill=shade(number / largest))
            pen.text((left + 5, y + 3), word, fill=INK, font=word_font)
            pen.text((left + 5, y + 28), f"{number:+.1f}", fill=INK, font=number_font)
        top += height
    return page


def shade(share: float) -> tuple[int, int, int]:
    """Return paper at 0, green at 1, red at -1, and what is between."""
    goal = MORE if share > 0 else LESS
    amount = min(abs(share), 1.0)
    red, green, blue = (round(paper + amount * (each - paper)) for paper, each in zip(PAPER, goal, strict=True))
    return red, green, blue


def _place(
    words: Sequence[tuple[str, float]], font: ImageFont.FreeTypeFont, small: ImageFont.FreeTypeFont
) -> list[tuple[int, int, int]]:
    """Return left edge, line and width of each word."""
    first = THUMBNAIL + 3 * GAP
    left, line, found = first, 0, []
    for word, number in words:
        width = int(max(font.getlength(word), small.getlength(f"{number:+.1f}"))) + 10
        if left + width > WIDTH - GAP and left > first:
            left, line = first, line + 1
        found.append((left, line, width))
        left += width + GAP
    return found


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that comes with matplotlib, which has the letters of most alphabets."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
