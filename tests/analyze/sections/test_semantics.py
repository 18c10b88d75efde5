"""Semantics of autoencoders that are known: one that keeps every distance, and one that mixes left and right."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ldm_export.analyze.findings import Findings
from ldm_export.analyze.sections import SECTIONS
from ldm_export.analyze.sections.semantics import _nature, change_sentences
from ldm_export.analyze.sections.semantics_changes import Change
from ldm_export.analyze.statistics import Interval
from ldm_export.analyze.transforms import Transform
from ldm_export.errors import AnalysisError
from tests.analyze.codec_study import CELL, SIDE, all_of_cell, fill_cell, mean_of_cell, spread_cell, study_of

pytestmark = pytest.mark.slow  # imports matplotlib


def measured(folder, encode=mean_of_cell, decode=fill_cell, **options) -> Findings:
    folder.mkdir(exist_ok=True)
    findings = SECTIONS["semantics"].measure(study_of(encode, decode, folder, **options))
    findings.require_finite()
    return findings


def column(findings: Findings, table: str, name: str) -> dict[str, float]:
    (found,) = [each for each in findings.tables if each.name == table]
    return {row[0]: row[found.head.index(name)] for row in found.rows}


RAMP = torch.linspace(0.2, 2, SIDE // CELL)  # cells of the right count more: nothing that moves commutes


def test_latents_that_are_the_pixels_have_their_distances(tmp_path):
    findings = measured(tmp_path, all_of_cell, spread_cell)
    for name in ("spearman_latents_pixels", "pearson_latents_pixels", "spearman_latents_features"):
        assert findings.value(name) == pytest.approx(1, abs=0.001)
    assert findings.value("advantage") == pytest.approx(0, abs=0.001)
    assert findings.value("alignment_share") < 1e-4
    latents, pixels = (column(findings, "changes", name) for name in ("latents", "pixels"))
    assert all(latents[name] == pytest.approx(pixels[name], rel=0.1) for name in latents)
    assert any("not invariant to any" in each for each in findings.sentences)


def test_means_of_cells_are_equivariant_to_what_moves_whole_cells(tmp_path):
    findings = measured(tmp_path)
    commuted, latents = (column(findings, "changes", name) for name in ("latents, changed alike", "latents"))
    for name in ("flipped left to right", "flipped upside down", "turned by 90 degrees"):
        assert commuted[name] < 0.02 < latents[name]
        assert column(findings, "consistency", "levels")[name] < 1
    moved = f"shifted by {CELL} pixels"  # its edge repeats pixels here, cells there
    assert commuted[moved] < 0.25 * latents[moved]
    assert latents["noise, 5 % of the range"] < 0.5 * column(findings, "changes", "pixels")["noise, 5 % of the range"]
    assert findings.value("mean_of_two") < 0.01 and any("nearly linear" in each for each in findings.sentences)
    assert findings.value("alignment_share") > 0.001


def test_an_encoder_that_knows_left_from_right_is_not_equivariant(tmp_path):
    findings = measured(tmp_path, lambda pixels: mean_of_cell(pixels) * RAMP)
    commuted = column(findings, "changes", "latents, changed alike")
    assert commuted["flipped left to right"] > 0.2 and commuted["flipped upside down"] < 0.02
    assert any("not equivariant" in each and "left to right" in each for each in findings.sentences)


def test_a_decoder_that_is_not_linear_does_not_cross_fade(tmp_path):
    findings = measured(tmp_path, decode=lambda latents: torch.sign(fill_cell(latents)))
    assert findings.value("mean_of_two") > 0.3
    (mean,) = [each for each in findings.figures if each.name == "mean_of_two"]
    assert mean.low <= mean.value <= mean.high


def test_it_measures_the_same_again(tmp_path):
    first, second = (measured(tmp_path / name) for name in ("a", "b"))
    assert first.to_json() == second.to_json()


def test_nan_is_refused(tmp_path):
    study = study_of(mean_of_cell, lambda latents: fill_cell(latents) * float("nan"), tmp_path)
    with pytest.raises(AnalysisError, match="NaN"):
        SECTIONS["semantics"].measure(study).require_finite()


def test_equal_images_have_no_distance_to_measure_by(tmp_path):
    study = study_of(mean_of_cell, fill_cell, tmp_path)
    study.pictures.pixels[:] = 7
    with pytest.raises(AnalysisError, match="the same"):
        SECTIONS["semantics"].measure(study)


def test_images_that_come_twice_are_averaged_with_another(tmp_path):
    study = study_of(mean_of_cell, lambda latents: torch.sign(fill_cell(latents)), tmp_path)
    study.pictures.pixels[1::2] = study.pictures.pixels[::2]
    findings = SECTIONS["semantics"].measure(study)
    findings.require_finite()
    (mean,) = [each for each in findings.figures if each.name == "mean_of_two"]
    assert 0.3 < mean.value < 1.5 and "over 8 pairs" in mean.interval


def test_one_image_among_copies_of_another_has_no_interval(tmp_path):
    study = study_of(mean_of_cell, fill_cell, tmp_path)
    study.pictures.pixels[2:] = study.pictures.pixels[1]
    findings = SECTIONS["semantics"].measure(study)
    findings.require_finite()
    assert findings.value("pearson_latents_pixels") == pytest.approx(1)
    assert not any("nan" in each for each in findings.sentences)


def test_a_change_that_leaves_an_image_as_it_is_has_no_share(tmp_path):
    """Images that are the same from left to right: an error has nothing to be compared with."""
    study = study_of(mean_of_cell, lambda latents: fill_cell(latents) + 0.1 * torch.linspace(0, 1, SIDE), tmp_path)
    study.pictures.pixels[:] = study.pictures.pixels[:, :, :1]
    changed = replace(study, folder=tmp_path)
    changed.__dict__["reconstructions"] = study.pixels  # what is flipped: it stays the same
    findings = SECTIONS["semantics"].measure(changed)
    findings.require_finite()
    assert column(findings, "consistency", "share of the operation")["flipped left to right"] is None


def test_latents_are_nearer_to_what_their_intervals_tell_apart():
    pixels, features = Interval(0.8, 0.7, 0.9), Interval(0.2, 0.1, 0.3)
    assert "small image" in _nature(pixels, features) and "looks than" in _nature(features, pixels)
    unknown = Interval(0.2, float("nan"), float("nan"))
    for other in (Interval(0.6, 0.4, 0.75), unknown):
        assert "as far as these images can tell" in _nature(pixels, other)


def change(name, latents, commuted=None, noise=0.0):
    """A change of 64 images that moves pixels by 1, and latents by so much on average."""
    spread = noise * np.random.default_rng(len(name)).standard_normal(64)
    return Change(
        Transform(name, lambda images: images),
        np.ones(64),
        np.ones(64),
        latents + spread - spread.mean(),
        None if commuted is None else commuted + spread - spread.mean(),
    )


def said_of(*changes):
    return " ".join(change_sentences(changes, np.random.default_rng(0)))


def test_what_latents_react_to_is_said_where_intervals_tell():
    said = said_of(change("a", 0.5, 0.1), change("b", 2.0, 1.9), change("c", 1.0))
    assert "less than pixels do to: a." in said and "more than pixels do to: b." in said and "as pixels do" not in said
    assert (
        "makes up for most of the difference: a." in said and "It does not" in said and said.endswith("equivariant: b.")
    )
    assert said_of(change("a", 1.0), change("b", 1.02)).startswith("Latents react to every change of the image as")


def test_what_images_do_not_tell_is_not_said():
    """Means are beyond the thresholds, by far less than they are uncertain."""
    said = said_of(change("a", 0.85, 0.45, noise=2.0), change("b", 1.15, noise=2.0))
    assert "That latents react more or less than pixels do to any change these images do not tell." in said
    assert "Whether changing the grid of latents alike makes up for most of it these images do not tell of: a." in said
    assert "not invariant" not in said and "not equivariant" not in said


def test_an_autoencoder_of_one_cell_is_measured(tmp_path):
    pool, fill = torch.nn.functional.avg_pool2d, torch.nn.functional.interpolate
    findings = measured(tmp_path, lambda x: pool(x, SIDE), lambda z: fill(z, scale_factor=SIDE), cell=SIDE)
    assert findings.value("spearman_latents_pixels") is not None
