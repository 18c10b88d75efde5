"""Geometry of a decoder that is linear, where everything is known, and of one that is bent."""

import numpy as np
import pytest
import torch

from ldm_export.analyze.findings import Findings
from ldm_export.analyze.sections import SECTIONS
from ldm_export.errors import AnalysisError
from tests.analyze.codec_study import CELL, all_of_cell, fill_cell, mean_of_cell, spread_cell, study_of

pytestmark = pytest.mark.slow  # imports matplotlib


def measured(folder, encode=mean_of_cell, decode=fill_cell, **options) -> Findings:
    folder.mkdir(exist_ok=True)
    findings = SECTIONS["geometry"].measure(study_of(encode, decode, folder, count=10, **options))
    findings.require_finite()
    return findings


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


def test_correlations_take_eight_images(tmp_path):
    findings = measured(tmp_path)
    for name in ("correlation_curvature", "correlation_condition"):
        found = figure(findings, name)
        assert found.value is None and "8 images" in found.note
    assert {each.name for each in findings.pictures} == {"spectrum", "paths", "curvature"}


def test_correlations_of_a_decoder_that_bends_more_where_it_is_larger(tmp_path):
    findings = measured(tmp_path, decode=lambda latents: fill_cell(latents + latents**3), quick=False)
    found = figure(findings, "correlation_condition")
    assert found.value is not None and -1 <= found.low <= found.value <= found.high <= 1
    assert figure(findings, "correlation_curvature").value is not None


def test_it_measures_the_same_again(tmp_path):
    first, second = (measured(tmp_path / name) for name in ("a", "b"))
    assert first.to_json() == second.to_json()


def test_nan_is_refused(tmp_path):
    study = study_of(mean_of_cell, lambda latents: fill_cell(latents) * float("nan"), tmp_path)
    with pytest.raises(AnalysisError, match="NaN"):
        SECTIONS["geometry"].measure(study)
    assert np.isfinite(study.pixels).all()
