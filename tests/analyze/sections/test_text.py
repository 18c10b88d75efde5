"""Text, of a denoiser that is the best there is for Gaussian latents around a mean that their caption says."""

import math
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ldm_export.analyze.caption_errors import other_captions
from ldm_export.analyze.denoiser import Condition
from ldm_export.analyze.findings import Findings
from ldm_export.analyze.sections import SECTIONS, text_captions, text_parts
from ldm_export.analyze.sections.text import _scale_sentence, best_scale, middle_sentence, shown_bits, whole_sentence
from ldm_export.analyze.sections.work_budget import WorkBudget
from ldm_export.analyze.statistics import Interval
from ldm_export.analyze.study import Study
from ldm_export.errors import AnalysisError
from ldm_runtime.sampling.schedule import NoiseSchedule
from ldm_runtime.sampling.solvers.rows import Level
from tests.analyze.linear_study import LinearSubject, draw_levels, make_study

pytestmark = pytest.mark.slow  # imports matplotlib

COUNT, SHAPE = 12, (2, 3, 3)
SPREAD, REST = 1.0, 0.1  # variance of what concept or style adds to the mean of the latents, and what they leave
# Reaches far into pure noise and clear images, so that the integral is whole.
SCHEDULE = NoiseSchedule(1000, 1e-5, 0.05, "linear", "epsilon", "trailing", 1, True, False)
CAPTIONS = tuple(f"thing{number}, {('flat', '3d')[number % 2]} style" for number in range(COUNT))


def addition(part: str) -> np.ndarray:
    """What a part of a caption says about the mean, drawn of N(0, SPREAD)."""
    return math.sqrt(SPREAD) * np.random.default_rng(zlib.crc32(part.encode())).standard_normal(SHAPE)


class BestDenoiser:
    """Takes the place of Denoiser; a part that is missing leaves its variance."""

    heed = 1.0  # how much of what a text says it believes

    def __init__(self, subject: object) -> None:
        pass

    def condition(self, texts: list[str]) -> Condition:
        rows = []
        for text in texts:
            parts = {part.split()[-1] == "style": part for part in text.split(", ") if part}
            mean = sum((addition(part) for part in parts.values()), np.zeros(SHAPE))
            rows.append(np.append(self.heed * mean.ravel(), REST + SPREAD * (2 - len(parts))))
        return Condition(np.stack(rows)[:, None], np.empty((len(texts), 0)))

    def noise(self, z: np.ndarray, level: Level, condition: Condition) -> np.ndarray:
        mean = condition.context[:, 0, :-1].reshape(z.shape)
        variance = condition.context[:, 0, -1].reshape(-1, 1, 1, 1)
        gain = level.alpha * variance / (level.alpha**2 * variance + level.sigma**2)
        clean = mean + gain * (z - level.alpha * mean)
        return np.asarray((z - level.alpha * clean) / level.sigma)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(BestDenoiser, "heed", 1.0)
    monkeypatch.setattr(text_captions, "Denoiser", BestDenoiser)
    monkeypatch.setattr(text_parts, "Denoiser", BestDenoiser)
    monkeypatch.setattr(text_captions, "QUICK_LEVELS", 24)
    monkeypatch.setattr(text_captions, "PAIRS", 8)
    set_budget(monkeypatch, 1e9)
    subject = LinearSubject()
    subject.contract.schedule, subject.contract.embeds_guidance = SCHEDULE, False
    subject.contract.defaults = SimpleNamespace(guidance=3.0)
    made = make_study(tmp_path / "kept", draw_levels(COUNT), subject, captions=CAPTIONS)
    random = np.random.default_rng(0)
    means = [sum(addition(part) for part in caption.split(", ")) for caption in CAPTIONS]
    made.__dict__["latents"] = np.stack(means) + math.sqrt(REST) * random.standard_normal((COUNT, *SHAPE))
    return made


def set_budget(monkeypatch: pytest.MonkeyPatch, most: float) -> None:
    """Let an evaluation be one multiply-accumulate."""
    monkeypatch.setattr("ldm_export.analyze.sections.text.budget_of", lambda study: WorkBudget(1.0, 1.0, most))


def measured(study: Study) -> Findings:
    findings = SECTIONS["text"].measure(study)
    findings.require_finite()
    return findings


def bits(before: float, after: float) -> float:
    """Information that shrinks the variance of all numbers of the latents."""
    return 0.5 * math.prod(SHAPE) * math.log2(before / after)


def test_information_of_gaussians(study: Study) -> None:
    findings = measured(study)
    for name, known, tolerance in (
        ("information", bits(2 * SPREAD + REST, REST), 0.15),  # of twelve images alone
        ("information_by_distance", bits(2 * SPREAD + REST, REST), 0.15),
        ("concept_without", bits(SPREAD + REST, REST), 0.15),
        ("concept_alone", bits(2 * SPREAD + REST, SPREAD + REST), 0.4),
        ("best_scale", 1.0, 0.1),
    ):
        assert findings.value(name) == pytest.approx(known, rel=tolerance), name
    another, told = findings.value("information_of_another"), findings.value("information")
    assert another is not None and told is not None and another < 0 < told
    assert any("of the right size" in each for each in findings.sentences)
    assert any("does harm" in each for each in findings.sentences)
    (half,) = [each for each in findings.figures if each.name == "noise_at_half"]
    assert half.value is not None and half.low is not None and half.high is not None
    assert half.low <= half.value <= half.high and half.low < half.high
    (words,) = [each for each in findings.tables if each.name == "words"]
    concepts = [row[2] for row in words.rows if str(row[1]).startswith("thing")]
    assert concepts and all(isinstance(value, float) and value > 0 for value in concepts)


def test_a_denoiser_that_does_not_listen_learns_nothing(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BestDenoiser, "condition", lambda self, texts: condition_of_nothing(len(texts)))
    findings = measured(study)
    assert findings.value("information") == 0 and findings.value("noise_at_half") is None
    assert findings.sentences[0].startswith("That captions tell anything of these images cannot be seen")


def condition_of_nothing(count: int) -> Condition:
    rows = np.zeros((count, 1, math.prod(SHAPE) + 1))
    rows[..., -1] = 2 * SPREAD + REST
    return Condition(rows, np.empty((count, 0)))


def test_texts_heeded_too_much_are_seen(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BestDenoiser, "heed", 2.0)
    findings = measured(study)
    scale = findings.value("best_scale")
    assert scale is not None and scale < 0.8
    assert findings.value("information_by_distance") != pytest.approx(findings.value("information"), rel=0.3)


def test_captions_that_mislead_are_seen(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BestDenoiser, "heed", -1.0)
    findings = measured(study)
    told = findings.value("information")
    assert told is not None and told < 0
    assert findings.sentences[0].startswith("Captions mislead the denoiser")
    assert not any("Half of what the caption tells" in each or "right size" in each for each in findings.sentences)


def test_it_measures_the_same_again(study: Study) -> None:
    first = measured(study).to_json()
    for kept in study.folder.iterdir():
        kept.unlink()
    assert measured(study).to_json() == first


def test_captions_of_one_part(study: Study) -> None:
    changed = study.pictures
    object.__setattr__(changed, "captions", tuple(each.replace(",", " in") for each in CAPTIONS))
    findings = measured(study)
    assert any("needs captions of several parts" in each for each in findings.sentences)
    assert findings.value("information") is not None


def test_a_model_that_was_distilled_with_guidance_is_refused(study: Study) -> None:
    study.subject.contract.embeds_guidance = True  # type: ignore[misc]
    with pytest.raises(AnalysisError, match="distilled with guidance"):
        measured(study)


def test_nan_is_refused(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BestDenoiser, "noise", lambda self, z, level, condition: np.full(z.shape, np.nan))
    with pytest.raises(AnalysisError, match="NaN"):
        measured(study)


def test_the_best_scale_of_predictions() -> None:
    assert best_scale(np.array([[2.0, 2.0], [4.0, 4.0]])) == 1
    assert best_scale(np.array([[0.0, 3.0]])) == 0.5
    assert best_scale(np.array([[0.0, 0.0]])) == 1


def test_another_caption_always_differs() -> None:
    assert other_captions(["a", "a", "b"]) == ["b", "b", "a"]
    assert other_captions(["a", "a"]) == ["", ""]


def test_what_is_said_of_captions_has_no_odd_number() -> None:
    some, harm, little = Interval(430.4, 300, 500), Interval(-3148.8, -4600, -1800), Interval(0.2, -1, 2)
    said = whole_sentence(some, harm, some, 15.3)
    assert said.startswith("A caption tells the denoiser 430 bits of its image. ")
    assert said.endswith("does harm: with it the noise is found 3,149 bits worse than without a text.")
    assert "takes" not in whole_sentence(some, harm, some, 0.0), "a single image is told from none"
    assert whole_sentence(some, little, some, 1.0).endswith("tells nothing that can be seen.")
    assert whole_sentence(some, Interval(3, 1, 5), some, 1.0).endswith("caption tells less: 3 bits.")
    assert "0.2 bits worse than without, and" in whole_sentence(Interval(-0.2, -1, 2), little, some, 1.0)
    assert (shown_bits(1.0), shown_bits(15.26), shown_bits(0.0)) == ("1 bit", "15.3 bits", "0 bits")


def test_the_middle_outweighs_only_where_its_interval_says_so() -> None:
    assert "noise outweighs the image" in middle_sentence(Interval(3.0, 1.2, 9.0))
    assert "the image already outweighs" in middle_sentence(Interval(0.5, 0.3, 0.9))
    for low, high in ((0.5, 9.0), (math.nan, math.nan)):
        assert "do not tell" in middle_sentence(Interval(3.0, low, high))


def test_the_best_scale_is_off_only_where_its_interval_says_so() -> None:
    assert "is of the right size: " in _scale_sentence(Interval(1.05, 1.02, 1.08), 3)
    assert "too small" in _scale_sentence(Interval(1.5, 1.2, 1.8), 3)
    assert "too large" in _scale_sentence(Interval(0.5, 0.2, 0.8), 3)
    assert "as far as these images tell" in _scale_sentence(Interval(1.5, 0.8, 2.2), 3)


def test_a_large_model_is_measured_at_the_least_and_it_says_what_more_would_be(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of twelve images: four, at eight levels, without parts; one caption word by word, of its first six words."""
    monkeypatch.setattr(text_parts, "without_words", without := Recorded(text_parts.without_words))
    set_budget(monkeypatch, 1.0)
    findings = measured(study)
    (told,) = [each for each in findings.figures if each.name == "information"]
    assert told.value is not None and told.interval == "range of 4 images"
    assert not any(each.name.startswith(("concept", "style")) for each in findings.figures)
    text_levels = 2 * 8 * 8  # draws of a text, at eight levels
    parts, whole = (8 * texts * text_levels / 1e12 for texts in (3 + 4, 3))
    for said in (
        f"What parts of captions tell was not measured: 8 images, the fewest that it takes, would be {parts:.3g} TMAC",
        f"a bootstrap takes 8, which would be {whole:.3g} TMAC.",
        "noise levels: 8 of 24; captions: 4 of 10; words of a caption: 6 of 12; captions word by word: 1 of 2.",
    ):
        assert any(said in each for each in findings.sentences), (said, findings.sentences)
    assert [most for _, most in without.asked] == [6]


class Recorded:
    """A function that remembers what it was asked."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.asked: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any) -> Any:
        self.asked.append(arguments)
        return self.function(*arguments)


def test_a_model_of_usual_work_is_measured_whole(study: Study) -> None:
    findings = measured(study)
    assert not any("range of single" in each or "TMAC" in each for each in findings.sentences)
    assert findings.value("style_alone") is not None
