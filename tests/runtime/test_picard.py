"""The option picard: a run whose denoiser is evaluated at several rows of its plan at the same time."""

import threading
from typing import Any

import numpy as np
import pytest

import ldm_runtime
from ldm_runtime.errors import Cancelled, EngineError, InputError
from ldm_runtime.pipeline import Pipeline
from ldm_runtime.run import Step
from ldm_runtime.sampling.solvers import SOLVERS
from tests.runtime.sampling.test_loop import relative_rms
from tests.runtime.test_tasks import half_mask, photo
from tests.runtime.watched import Watched

OPTIONS: dict[str, Any] = {"seed": 1, "steps": 20}
CASES: dict[str, dict[str, Any]] = {
    "a batch": {"count": 3},
    "no guidance": {"guidance": 1.0},
    "guidance in a part": {"guidance_interval": (0.25, 0.6)},
    "rescaled guidance": {"guidance_rescale": 0.7},
    "an image": {"image": photo(), "strength": 0.7},
    "a mask": {"image": photo(), "mask": half_mask()},
    "a variation": {"variation": (7, 0.3)},
    "clipping": {"sampler": "ddim:clip=1"},
    "an early end": {"stop_after": 15},
}


def final(pipe: Pipeline, **options: Any) -> Step:
    return list(pipe.sample("red", **{**OPTIONS, **options}))[-1]


@pytest.mark.parametrize(
    ("sampler", "noise"),
    [
        (name, noise)
        for name, solver in SOLVERS.items()
        for noise in ("philox", *(() if solver.correlated_noise else ("torch", "cuda")))
        if name != "flow_euler"  # of another model
    ],
)
def test_a_run_in_windows_ends_where_the_usual_one_does(pipe: Pipeline, sampler: str, noise: str) -> None:
    usual = final(pipe, sampler=sampler, noise=noise)
    windows = final(pipe, sampler=sampler, noise=noise, picard=(4, 1e-2))
    assert relative_rms(windows.latents, usual.latents) < 1e-2
    assert windows.rounds < usual.rounds == usual.evaluations or sampler == "lcm"  # which jumps too far for a guess
    exact = final(pipe, sampler=sampler, noise=noise, picard=(4, 0.0))
    assert relative_rms(exact.latents, usual.latents) < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_every_task_is_drawn_in_windows(pipe: Pipeline, case: str) -> None:
    options = {"sampler": "euler_ancestral", **CASES[case]}
    usual, windows, exact = (final(pipe, **options, picard=each) for each in (None, (4, 1e-2), (4, 0.0)))
    assert relative_rms(windows.latents, usual.latents) < 1e-2
    assert relative_rms(exact.latents, usual.latents) < 1e-6
    assert windows.rounds < usual.rounds and windows.index == exact.index == usual.index


def test_the_image_says_how_it_was_drawn_and_the_same_options_draw_it_again(pipe: Pipeline) -> None:
    options = {**OPTIONS, "sampler": "euler_ancestral", "picard": (3, 0.05)}
    image, again = (pipe("red", **options)[0] for _ in range(2))
    assert image.info["picard"] == "window 3, tolerance 0.05"
    assert image.tobytes() == again.tobytes() and image.info == again.info
    assert "picard" not in pipe("red", **OPTIONS)[0].info


@pytest.mark.parametrize(
    ("value", "message"),
    (
        (8, r"picard is 8; expected \(window, tolerance\)"),
        ("8:0.1", "picard is '8:0.1'"),
        ((8,), r"picard is \(8,\)"),
        ((1, 0.1), "the window of picard is 1; expected an integer from 2 to 1000"),
        ((1001, 0.1), "the window of picard is 1001"),
        ((4.0, 0.1), r"the window of picard is 4\.0"),
        ((4, -0.1), r"the tolerance of picard is -0\.1; expected a number from 0 to 1"),
        ((4, float("nan")), "the tolerance of picard is nan"),
        ((4, "0.1"), r"the tolerance of picard is '0\.1'"),
    ),
)
def test_what_cannot_be_is_refused(pipe: Pipeline, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        pipe.sample("red", picard=value)


# --- threads ---


def test_rows_are_evaluated_at_the_same_time(
    watched: Pipeline,
    unet: Watched,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    together = threading.Barrier(3)
    unet.before = lambda: together.wait(30)
    run = watched.sample("red", **OPTIONS, sampler="ddim", picard=(3, 0.0))
    next(run)
    assert unet.calls == 3
    run.cancel()


def test_an_engine_that_fails_ends_the_run(watched: Pipeline, unet: Watched) -> None:
    def fail() -> None:
        if unet.calls == 6:
            raise EngineError("out of luck")

    unet.before = fail
    run = watched.sample("red", **OPTIONS, sampler="ddim", picard=(4, 0.0))
    next(run)
    with pytest.raises(EngineError, match="out of luck"):
        next(run)
    with pytest.raises(InputError, match="this run is over"):
        iter(run)


def test_a_run_in_windows_is_cancelled_from_another_thread(watched: Pipeline, unet: Watched) -> None:
    run = watched.sample("red", **OPTIONS, sampler="ddim", picard=(4, 0.0))
    unet.before = run.cancel
    with pytest.raises(Cancelled):
        list(run)
    assert unet.calls == 4


def test_threads_of_a_run_end_with_it(pipe: Pipeline) -> None:
    others = set(threading.enumerate())
    workers = lambda: set(threading.enumerate()) - others  # noqa: E731
    run = pipe.sample("red", **OPTIONS, picard=(4, 0.0))
    next(run)
    assert workers()
    run.cancel()
    assert not workers()
    dropped = pipe.sample("red", **OPTIONS, picard=(4, 0.0))
    next(dropped)
    del dropped
    assert not workers()


@pytest.mark.slow
def test_the_built_in_model_draws_the_same_image() -> None:
    with ldm_runtime.load() as pipe:
        usual, windows = (
            list(pipe.sample("red apple, 3d style", seed=1, **options))[-1] for options in ({}, {"picard": (8, 0.01)})
        )
        difference = np.abs(windows.decode() - usual.decode()) * 127.5
    assert relative_rms(windows.latents, usual.latents) < 0.01
    assert windows.rounds <= 14 and difference.mean() < 0.5
