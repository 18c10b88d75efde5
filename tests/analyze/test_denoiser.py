"""The denoiser as it is asked, and its levels."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ldm_export.analyze.denoiser import Condition, Denoiser, log_snr, noise_levels
from ldm_export.analyze.subject import open_subject
from ldm_runtime.package.manifest import DenoiserRole, LatentSpec
from ldm_runtime.sampling.loop import data_prediction
from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.sampling.schedule import FlowSchedule, NoiseSchedule
from ldm_runtime.sampling.solvers import read_sampler
from ldm_runtime.sampling.solvers.rows import Level

SHAPE = (2, 4, 4, 4)


def schedule(prediction: str, *, zero: bool = False) -> NoiseSchedule:
    return NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", prediction, "trailing", 1, True, zero)


class Engine:
    """Keeps its feeds and gives the same output always."""

    def __init__(self, output: np.ndarray) -> None:
        self.output, self.feeds = output, {}  # type: ignore[var-annotated]

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.feeds = feeds
        return {"out": self.output}


def subject(chosen: NoiseSchedule | FlowSchedule, **facts: Any) -> Any:
    contract = {
        "schedule": chosen,
        "denoiser": DenoiserRole("unet", "sample", "timestep", "context", {}, "out"),
        "defaults": SimpleNamespace(guidance=3.0, zero_negative=False),
        "inpaints": False,
        "latent": LatentSpec(4, 8, 1.0, 0.0),
    } | facts
    return SimpleNamespace(
        contract=SimpleNamespace(**contract),
        size=(32, 32),
        pipe=SimpleNamespace(
            embed_pooled=lambda texts: (np.ones((len(texts), 3, 5), np.float32), np.ones((len(texts), 0), np.float32)),
            encode=lambda image: np.full((1, 8, 4, 4), 0.5, np.float32),
        ),
    )


@pytest.mark.parametrize(
    "chosen",
    [schedule("epsilon"), schedule("v_prediction"), schedule("sample"), FlowSchedule(1000, 1.0, None)],
    ids=["epsilon", "v", "sample", "flow"],
)
def test_the_noise_that_is_found_is_that_of_the_image_that_a_run_predicts(chosen: NoiseSchedule | FlowSchedule) -> None:
    """A plan's row says by itself which clean latents the same output means."""
    random = np.random.default_rng(0)
    x, output = (random.standard_normal(SHAPE, np.float32) for _ in range(2))
    solver = "flow_euler" if isinstance(chosen, FlowSchedule) else "ddim"
    row = compile_plan(chosen, read_sampler(solver), 4).rows[1]
    denoiser = Denoiser(subject(chosen), Engine(output))
    condition = denoiser.condition(["a", "b"])
    noise = denoiser.noise(x, Level(row.timestep, row.alpha, row.sigma), condition)
    assert row.alpha * data_prediction(row, x, output) + row.sigma * noise == pytest.approx(x, abs=1e-5)


def test_large_latents_are_evaluated_a_few_at_a_time() -> None:
    seen: list[tuple[int, ...]] = []

    class Echo:
        def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            assert len(feeds["sample"]) == len(feeds["context"])
            seen.append(feeds["sample"].shape)
            return {"out": feeds["sample"] * feeds["context"][:, :1, :1, None]}

    denoiser = Denoiser(subject(schedule("epsilon")), Echo())
    x, texts = np.random.default_rng(0).standard_normal((6, 4, 64, 64), np.float32), np.arange(6.0, dtype=np.float32)
    condition = Condition(np.repeat(texts, 15).reshape(6, 3, 5), np.ones((6, 0), np.float32))
    noise = denoiser.noise(x, Level(500.0, 0.6, 0.8), condition)
    assert noise == pytest.approx(x * texts[:, None, None, None]) and [each[0] for each in seen] == [4, 2]
    seen.clear()
    denoiser.noise(x[:, :, :16, :16], Level(500.0, 0.6, 0.8), condition)
    assert [each[0] for each in seen] == [6]


def test_no_text_is_zeros_where_the_model_takes_those() -> None:
    plain = Denoiser(subject(schedule("epsilon")), Engine(np.zeros(SHAPE))).condition(["", "a"])
    zeros = SimpleNamespace(guidance=3.0, zero_negative=True)
    zeroed = Denoiser(subject(schedule("epsilon"), defaults=zeros), Engine(np.zeros(SHAPE))).condition(["", "a"])
    assert plain.context[0].any() and not zeroed.context[0].any() and zeroed.context[1].all()
    assert [row.any() for row in zeroed.repeated(2).context] == [False, False, True, True]


def test_a_model_for_inpainting_gets_a_mask_over_all() -> None:
    engine = Engine(np.zeros(SHAPE))
    denoiser = Denoiser(subject(schedule("epsilon"), inpaints=True), engine)
    denoiser.output(np.zeros(SHAPE), 7.0, denoiser.condition(["a", "b"]))
    sample = engine.feeds["sample"]
    assert sample.shape == (2, 9, 4, 4) and (sample[:, 4] == 1).all() and (sample[:, 5:] == 0.5).all()
    assert engine.feeds["timestep"] == 7


@pytest.mark.parametrize("zero", [False, True])
def test_levels_are_even_in_log_snr(zero: bool) -> None:
    levels = noise_levels(schedule("v_prediction", zero=zero), 9)
    found = log_snr(levels)
    assert len(levels) == 9 and np.isfinite(found).all()
    assert np.diff(found) == pytest.approx(np.diff(found).mean(), rel=0.35)
    bars = schedule("v_prediction", zero=zero).alphas_cumprod()
    for level in levels:
        assert level.alpha**2 == pytest.approx(bars[int(level.timestep)])
    assert levels[0].timestep > levels[-1].timestep == 0


def test_levels_of_straight_paths() -> None:
    levels = noise_levels(FlowSchedule(1000, 3.0, None), 5)
    assert log_snr(levels) == pytest.approx([-10, -5, 0, 5, 10])
    assert all(level.alpha + level.sigma == pytest.approx(1) for level in levels)
    assert levels[2].timestep == pytest.approx(500)


@pytest.mark.slow
def test_the_built_in_denoiser_finds_most_of_the_noise() -> None:
    random = np.random.default_rng(0)
    with open_subject(None) as built_in:
        denoiser = Denoiser(built_in)
        condition = denoiser.condition(["red apple, 3d style", ""])
        clean = np.zeros((2, 4, 16, 16), np.float32)
        for level in noise_levels(built_in.contract.schedule, 5)[:3]:
            noise = random.standard_normal(clean.shape, np.float32)
            found = denoiser.noise(level.sigma * noise, level, condition)
            error = float(np.square(found - noise).mean())
            assert error < 0.7, f"at log-SNR {2 * math.log(level.alpha / level.sigma):.1f}"
