"""What is said of an image at each evaluation of a run: both runtimes say the same, also within a step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ldm_runtime.pipeline import Pipeline
from ldm_runtime.sampling.solvers import SAMPLERS
from tests.runtime.cpp.library import EVALUATE, PREVIEW, Library, Run

pytestmark = pytest.mark.slow
Told = list[tuple[str, str]]


@pytest.fixture(scope="module")
def library(library_file: Path, onnxruntime_library: Path, tiny: Path) -> Iterator[Library]:
    with Library(library_file, onnxruntime_library, tiny) as opened:
        yield opened


def of_python(pipe: Pipeline, options: dict[str, Any]) -> tuple[list[Told], list[Told]]:
    """What the latents say after each evaluation, and what previews say there."""
    states = list(pipe.sample(**options).evaluations())
    told = ([*state.metadata().items()] for state in states), ([*state.preview_metadata().items()] for state in states)
    return list(told[0]), list(told[1])


def of_library(library: Library, options: dict[str, Any]) -> tuple[list[Told], list[Told]]:
    drawn = [[*run.metadata().items()] for run in evaluated(library.sample(**options))]
    previews: list[Told] = []
    run = library.sample(**options)
    for task in run.tasks():
        if task.kind == EVALUATE and task.component == b"unet":
            run.preview()
        elif task.kind == PREVIEW:
            previews.append([*run.metadata().items()])
    return drawn, previews


def evaluated(run: Run) -> Iterator[Run]:
    """Draw a run, and yield it after each evaluation of its denoiser."""
    for task in run.tasks():
        if task.kind == EVALUATE and task.component == b"unet":
            yield run


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"flow_euler"}))  # which is for other models
def test_both_runtimes_say_the_same_after_each_evaluation(pipe: Pipeline, library: Library, sampler: str) -> None:
    options = {"prompt": "red", "seed": 3, "steps": 4, "sampler": sampler, "size": (32, 32)}
    expected = of_python(pipe, options)
    assert of_library(library, options) == expected


def test_both_runtimes_say_the_same_within_the_steps_of_a_stopped_run(pipe: Pipeline, library: Library) -> None:
    options = {"prompt": "red", "seed": 3, "steps": 4, "stop_after": 2, "sampler": "heun", "size": (32, 32)}
    expected = of_python(pipe, options)
    assert [dict(told).get("within step") for told in expected[0]] == [
        "1, after evaluation 1",
        None,
        "2, after evaluation 3",
        None,
    ]
    assert of_library(library, options) == expected
