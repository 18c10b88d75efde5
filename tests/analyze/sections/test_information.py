"""The section on a linear autoencoder, whose posterior and error are known."""

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from ldm_export.analyze.findings import Findings
from ldm_export.analyze.sections.information import between, channels_sentence, measure
from ldm_export.analyze.sections.information_entropy import add_entropies, gap_sentence
from ldm_export.analyze.statistics import Interval
from ldm_export.errors import AnalysisError
from tests.analyze.linear_study import CELL, LinearSubject, draw_levels, make_study

pytestmark = pytest.mark.slow  # each measures a section

COUNT, NUMBERS = 96, 8 * 8 * 3  # images; numbers of the latents


def found(tmp_path, subject: LinearSubject, levels: np.ndarray | None = None) -> Findings:
    findings = measure(make_study(tmp_path, draw_levels(COUNT) if levels is None else levels, subject))
    findings.require_finite()
    return findings


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return found(tmp_path_factory.mktemp("gaussian"), LinearSubject(0.1))


def test_information_of_independent_gaussian_squares(gaussian: Findings) -> None:
    exact = NUMBERS * 0.5 * math.log2(1 + (0.25 / 0.1) ** 2)
    above = gaussian.value("information_above")
    assert above is not None and exact < above < 1.15 * exact
    kl = gaussian.value("kl_image")
    assert kl == pytest.approx(NUMBERS * 0.5 * (0.0625 + 0.01 - 1 - math.log(0.01)) / math.log(2), rel=0.02)
    assert gaussian.value("kl_number") == pytest.approx(kl / NUMBERS)


def test_a_lower_bound_at_its_ceiling_has_no_value(gaussian: Findings) -> None:
    (below,) = [each for each in gaussian.figures if each.name == "information_below"]
    assert below.value is None and below.low is None and "ceiling" in below.note
    assert "The lower estimate is at its ceiling with 96 images" in " ".join(gaussian.sentences)
    assert f"{math.log2(COUNT):.3g}" not in json.dumps([gaussian.sentences, asdict(below)]), "nor is it said elsewhere"


def test_noise_that_drowns_the_image_gives_a_lower_bound(tmp_path) -> None:
    findings = found(tmp_path, LinearSubject(1.5))
    (below,) = [each for each in findings.figures if each.name == "information_below"]
    above = findings.value("information_above")
    exact = NUMBERS * 0.5 * math.log2(1 + (0.25 / 1.5) ** 2)
    assert below.value is not None and above is not None and below.low is not None and below.high is not None
    assert 0.6 * exact < below.value < above and below.low < exact < above + 0.5
    assert all(f"Channel {channel} is mostly noise" in " ".join(findings.warnings) for channel in (1, 2, 3))


def test_entropy_of_cells(gaussian: Findings) -> None:
    exact = 3 * 0.5 * math.log2(2 * math.pi * math.e * (0.0625 + 0.01))
    assert gaussian.value("entropy_cell_gaussian") == pytest.approx(exact, abs=0.3)
    assert gaussian.value("entropy_cell") == pytest.approx(exact, abs=0.5)
    figures = {each.name: each for each in gaussian.figures}
    gaps = [figures["entropy_cell_gap"], figures["entropy_components_gap"]]
    for gap in gaps:
        assert gap.low is not None and gap.high is not None and gap.low <= 0 <= gap.high
    assert sum("not told from that of a Gaussian" in each for each in gaussian.sentences) == 2
    bound, estimate = figures["entropy_cell_gaussian"], figures["entropy_cell"]
    assert bound.value is not None and estimate.value is not None
    assert gaps[0].value == pytest.approx(bound.value - estimate.value)


def test_cells_of_two_colours_are_far_below_a_gaussian(tmp_path) -> None:
    squares = np.where(np.random.default_rng(2).random((COUNT, 8, 8, 3)) < 0.5, 60, 200).astype(np.uint8)
    findings = found(tmp_path, LinearSubject(0.02), squares.repeat(4, 1).repeat(4, 2))
    (gap,) = [each for each in findings.figures if each.name == "entropy_cell_gap"]
    assert gap.low is not None and gap.low > 3
    assert any("a latent cell (3 channels) is below" in each and "cluster" in each for each in findings.sentences)


def test_what_is_said_of_a_gap() -> None:
    assert "is not told from" in gap_sentence("it", Interval(0.2, -0.1, 0.5), 4)
    assert "is not told from" in gap_sentence("it", Interval(-0.2, -0.3, -0.1), 4)
    assert gap_sentence("it", Interval(0.2, 0.1, 0.3), 4).endswith("(0.2 bits, 0.1 to 0.3): close to one.")
    assert "cluster" in gap_sentence("it", Interval(2.0, 1.0, 3.0), 4)


def test_every_number_is_active_and_none_of_a_constant_channel(tmp_path, gaussian: Findings) -> None:
    assert gaussian.value("active") == NUMBERS and gaussian.warnings == []
    levels = draw_levels(COUNT)
    levels[..., 1] = 100
    findings = found(tmp_path, LinearSubject(0.1), levels)
    assert findings.value("active") == NUMBERS * 2 / 3
    assert len(findings.warnings) == 1 and findings.warnings[0].startswith("Channel 2 is constant")


def test_the_coder_writes_the_rate(gaussian: Findings) -> None:
    excess = gaussian.value("coder_excess")
    assert excess is not None and abs(excess) < 1
    drawn = gaussian.value("rate_draws")
    above = gaussian.value("information_above")
    assert drawn is not None and above is not None and drawn == pytest.approx(above / 32**2, rel=0.1)
    assert gaussian.value("rate_at_draws") is None, "their noise is more than that of the coarsest step"
    assert any("No step of quantised latents has that PSNR" in each for each in gaussian.sentences)
    (table,) = [each for each in gaussian.tables if each.name == "rate"]
    assert {row[0] for row in table.rows} == {
        "latents",
        "draws of the latents",
        "JPEG",
        "JPEG without headers",
        "WebP",
    }
    for row in table.rows:
        psnr, low, high = (row[table.head.index(name)] for name in ("PSNR, dB", "PSNR: low", "PSNR: high"))
        assert low < psnr < high, row


def test_an_encoder_without_a_posterior(tmp_path) -> None:
    findings = found(tmp_path, LinearSubject(None))
    assert findings.value("kl_image") is None and findings.value("information_above") is None
    assert findings.value("rate") is not None
    assert "no posterior" in findings.sentences[0]


def test_images_that_are_all_the_same_are_refused(tmp_path) -> None:
    with pytest.raises(AnalysisError, match="all 64 images have the same latents"):
        found(tmp_path, LinearSubject(), draw_levels(1).repeat(64, 0))


class ChannelSubject(LinearSubject):
    """One channel's posterior differs: its means times `gain` and moved by `offset`, and its own deviation."""

    def __init__(self, gain: float, offset: float, deviation: float) -> None:
        super().__init__(0.1)
        self.other = gain, offset, deviation

    def _encode_images(self, images: list[Any]) -> np.ndarray:
        moments = super()._encode_images(images)
        gain, offset, deviation = self.other
        moments[:, 1] = gain * moments[:, 1] + offset
        moments[:, 4] = 2 * np.log(deviation)
        return moments


@pytest.mark.parametrize(
    ("gain", "offset", "deviation", "active", "reason"),
    [
        (0.0, 0.0, 1.0, 0.0, "has collapsed: its KL is 0 bits"),
        (0.5, 0.0, 0.99, 1.0, "has collapsed"),  # active by its means of variance 1/64, and N(0, 1) to the decoder
        (0.0, 0.0, 0.1, 0.0, "is constant"),  # inactive, and far from N(0, 1)
        (0.0, 2.0, 0.9, 0.0, "is constant"),
        (2.0, 0.0, 0.8, 1.0, "is mostly noise"),
        (4.0, 0.0, 0.1, 1.0, ""),
    ],
)
def test_channels_are_told_by_their_kl_too(
    tmp_path, gain: float, offset: float, deviation: float, active: float, reason: str
) -> None:
    findings = found(tmp_path, ChannelSubject(gain, offset, deviation))
    (table,) = [each for each in findings.tables if each.name == "channels"]
    _, kl, low, high, _, share, *_ = table.rows[1]
    assert isinstance(low, float) and isinstance(high, float)
    expected = 0.5 * ((gain / 4) ** 2 + offset**2 + deviation**2 - 1 - 2 * math.log(deviation)) / math.log(2)
    assert kl == pytest.approx(expected, rel=0.05, abs=1e-6) and low <= kl + 1e-9 and kl - 1e-9 <= high
    assert share == pytest.approx(active, abs=0.1)
    warned = [each.removeprefix("Channel 2 ") for each in findings.warnings]
    assert len(warned) == bool(reason) and all(each.startswith(reason) for each in warned)


def test_what_is_said_of_channels_and_bounds() -> None:
    assert channels_sentence(1.0, 0, 4).endswith("are active, and no channel carries less than it could.")
    assert channels_sentence(1.0, 1, 4).endswith("1 of 4 channels carries less than it could.")
    assert channels_sentence(0.5, 2, 4).endswith("2 of 4 channels carry less than they could.")
    assert channels_sentence(0.0, 1, 1).endswith("their only channel carries less than it could.")
    assert between(None, 1421.6) == "at most 1,422" and between(3.0, 20.0) == "between 3 and 20"
    assert between(3.2, 3.1) == "about 3.1"


def test_latents_of_few_numbers_have_no_more_components(tmp_path) -> None:
    study, findings = make_study(tmp_path, draw_levels(COUNT, side=CELL), LinearSubject(0.1)), Findings()
    add_entropies(findings, study)
    titles = {each.name: each.title for each in findings.figures}
    assert titles["entropy_components"].startswith("Entropy of the first 3 principal components")
