"""The section on an autoencoder that keeps mean colours, with images of its own to draw."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ldm_export.analyze.features import Extractor
from ldm_export.analyze.findings import Figure, Findings
from ldm_export.analyze.sections import quality, quality_drawn
from ldm_export.analyze.sections.quality import measure
from ldm_export.analyze.sections.quality_sets import told_sentence
from ldm_export.analyze.sections.work_budget import WorkBudget
from ldm_export.analyze.study import levels
from ldm_export.errors import AnalysisError
from ldm_runtime.package import safetensors
from tests.analyze.flow_pipe import MixturePipe
from tests.analyze.linear_study import CELL, LinearSubject, make_study
from tests.train.conftest import vgg_tensors

pytestmark = pytest.mark.slow  # each measures a section

COUNT = 96


@pytest.fixture(autouse=True)
def set_budget(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let an image that is drawn be one multiply-accumulate, and set how many there may be; by default enough."""

    def most(macs: float) -> None:
        monkeypatch.setattr(quality, "budget_of", lambda study: WorkBudget(1.0, 1.0, macs))

    monkeypatch.setattr(quality_drawn, "image_work", lambda study, budget: 1.0)
    most(1e9)
    return most


class DrawingSubject(LinearSubject):
    """Draws images that a test gives it, in their order."""

    def __init__(self, drawn: np.ndarray, *, inpaints: bool = False) -> None:
        super().__init__()
        self.drawn, self.asked = drawn, 0
        self.contract.inpaints = inpaints
        self.pipe.sample = self._sample

    def _sample(self, prompts: list[str], seed: list[int]) -> Any:
        images = self.drawn[self.asked : self.asked + len(prompts)]
        self.asked += len(prompts)
        pixels = images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        return [None, SimpleNamespace(decode=lambda: pixels)]


def classify(features: np.ndarray) -> np.ndarray:
    """Name the strongest colour, more or less surely."""
    weights = np.exp(40 * features.astype(np.float64))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def found(tmp_path, levels: np.ndarray, subject: LinearSubject, *, classes: bool = True, **facts: Any) -> Findings:
    subject.contract.inpaints = getattr(subject.contract, "inpaints", False)
    study = make_study(tmp_path / "kept", levels, subject, **facts)
    study.pictures.__dict__["folder"] = tmp_path
    study.extractor = Extractor("mean colour", study.extractor.compute, classify if classes else None)
    findings = measure(study)
    findings.require_finite()
    return findings


def captions(count: int) -> tuple[str, ...]:
    return tuple(f"thing {number}, {('flat', '3d')[number % 2]} style" for number in range(count))


def squares(count: int, seed: int = 0) -> np.ndarray:
    """Images that the autoencoder keeps whole."""
    colours = np.random.default_rng(seed).integers(40, 216, (count, 8, 8, 3), np.uint8)
    return colours.repeat(CELL, 1).repeat(CELL, 2)


def figure(findings: Findings, name: str) -> Figure:
    (one,) = [each for each in findings.figures if each.name == name]
    return one


def test_noise_that_is_lost_has_its_error(tmp_path) -> None:
    """Noise of 20 levels within a cell of 16 pixels: its mean stays, which leaves 15/16 of its variance as error."""
    noise = np.random.default_rng(1).normal(0, 20, (COUNT, 32, 32, 3))
    levels = np.clip(np.rint(128 + noise), 0, 255).astype(np.uint8)
    findings = found(tmp_path, levels, LinearSubject())
    expected = 10 * np.log10(255**2 / (400 * 15 / 16))
    assert findings.value("psnr") == pytest.approx(expected, abs=0.1)
    ssim = findings.value("ssim")
    assert ssim is not None and ssim < 0.9
    assert any("Drawn images were not compared with real ones: the images have no captions" in each
               for each in findings.sentences)  # fmt: skip


def test_what_is_kept_is_equal(tmp_path) -> None:
    findings = found(tmp_path, squares(COUNT), LinearSubject())
    assert findings.value("psnr") == pytest.approx(138.1, abs=0.1)
    assert findings.value("ssim") == pytest.approx(1) and findings.value("ms_ssim") == pytest.approx(1)
    assert findings.value("features") == pytest.approx(0, abs=1e-6)
    assert findings.sentences[0] == "Reconstructions are equal to their images, in 8 bits."
    assert figure(findings, "perceptual").value is None and "vgg16.safetensors" in figure(findings, "perceptual").note


def test_the_perceptual_distance_is_a_share_of_that_of_other_images(tmp_path) -> None:
    safetensors.write(tmp_path / "vgg16.safetensors", vgg_tensors())
    same = found(tmp_path / "a", squares(COUNT), LinearSubject())
    assert same.value("perceptual") is None, "the weights lie beside the images"
    assert found(tmp_path, squares(COUNT), LinearSubject()).value("perceptual") == pytest.approx(0, abs=1e-4)
    again = tmp_path / "again"
    again.mkdir()
    safetensors.write(again / "vgg16.safetensors", vgg_tensors())
    noise = np.random.default_rng(1).normal(0, 40, (COUNT, 32, 32, 3))  # of which most is lost, as in another image
    lost = found(again, np.clip(128 + noise, 0, 255).astype(np.uint8), LinearSubject()).value("perceptual")
    assert lost is not None and 50 < lost < 150


def test_drawn_images_of_the_same_kind_are_not_told_from_real_ones(tmp_path) -> None:
    findings = found(tmp_path, squares(COUNT), DrawingSubject(squares(COUNT, seed=5)), captions=captions(COUNT))
    real, drawn = figure(findings, "frechet_images"), figure(findings, "frechet_drawn")
    assert real.value is not None and drawn.value is not None and real.high is not None
    assert drawn.value < 2 * real.high
    assert any("drawn images are not told from real images in" in each for each in findings.sentences)
    assert findings.value("frechet_all_drawn") is not None, "three features need no more images"
    assert {each.name for each in findings.pictures} == {"worst", "drawn"}


def test_drawn_images_that_are_all_alike_are_told(tmp_path) -> None:
    grey = np.full((COUNT, 32, 32, 3), 128, np.uint8)
    findings = found(tmp_path, squares(COUNT), DrawingSubject(grey), captions=captions(COUNT))
    real, drawn = findings.value("frechet_images"), findings.value("frechet_drawn")
    assert real is not None and drawn is not None and drawn > 2 * real
    assert any(each.startswith("As a set, drawn images are told from real") for each in findings.sentences)
    assert findings.value("score_drawn") == pytest.approx(1)
    assert any(each.startswith("Drawn images are less clear or less varied") for each in findings.sentences)
    score = findings.value("score_images")
    assert score is not None and 1.5 < score <= 3


def test_a_small_difference_that_is_the_same_in_every_set_is_not_told() -> None:
    """Each set is a little farther than the real one of the same images; real ones differ by far more."""
    reference = np.linspace(1.0, 2.0, 40)
    assert "Sets of 32 drawn images are not told" in told_sentence("drawn images", reference + 0.01, reference, 32, 4)
    assert "told from real images: " in told_sentence("drawn images", reference + 1, reference, 32, 4)
    assert "so they vary less" in told_sentence("drawn images", reference - 1, reference, 32, 4)


def test_sets_of_the_same_kind_are_told_as_seldom_as_it_says() -> None:
    random, told = np.random.default_rng(0), 0
    for _ in range(300):
        found = told_sentence("sets", random.gamma(2, 1, 1), random.gamma(2, 1, 40), 32, 4)
        told += found.startswith("As a set, sets are told")
    assert 3 <= told <= 27, "5 % of 300 are 15"


def test_reconstructions_are_compared_few_at_once(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    def levels_of(pixels: np.ndarray) -> np.ndarray:
        counts.append(len(pixels))
        return levels(pixels)

    monkeypatch.setattr("ldm_export.analyze.sections.quality.levels", levels_of)
    found(tmp_path, squares(COUNT), LinearSubject())
    assert sum(counts) >= 3 * COUNT and max(counts) <= 16


def test_few_images_have_no_distances_between_sets(tmp_path) -> None:
    findings = found(tmp_path, squares(24), DrawingSubject(squares(24)), captions=captions(24))
    for name in ("frechet_reconstructions", "frechet_drawn", "score_drawn"):
        assert figure(findings, name).value is None and "needs 96, and there are 24" in figure(findings, name).note
    assert findings.value("psnr") is not None


def test_a_network_of_many_features_has_none_of_all_of_them_and_one_without_classes_no_score(tmp_path) -> None:
    levels = squares(COUNT)
    study = make_study(tmp_path / "kept", levels, LinearSubject())
    study.subject.contract.inpaints = False  # type: ignore[misc]
    study.extractor = Extractor("pixels", lambda images: images.reshape(len(images), -1).astype(np.float32))
    findings = measure(study)
    note = figure(findings, "frechet_all").note
    assert "Sets of 32 images are too few for 3072 features" in note and "It takes 18,432 images" in note
    assert findings.value("frechet_reconstructions") is not None
    assert figure(findings, "score_images").note == "pixels has no classes."


def test_images_that_are_all_sure_and_different_are_at_the_ceiling(tmp_path) -> None:
    study = make_study(tmp_path / "kept", squares(COUNT), LinearSubject())
    study.subject.contract.inpaints = False  # type: ignore[misc]
    study.extractor = Extractor("own", study.extractor.compute, lambda features: np.eye(len(features)))
    findings = measure(study)
    assert "At its ceiling: 32 images score at most 32" in figure(findings, "score_images").note


def test_a_model_that_inpaints_draws_nothing(tmp_path) -> None:
    subject = DrawingSubject(squares(COUNT), inpaints=True)
    findings = found(tmp_path, squares(COUNT), subject, captions=captions(COUNT))
    assert subject.asked == 0
    assert any("the model draws only from an image" in each for each in findings.sentences)


def test_an_autoencoder_that_makes_nan_is_refused(tmp_path) -> None:
    subject = LinearSubject()
    decode = subject.pipe.decode_array
    subject.pipe.decode_array = lambda latents: decode(latents) * np.float32("nan")
    with pytest.raises(AnalysisError, match="NaN or infinity"):
        found(tmp_path, squares(COUNT), subject)


def test_an_interruption_draws_no_image_twice(tmp_path) -> None:
    subject = DrawingSubject(squares(COUNT))
    found(tmp_path, squares(COUNT), subject, captions=captions(COUNT))
    assert subject.asked == 32
    found(tmp_path, squares(COUNT), subject, captions=captions(COUNT))
    assert subject.asked == 32


@pytest.mark.parametrize(("most", "drawn", "cut"), [(32, 32, False), (31, 6, False), (3, 3, True), (0, 2, True)])
def test_images_are_drawn_as_far_as_the_budget_goes(tmp_path, set_budget, most: int, drawn: int, cut: bool) -> None:
    """32 are a set; where that does not fit, six are shown, or as many as fit."""
    set_budget(float(most))
    subject = DrawingSubject(squares(COUNT))
    findings = found(tmp_path, squares(COUNT), subject, captions=captions(COUNT))
    assert subject.asked == drawn
    lacking = [each for each in findings.sentences if each.startswith("Drawn images were not compared")]
    assert len(lacking) == (drawn < 32) and all("32 drawn images, the fewest that it takes" in each for each in lacking)
    assert any(f"drawn images: {drawn} of 6" in each for each in findings.sentences) == cut
    assert any(each.name == "drawn" for each in findings.pictures)


def test_the_work_of_an_image_is_that_of_its_evaluations_and_of_decoding_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    study: Any = SimpleNamespace(
        subject=SimpleNamespace(contract=MixturePipe(np.zeros((1, 4)), 1.0, guidance=3).contract)
    )
    assert quality_drawn.image_work(study, WorkBudget(10.0, 3.0, 1.0)) == 20 * 2 * 10 + 3


def test_quantiles_have_intervals_and_single_images_none(tmp_path) -> None:
    noise = np.random.default_rng(1).normal(0, np.linspace(5, 40, COUNT)[:, None, None, None], (COUNT, 32, 32, 3))
    findings = found(tmp_path, np.clip(np.rint(128 + noise), 0, 255).astype(np.uint8), LinearSubject())
    (table,) = [each for each in findings.tables if each.name == "pairs"]
    rows = {row[0]: dict(zip(table.head, row, strict=True)) for row in table.rows}
    for name in ("PSNR, dB", "SSIM", "MS-SSIM"):
        ends = [rows[each][f"{name}: {end}"] for each in ("the worst", "the best") for end in ("low", "high")]
        assert ends == [None] * 4
        half = rows["half are below"]
        assert half[f"{name}: low"] < half[name] < half[f"{name}: high"]
    assert "95 % by bootstrap over 96 images" in table.note
