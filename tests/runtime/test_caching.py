"""Runs whose denoiser keeps deep features from row to row: which rows are whole, and what each reads."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldm_runtime.engines.choice import choose
from ldm_runtime.engines.ort.session import OrtEngine
from ldm_runtime.errors import InputError
from ldm_runtime.noise import Noise
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import Pipeline
from ldm_runtime.sampling.loop import guide, run_plan
from tests.runtime import cached_package
from tests.runtime.cached_package import KEPT
from tests.runtime.test_tasks import half_mask, photo

OPTIONS: dict[str, Any] = {"seed": 3, "steps": 6}
Open = Callable[..., Pipeline]


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached_package.make(tmp_path_factory.mktemp("packages") / "cached")


@pytest.fixture
def opened(cached: Path) -> Iterator[Open]:
    """Open the package with a variant of these numbers; None draws exactly."""
    pipes: list[Pipeline] = []

    def open_with(interval: int | None = None, **run: Any) -> Pipeline:
        variant = None if interval is None else cached_package.variant(interval, **run)
        pipes.append(Pipeline(open_package(cached), choose("ort"), variant=variant))
        return pipes[-1]

    yield open_with
    for pipe in pipes:
        pipe.close()


def final(pipe: Pipeline, prompt: Any = "red", **options: Any) -> np.ndarray:
    return list(pipe.sample(prompt, **{**OPTIONS, **options}))[-1].latents


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The graph and the batch of every evaluation of the denoiser, by any engine that is opened afterwards."""
    seen: list[tuple[str, int]] = []
    run = OrtEngine.run

    def recording(self: OrtEngine, feeds: Any) -> dict[str, np.ndarray]:
        made = run(self, feeds)
        if "out_sample" in made:
            seen.append(("deep" if KEPT in made else "shallow" if KEPT in feeds else "exact", len(made["out_sample"])))
        return made

    monkeypatch.setattr(OrtEngine, "run", recording)
    return seen


def by_hand(pipe: Pipeline, interval: int, until: float = 1.0, *, half: slice = slice(1, 2)) -> np.ndarray:
    """The same run, written out for one image: `half` of what was kept is read once guidance has ended."""
    request = pipe.sample("red", **OPTIONS, guidance_interval=(0.0, until)).request
    context = pipe.embed(["", "red"])
    deep, shallow = (OrtEngine(pipe.package.file(f"unet/model.{name}.onnx")) for name in ("deep", "shallow"))
    kept = np.zeros(0, np.float32)
    counted = itertools.count()

    def denoise(x: np.ndarray, timestep: float) -> np.ndarray:
        nonlocal kept
        row, time = next(counted), np.array(timestep, np.float32)
        guided = row / len(request.plan.rows) < until
        batch = 2 if guided else 1
        if row % interval == 0:
            feeds = {"sample": np.repeat(x, batch, axis=0), "timestep": time, "encoder_hidden_states": context[-batch:]}
            made = deep.run(feeds)
            kept = made[KEPT]
        else:
            made = shallow.run({"timestep": time, KEPT: kept if len(kept) == batch else kept[half]})
        output = made["out_sample"]
        return guide(output[:1], output[1:], request.guidance) if guided else output

    noise = Noise("philox", request.seeds, (4, request.height // 8, request.width // 8))
    return list(run_plan(request.plan, denoise, noise.initial(), noise.row))[-1].latents


def test_every_row_whole_is_the_exact_run_to_the_bit(opened: Open) -> None:
    np.testing.assert_array_equal(final(opened(1)), final(opened()))


@pytest.mark.parametrize("interval", [2, 3, 100])
def test_rows_between_read_what_was_kept(opened: Open, evaluations: list[tuple[str, int]], interval: int) -> None:
    drawn = final(opened(interval))
    assert [graph for graph, _ in evaluations] == ["shallow" if row % interval else "deep" for row in range(6)]
    np.testing.assert_array_equal(drawn, by_hand(opened(interval), interval))
    assert np.abs(drawn - final(opened())).max() > 1e-3


def test_a_longer_interval_is_another_run(opened: Open) -> None:
    assert np.abs(final(opened(2)) - final(opened(3))).max() > 1e-3


def test_where_guidance_has_ended_the_prompts_half_is_read(opened: Open, evaluations: list[tuple[str, int]]) -> None:
    drawn = final(opened(4, guidance_until=0.5))
    assert evaluations == [("deep", 2), ("shallow", 2), ("shallow", 2), ("shallow", 1), ("deep", 1), ("shallow", 1)]
    np.testing.assert_array_equal(drawn, by_hand(opened(4), 4, 0.5))
    wrong = by_hand(opened(4), 4, 0.5, half=slice(0, 1))
    assert np.abs(drawn - wrong).max() > 1e-3


def test_where_guidance_begins_later_the_row_is_whole(opened: Open, evaluations: list[tuple[str, int]]) -> None:
    """What was kept of the prompts alone does for no negative prompt."""
    final(opened(4), guidance_interval=(0.3, 1.0))
    assert evaluations == [("deep", 1), ("shallow", 1), ("deep", 2), ("shallow", 2), ("deep", 2), ("shallow", 2)]


def test_rows_are_counted_not_steps(opened: Open, evaluations: list[tuple[str, int]]) -> None:
    pipe = opened(2)
    final(pipe, sampler="heun", steps=3)
    assert [graph for graph, _ in evaluations] == ["deep", "shallow", "deep", "shallow", "deep"]


@pytest.mark.parametrize("mask", [None, half_mask()])
def test_a_run_from_an_image_begins_whole(opened: Open, evaluations: list[tuple[str, int]], mask: Any) -> None:
    options = {"image": photo(), "strength": 0.5, "steps": 6, **({} if mask is None else {"mask": mask})}
    drawn = final(opened(2), **options)
    assert [graph for graph, _ in evaluations] == ["deep", "shallow", "deep"]
    assert np.abs(drawn - final(opened(), **options)).max() > 1e-4


def test_several_images_keep_their_own(opened: Open) -> None:
    pipe = opened(3, guidance_until=0.4)
    together = final(pipe, ["red", "a red egg"], seed=[3, 9])
    for index, (prompt, seed) in enumerate((("red", 3), ("a red egg", 9))):
        np.testing.assert_allclose(together[index], final(pipe, prompt, seed=seed)[0], rtol=1e-4, atol=1e-5)


def test_threads_keep_their_own(opened: Open) -> None:
    """Runs that are advanced in turns, and by threads at once, are those that are drawn alone."""
    pipe = opened(3)
    prompts = ["red", "a red egg", "blue"]
    alone = [final(pipe, prompt) for prompt in prompts]
    runs = [pipe.sample(prompt, **OPTIONS) for prompt in prompts]
    in_turns = list(zip(*runs, strict=True))[-1]
    with ThreadPoolExecutor(3) as pool:
        at_once = list(pool.map(lambda prompt: final(pipe, prompt), prompts))
    for expected, step, other in zip(alone, in_turns, at_once, strict=True):
        np.testing.assert_array_equal(step.latents, expected)
        np.testing.assert_array_equal(other, expected)


def test_an_engine_that_keeps_nothing_draws_every_row_whole(cached: Path, opened: Open) -> None:
    """As one that is given in the place of the package's own."""
    given = OrtEngine(cached / "unet/model.onnx")
    with Pipeline(
        open_package(cached), choose("ort"), engines={"unet": given}, variant=cached_package.variant(2)
    ) as pipe:
        np.testing.assert_array_equal(final(pipe), final(opened()))


def test_picard_is_refused(opened: Open) -> None:
    with pytest.raises(InputError, match="picard evaluates rows of the plan out of order, but .* leave out picard, or"):
        opened(2).sample("red", picard=(4, 0.1))


def test_a_variants_numbers_are_defaults(opened: Open) -> None:
    pipe = opened(2, guidance_until=0.6, steps=3, sampler="euler")
    drawn = pipe.sample("red").request
    assert (drawn.plan.steps, drawn.plan.sampler.name, drawn.plan.caching) == (3, "euler", 2)
    assert drawn.guidance_interval == (0.0, 0.6)
    asked = pipe.sample("red", steps=5, sampler="ddim", guidance_interval=(0.0, 1.0)).request
    assert (asked.plan.steps, asked.plan.sampler.name, asked.guidance_interval) == (5, "ddim", (0.0, 1.0))
    assert opened(2, guidance_until=0.0).sample("red").request.guidance == 1.0
    assert not opened(2, guidance_until=0.0).sample("red").notices


def test_the_plan_of_a_variant_is_of_its_own_identity(opened: Open) -> None:
    plain, cached = (opened(interval).sample("red").request.plan for interval in (None, 2))
    assert plain.identity != cached.identity
    assert dataclasses.replace(cached, identity=plain.identity, caching=None).to_dict() == plain.to_dict()
