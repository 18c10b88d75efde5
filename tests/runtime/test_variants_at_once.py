"""Pipelines of different variants in the threads of one process: each draws what it draws alone, and ends by itself."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import ldm_runtime
from ldm_runtime.errors import EngineError
from ldm_runtime.pipeline import Pipeline
from tests.runtime import cached_package, tiny_package
from tests.runtime.quantised_package import with_int8


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("packages")
    return cached_package.make(folder / "cached"), with_int8(tiny_package.make(folder / "int8"))


@pytest.fixture
def pipes(packages: tuple[Path, Path]) -> Iterator[list[Pipeline]]:
    cached, int8 = packages
    opened = [
        ldm_runtime.load(cached, threads=1),
        ldm_runtime.load(cached, variant="cached", threads=1),
        ldm_runtime.load(int8, budget="psnr=20", threads=1),
        ldm_runtime.load(int8, engine="unet=openvino", threads=1),
    ]
    assert [pipe.info["variant"] for pipe in opened] == [None, "cached", "int8", None]
    yield opened
    for pipe in opened:
        pipe.close()


def drawn(pipe: Pipeline) -> np.ndarray:
    return list(pipe.sample("red", seed=3, steps=6))[-1].latents


def test_each_draws_what_it_draws_alone(pipes: list[Pipeline]) -> None:
    alone = [drawn(pipe) for pipe in pipes]
    assert len({array.tobytes() for array in alone}) >= 3
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(drawn, pipes * 6))
    for index, array in enumerate(together):
        np.testing.assert_allclose(array, alone[index % len(pipes)], rtol=0, atol=1e-6)


def test_one_that_is_closed_in_the_middle_of_its_run_ends_in_a_sentence_and_the_others_go_on(
    pipes: list[Pipeline],
) -> None:
    cached, other = pipes[1], pipes[2]
    expected, begun = drawn(other), threading.Event()
    outcome: list[str] = []

    def draw() -> None:
        try:
            for _ in cached.sample("red", seed=3, steps=200):
                begun.set()
        except EngineError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=draw)
    thread.start()
    assert begun.wait(30)
    cached.close()
    thread.join(30)
    assert not thread.is_alive()
    (said,) = outcome
    assert said.endswith("is closed; load the package again")
    np.testing.assert_array_equal(drawn(other), expected)
