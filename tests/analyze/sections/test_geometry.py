"""Geometry of a decoder that is linear, where everything is known, and of one that is bent."""

import numpy as np
import pytest
import torch

from ldm_export.analyze import derivative_cost
from ldm_export.analyze.findings import Findings
from ldm_export.analyze.geodesic import Geodesic, straight
from ldm_export.analyze.sections import SECTIONS, geometry_paths
from ldm_export.errors import AnalysisError
from tests.analyze.codec_study import CELL, SIDE, all_of_cell, fill_cell, mean_of_cell, spread_cell, study_of

pytestmark = pytest.mark.slow  # imports matplotlib


def measured(folder, encode=mean_of_cell, decode=fill_cell, **options) -> Findings:
    folder.mkdir(exist_ok=True)
    findings = SECTIONS["geometry"].measure(study_of(encode, decode, folder, count=10, **options))
    findings.require_finite()
    return findings


def duplicated(folder):
    """A study of eight images of which each comes twice in a row."""
    study = study_of(mean_of_cell, fill_cell, folder, count=16)
    study.pictures.pixels[1::2] = study.pictures.pixels[::2]
    return study


def figure(findings: Findings, name: str):
    (found,) = [each for each in findings.figures if each.name == name]
    return found


def test_a_linear_decoder_is_flat_and_its_geodesics_are_straight(tmp_path):
    findings = measured(tmp_path)
    for name in ("decoder_top", "decoder_median", "decoder_bottom"):  # a cell is copied to f² pixels
        assert findings.value(name) == pytest.approx(CELL, rel=1e-4), name
    for name in ("encoder_top", "encoder_bottom"):
        assert findings.value(name) == pytest.approx(1 / CELL, rel=1e-4), name
    assert findings.value("decoder_condition") == pytest.approx(1, rel=1e-4)
    assert findings.value("decoder_spread") == pytest.approx(1, rel=1e-4)
    assert findings.value("straight_length") == pytest.approx(1, abs=1e-4)
    assert findings.value("geodesic_gain") == pytest.approx(1, abs=1e-3)
    assert findings.value("spherical_length") > 1.001
    for place in (0, 1):
        assert findings.value(f"negative_{place}") == 0 and abs(findings.value(f"turn_{place}")) < 1e-6
    text = " ".join(findings.sentences)
    assert "nearly alike" in text and "100% flat" in text and "as good as geodesics" in text and "next to flat" in text


def test_an_anisotropic_decoder_is_told_from_an_even_one(tmp_path):
    gains = torch.linspace(0.1, 10, 3)[:, None, None]
    findings = measured(tmp_path, decode=lambda latents: fill_cell(gains * latents))
    assert findings.value("decoder_top") == pytest.approx(10 * CELL, rel=1e-3)
    assert findings.value("decoder_bottom") == pytest.approx(0.1 * CELL, rel=1e-2)
    assert findings.value("decoder_condition") == pytest.approx(100, rel=1e-2)
    assert any("far from alike" in each for each in findings.sentences)


def test_a_smallest_value_that_has_not_converged_has_no_value(tmp_path):
    gains = torch.logspace(-3, 1, 3 * CELL**2)[:, None, None]
    places = torch.logspace(-1, 0, 64).reshape(8, 8)
    findings = measured(tmp_path, all_of_cell, lambda latents: spread_cell(gains * places * latents))
    for name, word in (
        ("decoder_bottom", "At most"),
        ("decoder_condition", "At least"),
        ("decoder_median", "At most"),  # more than half of the directions are next to nothing
        ("decoder_spread", "At least"),
    ):
        found = figure(findings, name)
        assert found.value is None and found.low is None and found.note.startswith(word)
    assert findings.value("decoder_top") == pytest.approx(10, rel=0.05)


def test_a_bent_decoder_is_curved_and_has_shorter_ways(tmp_path):
    def bent(latents):
        pixels = fill_cell(latents)
        return pixels + 3 * torch.sin(3 * pixels)

    findings = measured(tmp_path, decode=bent)
    assert max(abs(findings.value(f"turn_{place}")) for place in (0, 1)) > 1e-3
    assert findings.value("straight_length") > 1.02
    assert findings.value("geodesic_gain") < 0.99
    assert any("save" in each and "In features that path" in each for each in findings.sentences)


def test_a_search_that_ends_at_a_longer_path_leaves_the_straight_line_as_the_shortest(tmp_path, monkeypatch):
    """The decoder is linear, so that every way but the straight one is longer."""

    def wander(function, start, end, *, knots, steps, most):
        path = straight(start, end, knots + 1).astype(np.float64)
        path[1:-1] += 0.5 * np.random.default_rng(0).standard_normal(path[1:-1].shape)
        return Geodesic(path, False, 3)

    monkeypatch.setattr(geometry_paths, "geodesic", wander)
    findings = measured(tmp_path)
    assert findings.value("geodesic_gain") == findings.value("geodesic_features") == 1
    assert findings.value("geodesic_length") == findings.value("straight_length")
    note = figure(findings, "geodesic_length").note
    assert (
        "1 of 1 searches ended at their budget" in note and "In 1 of 1 pairs the straight way is the shortest" in note
    )
    (said,) = [each for each in findings.sentences if "cross-fade" in each]
    assert "found nothing shorter than the straight line" in said and "bound from above" in said


def test_correlations_take_eight_images(tmp_path):
    findings = measured(tmp_path)
    for name in ("correlation_curvature", "correlation_condition"):
        found = figure(findings, name)
        assert found.value is None and "8 images" in found.note
    assert {each.name for each in findings.pictures} == {"spectrum", "paths", "curvature"}


def test_where_the_decoder_is_more_anisotropic_features_change_faster(tmp_path):
    """Its gain grows with the latents in one channel: both the condition number and the change of the pixels do."""

    def growing(latents):
        size = latents.square().mean(dim=(1, 2, 3), keepdim=True)
        gains = torch.cat([1 + 24 * size, torch.ones_like(size), torch.ones_like(size)], dim=1)
        return fill_cell(0.5 * gains * latents)

    study = study_of(mean_of_cell, growing, tmp_path, count=10, quick=False)
    contrast = np.linspace(0.2, 1, 10)[:, None, None, None]
    study.pictures.pixels[:] = 128 + contrast * (study.pictures.pixels - 128.0)
    findings = SECTIONS["geometry"].measure(study)
    found = figure(findings, "correlation_condition")
    assert "condition number" in found.title and 0 < found.low <= found.value <= found.high <= 1
    assert any("faster where the latent space is more anisotropic" in each for each in findings.sentences)


def test_an_even_decoder_has_nothing_to_correlate(tmp_path):
    found = figure(measured(tmp_path, quick=False), "correlation_condition")
    assert found.value is None and "the same at all images" in found.note


def test_images_that_come_twice_are_no_pair(tmp_path):
    findings = SECTIONS["geometry"].measure(duplicated(tmp_path))
    findings.require_finite()
    assert findings.value("straight_length") == pytest.approx(1, abs=1e-4)
    assert findings.value("turn_1") is not None


def test_images_that_are_all_the_same_have_no_ways_between_them(tmp_path):
    study = study_of(mean_of_cell, fill_cell, tmp_path, count=10)
    study.pictures.pixels[:] = study.pictures.pixels[:1]
    findings = SECTIONS["geometry"].measure(study)
    findings.require_finite()
    for name in ("straight_length", "geodesic_gain", "negative_1", "turn_1", "feature_change"):
        found = figure(findings, name)
        assert found.value is None and "the same" in found.note or "No two images differ" in found.note, name
    assert findings.value("decoder_top") == pytest.approx(CELL, rel=1e-4)
    assert not any("nan" in each for each in findings.sentences)


def test_a_decoder_that_is_constant_has_no_finite_condition(tmp_path):
    findings = measured(tmp_path, decode=lambda latents: fill_cell(0 * latents))
    assert findings.value("decoder_top") == 0
    for name in ("decoder_condition", "decoder_spread"):
        assert figure(findings, name).value is None and "Infinite" in figure(findings, name).note
    assert any("changes no pixel" in each for each in findings.sentences)
    assert any("No two images differ" in each for each in findings.sentences)


def test_turns_are_over_the_deviation_of_the_latents(tmp_path):
    """Ten times larger latents whose decoder takes a tenth of them are the same surface."""

    def bent(latents):
        pixels = fill_cell(latents)
        return pixels + 3 * torch.sin(3 * pixels)

    small = measured(tmp_path / "a", decode=bent)
    large = measured(tmp_path / "b", lambda pixels: 10 * mean_of_cell(pixels), lambda latents: bent(latents / 10))
    for name in ("turn_0", "turn_1", "feature_change"):
        assert large.value(name) == pytest.approx(small.value(name), rel=0.01), name


def test_what_does_not_fit_into_the_memory_is_left_out_and_the_rest_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(derivative_cost, "available_memory", lambda: 100)
    findings = measured(tmp_path, decode=lambda latents: fill_cell(torch.sin(latents)))
    for name in ("decoder_top", "decoder_condition", "geodesic_gain"):
        assert figure(findings, name).value is None and "GB of memory" in figure(findings, name).note, name
    assert findings.value("straight_length") is not None and findings.value("turn_0") is not None
    assert any("metric of the decoder was not measured. It needs" in each for each in findings.sentences)


def test_a_decoder_without_derivatives_is_refused_in_a_sentence(tmp_path):
    class Rounded(torch.autograd.Function):
        @staticmethod
        def forward(context, latents):
            return latents.round()

        @staticmethod
        def backward(context, gradient):
            return gradient

    with pytest.raises(AnalysisError, match=r"cannot be differentiated \(.*give the checkpoint that"):
        measured(tmp_path, decode=lambda latents: fill_cell(Rounded.apply(latents)))


def test_the_whole_jacobian_of_three_numbers_is_said_to_be_whole(tmp_path):
    """So few that its products are not fewer than twice its values."""
    pool, fill = torch.nn.functional.avg_pool2d, torch.nn.functional.interpolate
    findings = measured(tmp_path, lambda x: pool(x, SIDE), lambda z: fill(z, scale_factor=SIDE), cell=SIDE, quick=False)
    for name in ("decoder_top", "encoder_top"):
        found = figure(findings, name)
        assert found.estimator.startswith("all 3 singular values of the whole Jacobian"), name
    assert findings.value("decoder_top") == pytest.approx(SIDE, rel=1e-4)


def test_it_measures_the_same_again(tmp_path):
    first, second = (measured(tmp_path / name) for name in ("a", "b"))
    assert first.to_json() == second.to_json()


def test_nan_is_refused(tmp_path):
    study = study_of(mean_of_cell, lambda latents: fill_cell(latents) * float("nan"), tmp_path)
    with pytest.raises(AnalysisError, match="NaN"):
        SECTIONS["geometry"].measure(study)
