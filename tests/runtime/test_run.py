"""A run: its steps, its metadata, cancelling, its memory, and many of them on one pipeline at the same time."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ldm_runtime
from ldm_runtime.engines.choice import open_engine
from ldm_runtime.errors import Cancelled, EngineError, InputError
from ldm_runtime.pipeline import Pipeline
from ldm_runtime.request import SampleOptions
from tests.runtime.sampling.test_steps import EVALUATIONS
from tests.runtime.watched import Watched

PHOTO = Image.new("RGB", (64, 48), (200, 30, 60))


# --- steps ---


@pytest.mark.parametrize("sampler", EVALUATIONS)
def test_a_run_yields_its_sampling_steps(watched: Pipeline, unet: Watched, sampler: str) -> None:
    run = watched.sample("red", seed=1, steps=5, sampler=sampler, guidance=1.0)
    assert run.total == 5
    for index, step in enumerate(run):
        assert (step.index, step.total) == (index, 5)
        assert step.evaluations == unet.calls == sum(EVALUATIONS[sampler][: index + 1])
        assert step.preview()[0].size == (64, 48)
    assert index == 4 and unet.calls == sum(EVALUATIONS[sampler])
    assert "stopped after" not in step.images()[0].info


@pytest.mark.parametrize("sampler", ["heun", "pndm", "ddim"])
def test_every_evaluation_is_there_for_those_who_ask(pipe: Pipeline, sampler: str) -> None:
    options: SampleOptions = {"seed": 1, "steps": 5, "sampler": sampler}
    steps = list(pipe.sample("red", **options))
    evaluations = list(pipe.sample("red", **options).evaluations())
    assert len(evaluations) == sum(EVALUATIONS.get(sampler, [1] * 5))
    ends = [each for each in evaluations if each.ends_step]
    for step, end in zip(steps, ends, strict=True):
        assert step.index == end.index
        np.testing.assert_array_equal(step.latents, end.latents)


def test_steps_of_a_late_start_are_counted_from_it(pipe: Pipeline) -> None:
    run = pipe.sample("red", seed=1, steps=10, sampler="heun", image=PHOTO, strength=0.5)
    assert run.total == 5 and [(step.index, step.total) for step in run] == [(index, 5) for index in range(5)]


# --- metadata ---


def options_of(info: Mapping[str, str]) -> SampleOptions:
    """The options that an image's metadata says."""
    width, height = map(int, info["size"].split("x"))
    options: SampleOptions = {
        "negative": info["negative"],
        "seed": int(info["seed"]),
        "sampler": info["sampler"],
        "steps": int(info["steps"]),
        "guidance": float(info["guidance"]),
        "size": (width, height),
        "noise": info["noise"],
    }
    if "stopped after" in info:
        options["stop_after"] = int(info["stopped after"])
    if "strength" in info:
        options["strength"] = float(info["strength"])
    if "guidance interval" in info:
        low, high = info["guidance interval"].split(" to ")
        options["guidance_interval"] = (float(low), float(high))
    return options


@pytest.mark.parametrize("sampler", [*EVALUATIONS, "euler_ancestral", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("taken", [1, 3, 5])
def test_a_stopped_run_is_drawn_again_from_what_its_image_says(pipe: Pipeline, sampler: str, taken: int) -> None:
    run = pipe.sample("red", negative="blue", seed=3, steps=5, sampler=sampler)
    for _ in range(taken):
        step = next(run)
    image = step.images()[0]
    run.cancel()
    assert image.info == run.metadata() == step.metadata()
    assert image.info.get("stopped after") == (None if taken == 5 else str(taken))
    again = pipe(image.info["prompt"], **options_of(image.info))[0]
    assert again.tobytes() == image.tobytes() and again.info == image.info


def test_an_image_within_a_step_claims_no_options_that_draw_it(pipe: Pipeline) -> None:
    evaluations = list(pipe.sample("red", seed=3, steps=3, sampler="heun").evaluations())
    assert [each.ends_step for each in evaluations] == [False, True, False, True, True]
    for each in evaluations:
        (info,) = (image.info for image in each.images())
        assert ("within step" in info) is not each.ends_step
        assert ("stopped after" in info) is (each.ends_step and each.index < 2)
    assert evaluations[2].metadata()["within step"] == "2, after evaluation 3"


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_a_preview_says_that_it_is_one(pipe: Pipeline, sampler: str) -> None:
    for each in pipe.sample("red", seed=3, steps=2, sampler=sampler).evaluations():
        (preview,) = each.preview()
        at = str(each.index + 1) if each.ends_step else f"evaluation {each.evaluations}, within step {each.index + 1}"
        assert preview.info == each.preview_metadata() and preview.info["preview after"] == at
        assert not {"stopped after", "within step"} & set(preview.info)
        assert "preview after" not in each.images()[0].info


def test_a_cancelled_step_in_between_leaves_the_image_of_the_step_before(watched: Pipeline, unet: Watched) -> None:
    run = watched.sample("red", seed=3, steps=5, sampler="heun")
    image = next(run).images()[0]
    unet.before = run.cancel  # at the first of the second step's two evaluations
    with pytest.raises(Cancelled, match="cancelled after step 1 of 5"):
        next(run)
    assert run.metadata() == image.info and image.info["stopped after"] == "1"


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 3, "image": PHOTO, "strength": 1 / 3},
        {"steps": 6, "guidance_interval": (1 / 3, 2 / 3)},
        {"steps": 3, "guidance": 1.0 + 1e-12},
    ],
)
def test_numbers_are_told_exactly(watched: Pipeline, unet: Watched, options: SampleOptions) -> None:
    image = watched("red", seed=1, **options)[0]
    calls = unet.calls
    told = options_of(image.info)
    if "image" in options:
        told["image"] = options["image"]
    again = watched("red", **told)[0]
    assert again.tobytes() == image.tobytes() and unet.calls == 2 * calls


def test_stopping_is_an_option(watched: Pipeline, unet: Watched) -> None:
    run = watched.sample("red", steps=9, stop_after=2, guidance=1.0)
    assert run.total == 2 and [(step.index, step.total) for step in run] == [(0, 9), (1, 9)] and unet.calls == 2
    assert run.metadata()["stopped after"] == "2" == run.metadata(0)["stopped after"]
    assert "stopped after" not in watched("red", steps=2, stop_after=2)[0].info


@pytest.mark.parametrize("stop", [0, 6, -1, 2.0, True])
def test_an_impossible_stop_is_refused(pipe: Pipeline, stop: Any) -> None:
    with pytest.raises(InputError, match="stop_after is .*; expected an integer from 1 to 5"):
        pipe.sample("red", steps=10, image=PHOTO, strength=0.5, stop_after=stop)


def test_an_image_that_is_not_there_has_no_metadata(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match="image is 2; expected an integer from 0 to 1"):
        pipe.sample("red", count=2).metadata(2)


# --- an iterator for one thread, once ---


def test_a_run_is_iterated_once(pipe: Pipeline) -> None:
    run = pipe.sample("red", steps=2)
    first = next(run)
    assert [step.index for step in run] == [1] and first.index == 0  # a loop goes on where `next` was
    for again in (lambda: list(run), lambda: list(run.evaluations()), lambda: iter(run)):
        with pytest.raises(InputError, match="this run is over; start another one with `sample`"):
            again()
    with pytest.raises(StopIteration):
        next(run)
    run.cancel()  # changes nothing
    with pytest.raises(StopIteration):
        next(run)


def test_a_run_is_iterated_by_one_thread_at_a_time(watched: Pipeline, unet: Watched) -> None:
    run = watched.sample("red", seed=1, steps=3, guidance=1.0)
    inside, go_on = threading.Event(), threading.Event()
    unet.before = lambda: (inside.set(), go_on.wait(30))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, run)
        assert inside.wait(30)
        with pytest.raises(InputError, match="another thread is iterating this run; give each thread a run"):
            next(run)
        go_on.set()
        assert first.result().index == 0
    assert [step.index for step in run] == [1, 2]  # what was refused broke nothing; threads may take turns


# --- cancelling and memory ---


def test_a_run_is_cancelled_from_another_thread(watched: Pipeline, unet: Watched) -> None:
    run = watched.sample("red", steps=9)
    unet.before = lambda: unet.calls == 3 and threading.Thread(target=run.cancel).start() is None and time.sleep(0.2)
    with pytest.raises(Cancelled, match="the run was cancelled after step 3 of 9"):
        list(run)
    assert unet.calls == 3
    for again in (lambda: next(run), lambda: list(run)):
        with pytest.raises(Cancelled, match="after step 3 of 9"):
            again()


def test_an_iterating_thread_that_meets_a_cancelling_one_is_told_of_the_cancelling(pipe: Pipeline) -> None:
    freeing, go_on = threading.Event(), threading.Event()

    def states() -> Iterator[Any]:
        try:
            yield from run_states
        finally:
            freeing.set()
            go_on.wait(30)

    run = pipe.sample("red", seed=1, steps=3)
    run_states = run._states
    run._states = states()
    next(run)
    with ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(run.cancel)
        assert freeing.wait(30)
        with pytest.raises(Cancelled, match="after step 1 of 3"):
            next(run)
        go_on.set()
        cancelling.result(30)


def test_a_run_may_be_cancelled_before_it_begins(watched: Pipeline, unet: Watched) -> None:
    run = watched.sample("red", steps=9)
    run.cancel()
    with pytest.raises(Cancelled, match="after step 0 of 9"):
        next(run)
    assert unet.calls == 0


def drop(run: Any) -> None:
    del run


def finish(run: Any) -> None:
    list(run)


def fail(run: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        list(run)


def cancel_within(run: Any) -> None:
    with pytest.raises(Cancelled):
        list(run)


ENDS: dict[str, tuple[Callable[[Any], None], bool]] = {
    "dropped": (drop, True),
    "cancelled": (lambda run: run.cancel(), False),
    "finished": (finish, False),
    "failed": (fail, False),
    "cancelled at an evaluation": (cancel_within, False),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_run_that_has_ended_holds_no_memory(watched: Pipeline, unet: Watched, case: str) -> None:
    end, is_dropped = ENDS[case]
    held: list[weakref.ref[Any]] = []
    run: Any = watched.sample("red", seed=1, steps=4, sampler="lms")
    held.append(weakref.ref(run._states))
    gc.collect()
    gc.disable()
    try:
        held.append(weakref.ref(next(run).before))
        if case == "failed":
            unet.before = lambda: 1 / 0
        if case == "cancelled at an evaluation":
            unet.before = run.cancel
        if is_dropped:
            del run
        else:
            end(run)
        assert [each() for each in held] == [None, None]
    finally:
        gc.enable()


# --- threads ---

SAMPLERS = ("dpmpp_2m", "heun", "euler_ancestral", "dpmpp_sde", "lms", "ddim", "unipc", "pndm")
JOBS: list[tuple[str, SampleOptions]] = [
    (
        ("red", "blue apple", "red BREAK (blue:1.5)")[index % 3],
        {
            "seed": index,
            "steps": 4 + index % 3,
            "sampler": SAMPLERS[index % 8],
            "size": ((64, 48), (32, 16), (128, 64), (16, 256))[index % 4],
            "guidance": (3.0, 1.0)[index % 5 == 0],
            "count": 1 + index % 2,
            "syntax": "weighted",
            "negative": ("blue", "")[index % 2],
            **({"image": PHOTO, "strength": 0.8} if SAMPLERS[index % 8] == "ddim" else {}),
        },
    )
    for index in range(24)
]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ort", "openvino"])
def test_eight_threads_draw_on_one_pipeline_what_each_draws_alone(tiny: Path, engine: str) -> None:
    with ldm_runtime.load(tiny, engine=engine, threads=1) as pipe:
        alone = [[image.tobytes() for image in pipe(prompt, **options)] for prompt, options in JOBS]
    together = threading.Barrier(8)

    def draw(jobs: list[tuple[str, SampleOptions]]) -> list[list[bytes]]:
        together.wait(60)
        return [[image.tobytes() for image in pipe(prompt, **options)] for prompt, options in jobs]

    with ldm_runtime.load(tiny, engine=engine, threads=1) as pipe, ThreadPoolExecutor(8) as pool:
        # Nothing is warm: the encoder is opened by whoever is first. Every thread draws the jobs in another order.
        orders = [JOBS[start:] + JOBS[:start] for start in range(0, 24, 3)]
        for start, drawn in zip(range(0, 24, 3), pool.map(draw, orders), strict=True):
            assert drawn == alone[start:] + alone[:start]


def test_evaluations_of_two_runs_go_on_at_the_same_time(watched: Pipeline, unet: Watched) -> None:
    both = threading.Barrier(2)
    unet.before = lambda: both.wait(30)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda seed: watched("red", seed=seed, steps=3), (1, 2)))
    assert unet.calls == 6


def test_a_component_is_opened_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def slowly(choice: Any, package: Any, component: str, artefact: Any = None) -> Any:
        opened.append(component)
        time.sleep(0.1)
        return open_engine(choice, package, component)

    monkeypatch.setattr("ldm_runtime.components.open_engine", slowly)
    with ldm_runtime.load(tiny) as pipe, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: pipe.encode(PHOTO), range(8)))
    assert sorted(opened) == ["text_encoder", "unet", "vae_decoder", "vae_encoder"]


def test_closing_waits_for_an_evaluation_and_ends_the_run(tiny: Path, watched: Pipeline, unet: Watched) -> None:
    inside, go_on = threading.Event(), threading.Event()
    unet.before = lambda: (inside.set(), go_on.wait(30))
    run = watched.sample("red", steps=3)
    with ThreadPoolExecutor(2) as pool:
        step = pool.submit(next, run)
        assert inside.wait(30)
        closing = pool.submit(watched.close)
        with pytest.raises(TimeoutError):
            closing.result(timeout=0.3)
        with pytest.raises(EngineError, match="is closed"):  # nothing new begins
            watched("red", steps=1)
        go_on.set()
        closing.result(timeout=30)
        assert step.result().latents.shape == (1, 4, 6, 8)  # what was going on has ended well
    with pytest.raises(EngineError, match=f"the pipeline of {tiny} is closed; load the package again"):
        next(run)
    assert unet.is_closed and unet.calls == 1


def test_closing_within_a_loop_does_not_wait_for_itself(watched: Pipeline) -> None:
    run = watched.sample("red", steps=3)
    with pytest.raises(EngineError, match="is closed"):
        for _ in run:
            watched.close()


def test_closing_while_threads_draw_is_an_image_or_one_error_for_each(tiny: Path) -> None:
    pipe = ldm_runtime.load(tiny)
    started = threading.Barrier(9)

    def draw(seed: int) -> str:
        started.wait(30)
        try:
            while True:
                pipe("red", seed=seed, steps=2)
        except EngineError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(draw, seed) for seed in range(8)]
        started.wait(30)
        time.sleep(0.2)
        pipe.close()
        told = {answer.result(timeout=30) for answer in answers}
    assert told == {f"the pipeline of {tiny} is closed; load the package again"}


# --- options ---


def test_an_unknown_option_is_named_with_those_that_there_are(pipe: Pipeline) -> None:
    for call in (pipe, pipe.sample):
        with pytest.raises(
            TypeError, match="there is no option 'num_inference_steps'; the options are negative, steps"
        ):
            call("red", num_inference_steps=3)  # type: ignore[operator]
