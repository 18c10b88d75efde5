"""The section on exact denoisers: a line to one image, a mixture whose pairs are the best, and turned paths."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from ldm_export.analyze.findings import Figure, Findings
from ldm_export.analyze.flow_path import Paths, gaussian_paths
from ldm_export.analyze.sections import transport
from ldm_export.analyze.sections.work_budget import WorkBudget
from ldm_export.analyze.statistics import Interval
from ldm_export.errors import AnalysisError
from ldm_runtime.errors import NonFiniteError
from tests.analyze.flow_pipe import MixturePipe
from tests.analyze.linear_study import CELL, LinearSubject, draw_levels, make_study

pytestmark = pytest.mark.slow  # each measures a section

SIDE, COUNT = 16, 64
SIZE = 3 * (SIDE // CELL) ** 2


@pytest.fixture
def found(tmp_path, monkeypatch: pytest.MonkeyPatch):
    def measure(
        pipe: MixturePipe,
        *,
        count: int = COUNT,
        deviation: float | None = 0.1,
        folder: str = "kept",
        brightness: int = 0,
        most: float = 1e9,
        **facts: Any,
    ) -> Findings:
        subject = LinearSubject(deviation)
        cast(Any, pipe).decode_array = lambda latents: subject.pipe.decode_array(np.array(latents))
        subject.contract = SimpleNamespace(**{**vars(pipe.contract), **vars(subject.contract)})
        cast(Any, subject).size = (SIDE, SIDE)
        monkeypatch.setattr(transport, "flow_pipeline", lambda subject: pipe)
        monkeypatch.setattr(transport, "budget_of", lambda study: WorkBudget(1.0, 1.0, most))
        levels = np.clip(draw_levels(count, SIDE).astype(int) + brightness, 0, 255).astype(np.uint8)
        study = make_study(tmp_path / folder, levels, subject, **facts)
        findings = transport.measure(study)
        findings.require_finite()
        return findings

    return measure


def one_image() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(1, SIZE))


def figure(findings: Findings, name: str) -> Figure:
    (one,) = [each for each in findings.figures if each.name == name]
    return one


def test_the_way_to_one_image_is_straight_and_no_steps_are_told_apart(found) -> None:
    findings = found(MixturePipe(one_image(), 0.0))
    assert findings.value("bending") == pytest.approx(0, abs=1e-3)
    assert findings.value("detour") == pytest.approx(0, abs=1e-3)
    assert any(each.startswith("The way from noise to an image is almost straight") for each in findings.sentences)
    assert any("errors of few steps were not measured" in each for each in findings.sentences)
    assert findings.value("bending_gaussian") is not None and "bending_guided" not in str(findings.figures)
    assert findings.value("psnr") is not None and findings.value("rate") is not None


def test_a_mixture_saves_what_pairing_could_and_few_steps_suffice(found) -> None:
    image = one_image()
    findings = found(MixturePipe(np.concatenate([image, -image]), 0.05), captions=("a",) * COUNT)
    cost, best = findings.value("cost"), findings.value("cost_best")
    assert cost is not None and best is not None and best <= cost + 1e-9
    saved = findings.value("saved")
    assert saved is not None and saved > 90
    bound = figure(findings, "cost_bound")
    assert (
        bound.value is not None and bound.low is not None and bound.low <= bound.value and "5 random" in bound.interval
    )
    needed = findings.value("steps_needed_euler")
    assert needed is not None and needed <= 8
    assert figure(findings, "relation").value is None and "needs 16 images" in figure(findings, "relation").note
    (table,) = [each for each in findings.tables if each.name == "few_steps"]
    assert {row[0] for row in table.rows} == {"ddim", "dpmpp_2m"}
    errors = [row[2] for row in table.rows if row[0] == "ddim"]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0]
    assert {each.name for each in findings.pictures} == {"bending", "few_steps", "steps"}


def test_turned_paths_bend(found) -> None:
    image = one_image()
    means = np.concatenate([image, -image])
    exact, turned = found(MixturePipe(means, 0.3)), found(MixturePipe(means, 0.3, turn=0.4), folder="turned")
    before, bending = exact.value("bending"), turned.value("bending")
    assert before is not None and bending is not None and bending > before + 10
    assert any(each.startswith("The way from noise to an image bends") for each in turned.sentences)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [((0.5, 0.09, 0.05), 2), ((0.05, 0.05, 0.05), 1), ((0.05, 0.5, 0.05), 4), ((0.5, 0.5, 0.2), None)],
)
def test_steps_suffice_from_which_on_none_miss(errors: tuple[float, ...], expected: int | None) -> None:
    study: Any = SimpleNamespace(random=lambda name: np.random.default_rng(0))
    flow: Any = SimpleNamespace(many=25)
    by_steps = dict(zip((1, 2, 4), (np.full(8, each) for each in errors), strict=True))
    needed = transport._needed(study, "key", "ddim", by_steps, flow)
    assert needed.value == expected
    assert needed.note == ("4 steps do not." if expected is None else "")


def test_few_images_have_the_range_of_their_steps() -> None:
    study: Any = SimpleNamespace(random=lambda name: np.random.default_rng(0))
    flow: Any = SimpleNamespace(many=25)
    errors = {1: np.array([0.05, 0.2]), 2: np.array([0.05, 0.12]), 4: np.array([0.01, 0.05])}
    needed = transport._needed(study, "key", "ddim", errors, flow)
    assert (needed.value, needed.low, needed.high, needed.interval) == (2, 1, 4, "range of 2 images")
    errors[4][1] = 0.15
    needed = transport._needed(study, "key", "ddim", errors, flow)
    assert (needed.value, needed.low, needed.interval) == (2, None, "1 or more (range of 2 images)")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.1, 0.5, "tend to end farther off"), (-0.5, -0.1, "tend to end less far off"), (-0.1, 0.4, "not to be told")],
)
def test_the_relation_of_bending_and_error_is_a_correlation(low: float, high: float, said: str) -> None:
    sentence = transport._relation_sentence(Interval((low + high) / 2, low, high), 40, "4 steps")
    assert said in sentence and f"from {low:+.2f} to {high:+.2f}, over 40 images" in sentence
    assert "need" not in sentence


def test_the_gaussian_to_compare_with_has_the_mean_of_the_latents(found, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that are bright all over are no Gaussian around 0."""
    given: list[np.ndarray] = []

    def seen(noise: np.ndarray, means: np.ndarray, deviations: np.ndarray, times: np.ndarray) -> Paths:
        given.extend([means, deviations])
        return gaussian_paths(noise, means, deviations, times)

    monkeypatch.setattr(transport, "gaussian_paths", seen)
    findings = found(MixturePipe(one_image(), 0.0), brightness=60)
    assert given[0].mean() == pytest.approx(60 / 127.5, abs=0.05) and given[1].mean() == pytest.approx(0.25, abs=0.05)
    assert findings.value("bending_gaussian") is not None


def test_guidance_is_followed_where_the_model_draws_with_it(found) -> None:
    findings = found(MixturePipe(one_image(), 0.5, guidance=3.0))
    guided, without = findings.value("bending_guided"), findings.value("bending")
    assert guided == pytest.approx(without, rel=0.2), "this denoiser does not heed it"
    assert any(each.startswith("That guidance bends it more or less") for each in findings.sentences)
    assert findings.value("steps_needed_guided") == findings.value("steps_needed_euler")


def test_what_guidance_does_is_told_from_the_same_noise() -> None:
    def said(low: float, high: float) -> str:
        return transport.guided_sentence(12.0, 10.0, Interval(2.0, low, high), 3.0)

    assert said(1, 3).startswith("Guidance bends it more: 12.0 % of the motion with a guidance of 3, 10.0 % without")
    assert said(-3, -1).startswith("Guidance bends it less") and "do not tell" in said(-1, 3)


def test_few_images_have_no_bound_and_an_encoder_without_noise_no_rate(found) -> None:
    findings = found(MixturePipe(one_image(), 0.5), count=16, deviation=None)
    assert "needs 64 images" in figure(findings, "cost_bound").note
    assert "no posterior" in figure(findings, "rate").note


def test_a_large_model_is_followed_on_the_fewest_paths(found) -> None:
    """Evaluations are counted: of a model that takes all of the budget at once they are the least."""
    evaluations = []
    pipe = MixturePipe(one_image(), 0.5, guidance=3.0)
    pipe._data = lambda x, alpha, sigma, data=pipe._data: evaluations.append(len(x)) or data(x, alpha, sigma)
    findings = found(pipe, most=1.0)
    assert "range of 4 images" in figure(findings, "bending").interval
    assert "5 steps, empty prompt, batches of 24" in figure(findings, "cost").estimator
    assert any("paths: 4 of 8; steps to pairs: 5 of 10" in each for each in findings.sentences)
    few = sum((1, 2, 4, 8))
    assert sum(evaluations) == 4 * 25 * 2 + 4 * few * 3 + 24 * 5, "what the picture shows is not drawn again"


def test_a_model_that_inpaints_is_refused(found) -> None:
    pipe = MixturePipe(one_image(), 0.5)
    pipe.contract.inpaints = True
    with pytest.raises(AnalysisError, match="no way from noise alone"):
        found(pipe)


def test_nan_names_its_step(found) -> None:
    with pytest.raises(NonFiniteError, match="step 1 of 25"):
        found(MixturePipe(one_image() * np.nan, 0.5))


def test_the_same_seed_gives_the_same_figures(found) -> None:
    image = one_image()
    pipe = MixturePipe(np.concatenate([image, -image]), 0.2)
    assert found(pipe, folder="a").figures == found(pipe, folder="b").figures


def test_ways_bend_where_their_interval_says_so() -> None:
    assert transport.ways_bend(Interval(5, 4, 6)).endswith("is almost straight")
    assert transport.ways_bend(Interval(20, 15, 25)).endswith("bends")
    assert transport.ways_bend(Interval(9, 7, 12)).startswith("Whether the way")
