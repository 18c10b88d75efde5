"""The section on a linear autoencoder, which keeps what is larger than its cells and nothing else."""

import numpy as np
import pytest

from ldm_export.analyze.findings import Findings
from ldm_export.analyze.frequency import Bands
from ldm_export.analyze.sections.preservation import Detail, bands_sentence, detail_levels, measure
from ldm_export.analyze.sections.preservation_labels import label_levels, label_sentence
from ldm_export.analyze.statistics import Interval
from tests.analyze.linear_study import CELL, LinearSubject, draw_levels, make_study

pytestmark = pytest.mark.slow  # each measures a section

COUNT = 80


def found(tmp_path, levels: np.ndarray, **facts) -> Findings:
    findings = measure(make_study(tmp_path, levels, LinearSubject(0.1), **facts))
    findings.require_finite()
    return findings


def coloured(colours: np.ndarray) -> np.ndarray:
    """Return smooth images of these mean colours, (N, 3), with some noise in their squares."""
    levels = draw_levels(len(colours)).astype(np.float64) - 128
    return np.clip(128 + 0.3 * levels + colours[:, None, None], 0, 255).astype(np.uint8)


def captions(count: int) -> tuple[str, ...]:
    return tuple(f"thing {number}, {('flat', '3d')[number % 2]} style" for number in range(count))


@pytest.mark.parametrize(
    ("cross", "other", "said"),
    (
        (0.6, 0.6, "about what it gets right: what it does not know it leaves out, which is blur"),
        (0.4, 0.7, "less than the image, which is blur, and more than it gets right"),
        (0.4, 1.1, "more than it gets right: some of its detail is made up"),
        (0.4, 1.5, "more than the image: it adds detail that is not there"),
    ),
)
def test_what_is_kept_of_several_bands_is_weighted_by_their_power(cross, other, said) -> None:
    bands = Bands.of(32, 32)
    image = np.array([100.0, 9.0, 3.0, 0.5][-bands.count :])
    powers = np.stack([image, other * image, cross * image])
    powers[1:, 0] = image[0]
    powers[1:, -1] = 0  # of the faintest detail nothing is there
    seen, kept = np.arange(bands.count), powers[2] ** 2 / np.maximum(powers[0] * powers[1], 1e-30)
    lost = image[1:-1].sum() / image[1:].sum()
    text = bands_sentence(bands.names, Detail(powers, [Interval(each, each, each) for each in kept], seen), CELL)
    assert f"{', '.join(bands.names[1:-1])} and {bands.names[-1]} pixels a cycle" in text
    assert f"{cross**2 / other * lost:.0%} is kept" in text
    assert said in text


def test_squares_are_kept_and_noise_within_them_is_not(tmp_path) -> None:
    random = np.random.default_rng(0)
    noise = random.normal(128, 40, (COUNT, 32, 32, 3))
    findings = found(tmp_path, np.clip(noise, 0, 255).astype(np.uint8))
    layout, texture = findings.value("layout"), findings.value("texture")
    assert layout is not None and texture is not None
    assert layout > 0.6 and texture < 0.1
    (table,) = [each for each in findings.tables if each.name == "bands"]
    kept = [row[2] for row in table.rows]
    assert kept == sorted(kept, reverse=True)
    assert any("which is blur" in each for each in findings.sentences)


def test_what_is_as_coarse_as_cells_is_kept_whole(tmp_path) -> None:
    squares = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), np.uint8).repeat(CELL, 1).repeat(CELL, 2)
    findings = found(tmp_path, squares)
    assert findings.value("layout") == pytest.approx(1, abs=1e-4)
    assert findings.value("texture") == pytest.approx(1, abs=1e-4)
    assert findings.value("shape") == pytest.approx(1, abs=1e-4)
    assert any(each.startswith("Detail of every size is kept") for each in findings.sentences)


def test_labels_that_colour_tells_are_read_and_others_are_not(tmp_path) -> None:
    colours = np.zeros((COUNT, 3))
    colours[1::2] = (40, -40, 0)
    labels = {"group": tuple(str(number // 20) for number in range(COUNT))}
    findings = found(tmp_path, coloured(colours), captions=captions(COUNT), labels=labels)
    style, group = findings.value("label_style"), findings.value("label_group")
    assert style is not None and style > 0.9
    assert group is None or group < 0.1
    (table,) = [each for each in findings.tables if each.name == "labels"]
    read = {(row[0], row[2]): row[3] for row in table.rows}
    assert read["style", "features of reconstructions"] > 0.9 and read["style", "pixels"] > 0.9


def test_labels_of_one_image_each_have_no_value(tmp_path) -> None:
    findings = found(tmp_path, draw_levels(COUNT), captions=captions(COUNT))
    (concept,) = [each for each in findings.figures if each.name == "label_concept"]
    assert concept.value is None and "needs 16 of each of at least two labels; of 80 labels" in concept.note


def test_without_captions_labels_are_not_measured_and_detail_is(tmp_path) -> None:
    findings = found(tmp_path, draw_levels(COUNT))
    assert findings.value("layout") is not None
    assert any("needs captions" in each for each in findings.sentences)


def test_levels_that_say_the_same_are_read_once(tmp_path) -> None:
    study = make_study(
        tmp_path,
        draw_levels(4),
        LinearSubject(),
        captions=captions(4),
        labels={"name": ("a", "b", "c", "d"), "look": ("x", "y", "x", "y"), "group": ("p", "p", "q", "q")},
    )
    assert list(label_levels(study.pictures)) == ["concept", "style", "group"]


def test_images_without_edges_have_no_shape(tmp_path) -> None:
    flat = np.random.default_rng(0).integers(0, 256, (COUNT, 1, 1, 3), np.uint8).repeat(32, 1).repeat(32, 2)
    (shape,) = [each for each in found(tmp_path, flat).figures if each.name == "shape"]
    assert shape.value is None and "edge" in shape.note


def test_a_bound_below_zero_is_said_to_say_nothing(tmp_path) -> None:
    """Labels by chance: the probe's cross-entropy is above the labels' entropy."""
    labels = {"coin": tuple(np.random.default_rng(3).choice(["a", "b"], COUNT))}
    findings = found(tmp_path, draw_levels(COUNT), captions=captions(COUNT), labels=labels)
    (coin,) = [each for each in findings.figures if each.name == "label_coin"]
    assert coin.value is None and coin.low is None and coin.note.startswith("Not informative: the bound is -")
    (table,) = [each for each in findings.tables if each.name == "labels"]
    (share,) = [row[3] for row in table.rows if row[0] == "coin" and row[2] == "latents"]
    assert isinstance(share, float) and share < 0
    assert any(
        each.startswith("Coin (2 labels): a probe reads nothing from the latents") for each in findings.sentences
    )


def test_what_is_said_of_a_label() -> None:
    nothing, some, more = Interval(0.02, -0.1, 0.1), Interval(0.4, 0.3, 0.5), Interval(0.8, 0.7, 0.9)
    assert label_sentence("style", 4, nothing, nothing, some).endswith(
        "nothing for sure from images: with these images it cannot be told what is lost of it."
    )
    assert "reads 40% of it from the latents" in label_sentence("style", 4, some, some, some)
    assert label_sentence("style", 4, some, some, Interval(0.45, 0.35, 0.55)).endswith(
        "no loss that these images can tell."
    )
    assert label_sentence("style", 4, some, more, some).endswith("50% of what can be read is lost on the way.")
    assert label_sentence("style", 4, some, more, nothing).endswith("98% of what can be read is lost on the way.")
    assert label_sentence("style", 4, some, some, more).endswith("in the way of the probe.")


@pytest.mark.parametrize(
    ("cell", "layout", "texture", "octaves"),
    [
        (8, "longer than 16 pixels", "shorter than 8 pixels", 2),
        (6, "longer than 16 pixels", "shorter than 4 pixels", 1),
        (3, "longer than 8 pixels", "shorter than 3 pixels", 0),
        (1, "longer than 2 pixels", "shorter than 1 pixel a", 0),
    ],
)
def test_levels_of_detail_are_named_by_their_octaves(cell: int, layout: str, texture: str, octaves: int) -> None:
    bands = Bands.of(64, 64)
    levels = detail_levels(bands, cell)
    assert layout in levels["layout"][0] and texture in levels["texture"][0]
    assert levels["texture"][1].sum() == octaves
    title, chosen = levels["layout"]
    assert f" {1 / bands.edges[1:][chosen].max():.0f} pixels" in title
    title, chosen = levels["texture"]
    assert octaves == 0 or f" {1 / bands.edges[:-1][chosen].min():.0f} pixels" in title


def test_detail_is_lost_where_its_interval_says_so() -> None:
    def said(*kept: Interval) -> str:
        alike = np.ones(len(kept))
        powers = np.stack([alike, alike, np.sqrt([each.value for each in kept])])
        return bands_sentence(("coarse", "fine"), Detail(powers, list(kept), np.arange(len(kept))), 8)

    whole, unsure, lost = Interval(0.97, 0.95, 0.99), Interval(0.88, 0.85, 0.93), Interval(0.5, 0.4, 0.6)
    assert said(whole, whole) == "Detail of every size is kept: 97% at least."
    assert said(whole, unsure) == "That detail of any size is lost these images do not tell: 88% at least is kept."
    assert said(unsure, lost).startswith(
        "Of detail of fine pixels a cycle 50% is kept (a latent cell is 8 pixels wide)"
    )
