"""The section on a linear autoencoder, whose spectrum and Jacobian are known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ldm_export.analyze import derivative_cost
from ldm_export.analyze.findings import Findings
from ldm_export.analyze.sections.regularity import (
    cell_sentence,
    components_sentence,
    dependence_sentence,
    measure,
)
from ldm_export.analyze.sections.regularity_marginals import normality_sentence
from ldm_export.analyze.statistics import Interval
from ldm_export.errors import AnalysisError, CheckpointError
from tests.analyze.linear_study import CELL, LinearSubject, draw_levels, make_study

pytestmark = pytest.mark.slow  # each measures a section

COUNT, NUMBERS, PIXELS = 96, 8 * 8 * 3, 32 * 32 * 3


def found(tmp_path, subject: LinearSubject, levels: np.ndarray | None = None) -> Findings:
    findings = measure(make_study(tmp_path, draw_levels(COUNT) if levels is None else levels, subject))
    findings.require_finite()
    return findings


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return found(tmp_path_factory.mktemp("gaussian"), LinearSubject(0.1, scale=4.0))


def test_the_decoder_s_jacobian(gaussian: Findings) -> None:
    """A latent of 1 is 1 / scale in each pixel of its cell and channel. Columns do not overlap: in part exact."""
    energy = gaussian.value("jacobian")
    assert energy == pytest.approx(NUMBERS * CELL**2 / 16, rel=0.1)
    spread = 4 * 0.25  # of the latents; the decoder divides by the scale
    assert gaussian.value("gain") == pytest.approx(0.1 * spread * 127.5 * math.sqrt(energy / PIXELS), rel=0.05)
    assert gaussian.value("own_noise") == pytest.approx(0.1 * 127.5, rel=0.05)
    (table,) = [each for each in gaussian.tables if each.name == "reaction"]
    assert [row[3] for row in table.rows] == pytest.approx([1 / 3] * 3, abs=0.06)


def test_independent_numbers_of_equal_variance(gaussian: Findings) -> None:
    assert gaussian.value("participation_ratio") == pytest.approx(NUMBERS, rel=0.1)
    assert gaussian.value("cell_rank") == pytest.approx(3, abs=0.02)
    assert gaussian.value("total_correlation") == pytest.approx(0, abs=0.01)
    assert gaussian.value("neighbours") == pytest.approx(0, abs=0.01)
    assert gaussian.value("deviation") == pytest.approx(4 * math.hypot(0.25, 0.1), rel=0.05)
    assert gaussian.warnings == []


def test_a_rank_that_still_grows_has_no_value(gaussian: Findings) -> None:
    (rank,) = [each for each in gaussian.figures if each.name == "effective_rank"]
    assert rank.value is None and "still grows" in rank.note


def test_channels_that_are_one(tmp_path) -> None:
    levels = draw_levels(COUNT)
    levels[..., 1] = levels[..., 0]
    findings = found(tmp_path, LinearSubject(0.1, scale=4.0), levels)
    assert findings.value("total_correlation") is None
    assert findings.value("cell_rank") < 2.1


def test_images_along_one_line_have_rank_one(tmp_path) -> None:
    amounts = np.random.default_rng(0).normal(0, 30, (COUNT, 1, 1, 1))
    pattern = np.random.default_rng(1).normal(0, 1, (1, 8, 8, 3)).repeat(CELL, 1).repeat(CELL, 2)
    levels = np.clip(128 + amounts * pattern, 0, 255).astype(np.uint8)
    findings = found(tmp_path, LinearSubject(0.1), levels)
    assert findings.value("participation_ratio") < 1.5
    rank = findings.value("effective_rank")
    assert rank is not None and rank < 4


def test_a_scale_that_does_not_fit_is_said(tmp_path) -> None:
    findings = found(tmp_path, LinearSubject(0.1, scale=0.5))
    assert any("schedule acts as another one" in each for each in findings.warnings)


def test_marginals_tell_a_normal_from_two_peaks(tmp_path, gaussian: Findings) -> None:
    peaks = np.where(np.random.default_rng(2).random((COUNT, 8, 8, 3)) < 0.5, 60, 200).astype(np.uint8)
    other = found(tmp_path, LinearSubject(0.01), peaks.repeat(CELL, 1).repeat(CELL, 2))
    distances = [
        [row[5] for row in table.rows]
        for findings in (gaussian, other)
        for table in findings.tables
        if table.name == "marginals"
    ]
    assert max(distances[0]) < 0.03 < 0.15 < min(distances[1])
    assert any("model these poorly" in each for each in other.sentences)
    assert any("this counts as near one" in each for each in gaussian.sentences)


def test_a_small_distance_is_small_however_sure_it_is() -> None:
    """With millions of numbers any distance is significant: the size decides."""
    assert normality_sentence(Interval(0.03, 0.029, 0.031)).endswith("Below 5% this counts as near one.")
    assert "seen, and small" in normality_sentence(Interval(0.06, 0.059, 0.061))
    assert "seen, and small" in normality_sentence(Interval(0.12, 0.09, 0.15)), "not surely above the threshold"
    assert "poorly" in normality_sentence(Interval(0.12, 0.11, 0.13))


def test_noise_is_measured_by_the_latents_own_deviation(tmp_path, gaussian: Findings) -> None:
    """Another scale of the same latents is the same model."""
    small = found(tmp_path, LinearSubject(0.1, scale=0.5))
    assert small.value("gain") == pytest.approx(gaussian.value("gain"), rel=0.05)
    assert small.value("jacobian") == pytest.approx(64 * gaussian.value("jacobian"), rel=0.1)


def test_a_channel_that_does_not_vary(tmp_path) -> None:
    levels = draw_levels(COUNT)
    levels[..., 2] = 90
    findings = found(tmp_path, LinearSubject(None), levels)  # no posterior, whose draws would vary
    assert findings.value("total_correlation") is None and findings.value("cell_rank") < 2.1
    (table,) = [each for each in findings.tables if each.name == "marginals"]
    assert table.rows[2][3:] == (None,) * 6 and None not in table.rows[0]
    assert any("channel 3 (0.0% of" in each for each in findings.warnings)


def test_a_decoder_that_does_not_react(tmp_path) -> None:
    subject = LinearSubject(0.1)
    subject.codec = replace(subject.codec, decode=lambda latents: 0 * subject._decode(latents))
    findings = found(tmp_path, subject)
    assert findings.value("gain") == 0 and any("does not react" in each for each in findings.sentences)
    assert not any("hardly depends" in each for each in findings.warnings)


def test_a_reaction_that_does_not_fit_into_the_memory_is_left_out(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(derivative_cost, "available_memory", lambda: 100)
    subject = LinearSubject(0.1)
    subject.codec = replace(subject.codec, decode=lambda latents: subject._decode(latents.sin()))
    findings = found(tmp_path, subject)
    (gain,) = [each for each in findings.figures if each.name == "gain"]
    assert gain.value is None and "GB of memory" in gain.note and findings.value("participation_ratio") is not None


def test_a_checkpoint_that_torch_cannot_load_says_what_to_give_instead(tmp_path) -> None:
    class Unloadable(LinearSubject):
        codec = property(lambda self: self.refuse(), lambda self, value: None)

        def refuse(self) -> None:
            raise CheckpointError("the weights of vae are not there")

    with pytest.raises(AnalysisError, match="cannot be loaded into torch .the weights of vae.*give the checkpoint"):
        found(tmp_path, Unloadable(0.1))


def test_nan_in_a_derivative_is_refused(tmp_path) -> None:
    subject = LinearSubject(0.1)
    subject.codec = replace(subject.codec, decode=lambda latents: subject._decode((latents - latents).sqrt() + latents))
    with pytest.raises(AnalysisError, match="is nan .*Hutchinson"):
        measure(make_study(tmp_path, draw_levels(COUNT), subject)).require_finite()


def test_images_that_are_all_the_same_are_refused(tmp_path) -> None:
    with pytest.raises(AnalysisError, match="all 64 images have the same latents"):
        found(tmp_path, LinearSubject(), draw_levels(1).repeat(64, 0))


def test_of_one_channel_nothing_is_said_of_several() -> None:
    assert "component of 96 images holds" in components_sentence(1, 96)
    assert "the first 3 principal components of 96 images hold" in components_sentence(3, 96)
    assert cell_sentence(1.0, 1) == ""
    assert cell_sentence(2.9, 3).endswith("3 channels count as 2.9: all are in use.")
    assert "some repeat others" in cell_sentence(1.2, 3)
    assert dependence_sentence(0.0, 0.05, 1) == "Neighbouring cells share 0.05 bits in each channel."
    assert "0.02 for each: they are almost uncorrelated. Neighbouring" in dependence_sentence(0.06, 0.05, 3)
    assert dependence_sentence(None, 0.5, 3).endswith("that sees them together can use.")
    assert dependence_sentence(None, None, 1) == "The latents are one cell, which has no other beside it."


def test_latents_of_one_cell_have_no_neighbours_and_it_says_so(tmp_path) -> None:
    findings = found(tmp_path, LinearSubject(0.1), draw_levels(COUNT, side=CELL))
    (neighbours,) = [each for each in findings.figures if each.name == "neighbours"]
    assert neighbours.value is None and "one cell" in neighbours.note
    assert any("one cell, which has no other beside it" in each for each in findings.sentences)
    assert findings.value("total_correlation") is not None and findings.value("jacobian") is not None
