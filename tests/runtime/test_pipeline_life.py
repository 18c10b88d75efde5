"""What a pipeline holds goes with it; a closed one, and one of another process, say so; no memory is shared."""

import copy
import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ldm_runtime
from ldm_runtime.engines.choice import choose, open_engine
from ldm_runtime.errors import Cancelled, EngineError, InputError, LdmError
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import Pipeline
from ldm_runtime.run import Step
from tests.runtime.engines.test_ort import feeds
from tests.runtime.tiny_package import CHANNELS, WIDTH, WINDOW

PHOTO = Image.new("RGB", (64, 48), (200, 30, 60))
SHAPE = (1, CHANNELS, 6, 8)


def final(pipe: Pipeline, **arguments: Any) -> np.ndarray:
    return list(pipe.sample(**{"prompt": "red", "seed": 1, "steps": 3, **arguments}))[-1].latents


# --- a dropped pipeline ---


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def draw(pipe: Pipeline) -> None:
    pipe("red", steps=2)


def draw_from_a_picture(pipe: Pipeline) -> None:
    pipe("red", steps=2, image=PHOTO)
    pipe.encode(PHOTO)


def stop_halfway(pipe: Pipeline) -> None:
    steps = pipe.sample("red", steps=3)
    next(steps).preview()


def be_refused(pipe: Pipeline) -> None:
    with pytest.raises(InputError):
        pipe("red", steps=0)
    with pytest.raises(InputError):
        pipe.decode(np.zeros(3))


def be_cancelled(pipe: Pipeline) -> None:
    with pytest.raises(Cancelled):
        pipe("red", steps=3, callback=lambda step: False)


def be_closed(pipe: Pipeline) -> None:
    with pipe:
        draw(pipe)
    with pytest.raises(EngineError):
        draw(pipe)


@pytest.mark.parametrize(
    "use", [draw, draw_from_a_picture, stop_halfway, be_refused, be_cancelled, be_closed], ids=lambda use: use.__name__
)
@pytest.mark.parametrize("engine", ["ort", "openvino"])
@pytest.mark.usefixtures("without_collector")
def test_a_dropped_pipeline_is_gone_at_once(tiny: Path, engine: str, use: Callable[[Pipeline], None]) -> None:
    pipe = ldm_runtime.load(tiny, engine=engine, threads=1)
    use(pipe)
    parts = [weakref.ref(part) for part in (pipe, pipe._components, *pipe.engines.values())]
    del pipe
    assert [part() for part in parts] == [None] * len(parts)


@pytest.mark.usefixtures("without_collector")
def test_a_step_keeps_its_pipeline_until_it_is_dropped(tiny: Path) -> None:
    pipe = ldm_runtime.load(tiny)
    step = next(pipe.sample("red", steps=2))
    held = weakref.ref(pipe)
    del pipe
    assert step.images()[0].size == (64, 48)
    del step
    assert held() is None


LEVEL = """
import gc
gc.disable()
import ldm_runtime

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) // 1024

def draw():
    ldm_runtime.load(threads=1)("red", steps=1, seed=1)

for _ in range(2):
    draw()
before = resident()
for _ in range(12):
    draw()
print(resident() - before)
"""


@pytest.mark.slow
def test_memory_is_level_over_many_pipelines() -> None:
    """The built-in model takes 45 MB, and an allocator keeps some of what it was given back: 12 leaks of a quarter of
    the model would be seen.
    """
    done = subprocess.run([sys.executable, "-c", LEVEL], capture_output=True, text=True, timeout=300, check=True)
    assert int(done.stdout) < 100


# --- a closed pipeline ---

USES: dict[str, Callable[[Pipeline, Step], Any]] = {
    "call": lambda pipe, step: pipe("red", steps=1),
    "sample": lambda pipe, step: pipe.sample("red", steps=1),
    "embed": lambda pipe, step: pipe.embed("red"),
    "encode": lambda pipe, step: pipe.encode(PHOTO),
    "decode": lambda pipe, step: pipe.decode(np.zeros(SHAPE)),
    "decode_array": lambda pipe, step: pipe.decode_array(np.zeros(SHAPE)),
    "step.decode": lambda pipe, step: step.decode(),
    "step.images": lambda pipe, step: step.images(),
    "step.preview": lambda pipe, step: step.preview(),
}


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("part", [lambda pipe: pipe._components, lambda pipe: pipe])
def test_what_holds_engines_is_not_copied(tiny: Path, part: Any, duplicate: Any) -> None:
    with ldm_runtime.load(tiny) as pipe:
        if duplicate is copy.copy and part(pipe) is pipe:
            return  # shares what it is a copy of
        with pytest.raises(EngineError, match="cannot be copied or pickled"):
            duplicate(part(pipe))


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_a_closed_pipeline_says_so(tiny: Path, use: Callable[[Pipeline, Step], Any]) -> None:
    with ldm_runtime.load(tiny) as pipe:
        steps = pipe.sample("red", steps=2)
        step = next(steps)
    pipe.close()
    for again in (lambda: use(pipe, step), lambda: next(steps)):
        with pytest.raises(EngineError, match=rf"the pipeline of {tiny} is closed; load the package again"):
            again()
    assert "vae_encoder" not in pipe.engines  # nothing is opened in a closed pipeline
    assert pipe.info["name"] == "tiny" and step.latents.shape == SHAPE


# --- a forked process ---


def _answer(use: Callable[[], Any]) -> str:
    try:
        use()
    except LdmError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


@pytest.mark.parametrize("engine", ["ort", "openvino"])
def test_a_forked_process_is_told_to_load_for_itself(tiny: Path, engine: str) -> None:
    pipe = ldm_runtime.load(tiny, engine=engine, threads=2)
    steps = pipe.sample("red", steps=3)
    step = next(steps)
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()

    def child() -> None:
        for use in USES.values():
            answers.put(_answer(lambda use=use: use(pipe, step)))  # type: ignore[misc]
        answers.put(_answer(lambda: next(steps)))
        pipe.close()
        answers.put("closed")

    process = fork.Process(target=child)
    process.start()
    try:
        told = [answers.get(timeout=120) for _ in range(len(USES) + 2)]
        process.join(120)
        assert process.exitcode == 0
    finally:
        process.kill()
    *refused, closed = told
    assert closed == "closed"
    sentence = f"EngineError: the package {tiny} was loaded before this process was forked"
    assert len(set(refused)) == 1 and refused[0].startswith(sentence)
    assert "load it in each process, or start them with `spawn`" in refused[0]
    next(steps)  # the parent goes on
    pipe("red", steps=1)
    pipe.close()


FORKED = """
import os, sys
import ldm_runtime

pipe = ldm_runtime.load(sys.argv[1], engine=sys.argv[2], threads=2)
pipe("red", steps=1)
child = os.fork()
if child == 0:
    if sys.argv[3] == "load":
        ldm_runtime.load(sys.argv[1], engine=sys.argv[2], threads=2)("red", steps=1)
    elif sys.argv[3] == "drop":
        del pipe
    sys.exit(7)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["exit", "drop", "load"])
def test_a_forked_process_ends_whatever_it_does_with_the_pipeline(tiny: Path, end: str) -> None:
    """Where engines would be freed, they would wait for threads that only the parent has."""
    command = [sys.executable, "-c", FORKED, str(tiny), "ort", end]
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}  # has a thread that a forked process waits for too
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment, check=True)
    assert done.stdout == "7\n"


# --- memory that is nobody else's ---


def test_latents_are_read_when_the_run_is_asked_for(pipe: Pipeline) -> None:
    noise = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    expected = final(pipe, latents=noise.copy())
    given = noise.copy()
    steps = pipe.sample("red", seed=1, steps=3, latents=given)
    given[:] = 0.0  # before the first step
    *_, last = steps
    np.testing.assert_array_equal(last.latents, expected)
    given[:] = noise
    final(pipe, latents=given, sampler="ddim", image=PHOTO, mask=Image.new("L", (64, 48), 255))
    np.testing.assert_array_equal(given, noise)  # nor is it written to


def test_embeddings_are_read_when_the_run_is_asked_for(pipe: Pipeline) -> None:
    embeds = np.random.default_rng(0).standard_normal((1, WINDOW, WIDTH)).astype(np.float32)
    for guidance in (1.0, 3.0):
        expected = final(pipe, prompt=None, prompt_embeds=embeds.copy(), guidance=guidance)
        given = embeds.copy()
        steps = pipe.sample(seed=1, steps=3, prompt_embeds=given, guidance=guidance)
        given[:] = 0.0
        *_, last = steps
        np.testing.assert_array_equal(last.latents, expected)


def test_images_are_read_when_the_run_is_asked_for(pipe: Pipeline) -> None:
    mask = Image.new("L", (64, 48))
    mask.paste(255, (0, 0, 32, 48))
    expected = final(pipe, image=PHOTO, mask=mask)
    picture, painted = PHOTO.copy(), mask.copy()
    steps = pipe.sample("red", seed=1, steps=3, image=picture, mask=painted)
    picture.paste((0, 0, 0), (0, 0, 64, 48))
    painted.paste(0, (0, 0, 64, 48))
    *_, last = steps
    np.testing.assert_array_equal(last.latents, expected)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "heun", "lms", "unipc"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_writing_into_a_steps_latents_changes_no_other_step(pipe: Pipeline, sampler: str, guidance: float) -> None:
    arguments: dict[str, Any] = {"prompt": "red", "seed": 1, "steps": 5, "sampler": sampler, "guidance": guidance}
    expected = list(pipe.sample(**arguments))
    written = []
    for step in pipe.sample(**arguments):
        before = step.latents.copy()
        step.latents[:] = np.nan
        written.append((before, step))
    for (before, step), right in zip(written, expected, strict=True):
        np.testing.assert_array_equal(before, right.latents)
        np.testing.assert_array_equal(step.predicted(), right.predicted())


def test_what_a_step_is_foretold_from_cannot_be_written(pipe: Pipeline) -> None:
    step = next(pipe.sample("red", steps=2))
    for array in (step.before, step.output):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0.0


def test_results_are_the_callers_own(pipe: Pipeline) -> None:
    latents = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    for use in (
        lambda: pipe.embed("red"),
        lambda: pipe.embed("red", syntax="weighted"),
        lambda: pipe.encode(PHOTO),
        lambda: pipe.decode_array(latents),
    ):
        first = use()
        kept = first.copy()
        second = use()
        assert first.flags.writeable and not np.shares_memory(first, second)
        second[:] = 0.0
        np.testing.assert_array_equal(first, kept)
        np.testing.assert_array_equal(use(), kept)


@pytest.mark.parametrize("engine", ["ort", "openvino"])
def test_outputs_of_an_engine_are_no_buffer_that_is_used_again(tiny: Path, engine: str) -> None:
    unet = open_engine(choose(engine, threads=1), open_package(tiny), "unet").engine
    given = feeds()
    first = unet.run(given)["out_sample"]
    kept = first.copy()
    second = unet.run({**given, "timestep": np.array(3.0, np.float32)})["out_sample"]
    assert not any(np.shares_memory(first, other) for other in (second, *given.values()))
    np.testing.assert_array_equal(first, kept)
    assert np.abs(second - kept).max() > 1e-6


@pytest.mark.slow
def test_engines_that_map_their_weights_rest_when_their_part_is_done_and_draw_the_same_again(monkeypatch) -> None:
    from ldm_runtime.engines.ort import rows

    options = {"size": (64, 64), "steps": 2, "seed": 0}
    with ldm_runtime.load() as pipe:
        (expected,) = pipe("red apple, 3d style", **options)
        assert set(pipe.engines) == {"text_encoder", "unet", "vae_decoder"}  # small ones stay
    monkeypatch.setattr(rows, "_LARGE_WEIGHTS", 0)
    with ldm_runtime.load() as pipe:
        for _ in range(2):
            run = pipe.sample("red apple, 3d style", **options)
            assert "text_encoder" not in pipe.engines and "vae_decoder" in pipe.engines
            first, last = next(run), next(run)
            assert first is not last and "unet" in pipe.engines
            assert list(run) == [] and "unet" not in pipe.engines
            (image,) = last.images()
            difference = np.abs(np.asarray(image, np.int16) - np.asarray(expected, np.int16))
            assert difference.max() <= 1  # other kernels, which round otherwise
        assert set(pipe.info["engines"]) == {"text_encoder", "unet", "vae_decoder"}
