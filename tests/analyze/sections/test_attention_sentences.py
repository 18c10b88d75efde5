"""Sentences on attention, made of known figures."""

import pytest

from ldm_export.analyze.sections.attention_overlap import _overlap_sentence
from ldm_export.analyze.sections.attention_pixels import _sentence
from ldm_export.analyze.statistics import Interval


def near(value: float) -> Interval:
    return Interval(value, value - 0.05, value + 0.05)


@pytest.mark.parametrize(
    ("map_", "grid", "another", "ranking", "said"),
    (
        (
            0.6,
            0.8,
            0.4,
            0.8,
            "from other images', by 50% of what the grid leaves room for. Within an image, the object",
        ),
        (0.8, 0.8, 0.4, 0.8, "from other images', as well as the grid allows. Within"),
        (0.8, 0.4, 0.4, 0.8, "from other images', as well as the grid allows. Within"),
        (0.5, 0.8, 0.5, 0.5, "does not tell the object from other images' for sure."),
        (0.2, 0.8, 0.4, 0.3, "other images' objects more than its own. The words are attended to around the object"),
    ),
)
def test_what_a_map_tells(map_: float, grid: float, another: float, ranking: float, said: str) -> None:
    found = {
        "overlap": near(map_),
        "overlap_grid": near(grid),
        "overlap_another": near(another),
        "ranking": near(ranking),
    }
    text = _overlap_sentence((8, 8), found, near(map_ - another))
    assert said in text
    assert text.startswith(
        f"At 8x8, the map of the first part of the caption overlaps the object of its image by {map_:.2f}"
    )


def test_the_control_says_what_the_grid_costs_and_where_attention_stands() -> None:
    found = {
        "overlap_pixels": near(0.8),
        "overlap_chance": near(0.2),
        "overlap_pixels_8x8": near(0.7),
        "overlap_pixels_4x4": near(0.5),
        "precision_8x8": near(0.01),
        "precision_4x4": near(-0.4),
    }
    text = _sentence(found, ["8x8", "4x4"])
    assert "overlaps the object by 0.80 (0.75 to 0.85); a map that knows nothing would by 0.20" in text
    assert "it is 0.70 at 8x8 and 0.50 at 4x4: that is what the grid alone costs" in text
    assert text.endswith("attention is about as exact at 8x8 (+0.01) and less exact at 4x4 (-0.40).")
    nothing = _sentence(found | {"overlap_pixels": near(0.22)}, ["8x8", "4x4"])
    assert nothing.endswith("So little is no control: what attention loses by the grid cannot be told with this model.")
