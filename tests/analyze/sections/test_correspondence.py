"""Correspondence of autoencoders of which each cell is its own square, and of ones where it is not."""

import pytest
import torch

from ldm_export.analyze import derivative_cost
from ldm_export.analyze.findings import Findings
from ldm_export.analyze.sections import SECTIONS
from ldm_export.analyze.sections.correspondence import owns
from ldm_export.analyze.sections.correspondence_shifts import beside_error, offsets_matter
from ldm_export.analyze.statistics import Interval
from ldm_export.errors import AnalysisError
from tests.analyze.codec_study import SIDE, fill_cell, mean_of_cell, study_of

pytestmark = pytest.mark.slow  # imports matplotlib


def measured(folder, encode=mean_of_cell, decode=fill_cell) -> Findings:
    folder.mkdir(exist_ok=True)
    findings = SECTIONS["correspondence"].measure(study_of(encode, decode, folder, count=8))
    findings.require_finite()
    return findings


def test_cells_that_are_their_squares(tmp_path):
    findings = measured(tmp_path)
    for name in ("encoder_own", "decoder_own", "pixel_own", "corner_own", "zeroed_share", "exchanged_share"):
        assert findings.value(name) == pytest.approx(1), name
    assert findings.value("exchange_follows") == pytest.approx(1, abs=1e-4)
    assert findings.value("shift_whole") < 1e-5 < findings.value("shift_between")
    assert any("its own square holds" in each for each in findings.sentences)
    assert {each.name for each in findings.pictures} == {"fields", "edits", "shifts"}


def test_cells_that_read_and_write_their_neighbours(tmp_path):
    def blurred(latents):
        return torch.nn.functional.avg_pool2d(latents, 3, stride=1, padding=1)

    findings = measured(
        tmp_path, lambda pixels: blurred(mean_of_cell(pixels)), lambda latents: fill_cell(blurred(latents))
    )
    for name in ("encoder_own", "decoder_own", "pixel_own", "corner_own", "zeroed_share"):
        assert findings.value(name) == pytest.approx(1 / 9, rel=0.01), name
    assert any("its own square does not hold" in each and "3 x 3 cells to read" in each for each in findings.sentences)
    assert findings.value("exchange_follows") < 0.5


def test_cells_that_are_somewhere_else(tmp_path):
    findings = measured(tmp_path, decode=lambda latents: fill_cell(latents.roll(2, dims=3)))
    assert findings.value("decoder_own") == pytest.approx(0) and findings.value("encoder_own") == pytest.approx(1)
    (table,) = [each for each in findings.tables if each.name == "fields"]
    assert [row[2] for row in table.rows] == pytest.approx([0, 0, 1, 1])


def test_small_images_have_no_shift_test_and_it_says_why(tmp_path):
    study = study_of(mean_of_cell, fill_cell, tmp_path, count=8)
    study.pictures.pixels.resize((8, 16, 16, 3))  # four cells along a side
    findings = SECTIONS["correspondence"].measure(study)
    (figure,) = [each for each in findings.figures if each.name == "shift_whole"]
    assert figure.value is None and "5 latent cells" in figure.note


def test_cells_of_one_pixel_have_no_shift_within_them(tmp_path):
    findings = SECTIONS["correspondence"].measure(study_of(lambda x: x, lambda x: x, tmp_path, count=8, cell=1))
    findings.require_finite()
    values = {each.name: each for each in findings.figures}
    assert values["shift_whole"].value == pytest.approx(0, abs=1e-6)
    for name in ("shift_between", "shift_between_image"):
        assert values[name].value is None and "one pixel" in values[name].note
    (said,) = [each for each in findings.sentences if "whole cell" in each]
    assert said.startswith("A cell is one pixel (f = 1)") and "0 pixels" not in said and "Offsets" not in said


def test_it_measures_the_same_again(tmp_path):
    first, second = (measured(tmp_path / name) for name in ("a", "b"))
    assert first.to_json() == second.to_json()


def test_nan_is_refused(tmp_path):
    study = study_of(mean_of_cell, lambda latents: fill_cell(latents) * float("nan"), tmp_path, count=8)
    with pytest.raises(AnalysisError, match="NaN"):
        SECTIONS["correspondence"].measure(study).require_finite()


def test_images_that_come_twice_are_replaced_by_another(tmp_path):
    study = study_of(mean_of_cell, fill_cell, tmp_path, count=8)
    study.pictures.pixels[1::2] = study.pictures.pixels[::2]
    findings = SECTIONS["correspondence"].measure(study)
    findings.require_finite()
    assert findings.value("replaced_share") == pytest.approx(1)


@pytest.mark.parametrize("level", [None, 127])  # one image again and again; one colour
def test_images_that_are_all_the_same(tmp_path, level):
    study = study_of(mean_of_cell, fill_cell, tmp_path, count=8)
    study.pictures.pixels[:] = study.pictures.pixels[:1] if level is None else level
    findings = SECTIONS["correspondence"].measure(study)
    findings.require_finite()
    values = {each.name: each.value for each in findings.figures}
    assert values["replaced_share"] is None and values["zeroed_share"] == pytest.approx(1)
    assert (values["exchange_follows"] is None) == (level is not None) == (values["shift_whole"] is None)
    assert not any("nan" in each for each in findings.sentences)


def test_a_decoder_that_does_not_react(tmp_path):
    findings = measured(tmp_path, decode=lambda latents: fill_cell(0 * latents))
    values = {each.name: each.value for each in findings.figures}
    assert values["encoder_own"] == pytest.approx(1)
    for name in ("decoder_own", "pixel_own", "zeroed_share", "replaced_share", "exchange_follows"):
        assert values[name] is None, name
    assert any("changes nothing in the image" in each for each in findings.sentences)
    assert any(each.startswith("Derivatives are zero") for each in findings.sentences)


def test_fields_that_do_not_fit_into_the_memory_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(derivative_cost, "available_memory", lambda: 100)
    findings = measured(tmp_path, decode=lambda latents: fill_cell(torch.sin(latents)))
    (field,) = [each for each in findings.figures if each.name == "decoder_own"]
    assert field.value is None and "GB of memory" in field.note
    assert findings.value("zeroed_share") == pytest.approx(1) and findings.value("shift_whole") is not None


def coarse_study(folder, side, *, columns=SIDE):
    """A study of cells that are half or all of the image."""
    pool, fill = torch.nn.functional.avg_pool2d, torch.nn.functional.interpolate
    study = study_of(lambda x: pool(x, side), lambda z: fill(z, scale_factor=side), folder, count=8, cell=side)
    object.__setattr__(study.pictures, "pixels", study.pictures.pixels[:, :, :columns].copy())
    return study


def test_a_cell_that_is_the_whole_image_is_told_from_nothing(tmp_path):
    findings = SECTIONS["correspondence"].measure(coarse_study(tmp_path, SIDE))
    findings.require_finite()
    assert findings.sentences == [
        "The latents are one cell, whose square is the whole image: nothing lies outside of it."
    ]
    assert len(findings.figures) == 12 and all(each.value is None and each.note for each in findings.figures)


def test_two_cells_that_are_the_whole_image_have_nothing_outside(tmp_path):
    findings = SECTIONS["correspondence"].measure(coarse_study(tmp_path, SIDE // 2, columns=SIDE // 2))
    findings.require_finite()
    (table,) = [each for each in findings.tables if each.name == "edits"]
    outside = {row[0]: row[2] for row in table.rows}
    assert outside["exchanged"] is None and outside["zeroed"] == pytest.approx(0, abs=1e-4)
    (zeroed,) = [each for each in findings.figures if each.name == "zeroed_share"]
    assert zeroed.value == pytest.approx(1) and zeroed.estimator.startswith("1 cell of each")


def test_sentences_say_what_their_intervals_do():
    sure, unsure, no = Interval(0.95, 0.92, 0.97), Interval(0.9, 0.85, 0.95), Interval(0.5, 0.4, 0.6)
    assert (
        "holds here" in owns(sure, sure) and "does not hold" in owns(sure, no) and "do not tell" in owns(sure, unsure)
    )
    less, more, either = Interval(-2, -3, -1), Interval(2, 1, 3), Interval(0.1, -1, 1)
    assert [beside_error(each) for each in (less, more, either)] == ["less than", "more than", "not told from"]
    assert offsets_matter(more).startswith("Parts of a cell") and "little" in offsets_matter(less)
    assert "do not tell" in offsets_matter(either)
