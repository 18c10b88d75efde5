"""Threads share an engine: each gets the outputs of its own feeds."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldm_runtime.engines.choice import choose, open_engine
from ldm_runtime.engines.engine import Engine
from ldm_runtime.engines.ort import session
from ldm_runtime.engines.ort.providers import PROVIDERS, Provider
from ldm_runtime.engines.tensorrt.library import CLASSIC, RTX
from ldm_runtime.errors import EngineError
from ldm_runtime.package.open import open_package
from tests.runtime.engines.tensorrt_machine import NOTHING, Machine, compute
from tests.runtime.engines.test_ort import feeds

THREADS = 8


@pytest.fixture(autouse=True)
def many_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def run_all(engine: Engine, inputs: Sequence[dict[str, np.ndarray]]) -> list[np.ndarray]:
    """The output for each of the inputs, from threads that begin together."""
    together = threading.Barrier(THREADS)

    def run(first: int) -> list[np.ndarray]:
        together.wait(30)
        return [engine.run(each)["out_sample"] for each in inputs[first::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        shares = list(pool.map(run, range(THREADS)))
    return [shares[index % THREADS][index // THREADS] for index in range(len(inputs))]


@pytest.mark.parametrize("name", ["ort", "openvino"])
def test_a_graph_runs_for_several_threads(tiny: Path, name: str) -> None:
    engine = open_engine(choose(name, threads=1), open_package(tiny), "unet").engine
    inputs = [
        {**feeds(1 + index % 3, 1 + index % 5), "timestep": np.array(index, np.float32)} for index in range(8 * THREADS)
    ]
    alone = [engine.run(each)["out_sample"] for each in inputs]
    for got, expected in zip(run_all(engine, inputs), alone, strict=True):
        np.testing.assert_array_equal(got, expected)
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.run(inputs[0])


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("flavour", [RTX, CLASSIC])
def test_threads_take_turns_at_a_plan(package_copy: Path, flavour: Any, capture: bool) -> None:
    """They share its buffers: without a turn, one would read what another has written."""
    machine = Machine(package_copy, flavour)

    def slowly(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        time.sleep(0.001)
        return compute(inputs)

    machine.engine.compute = slowly
    engine = machine.load(capture=capture)
    inputs = [machine.feeds(index, batch=1 + index % 2, width=4 + 4 * (index % 3 == 0)) for index in range(4 * THREADS)]
    for got, given in zip(run_all(engine, inputs), inputs, strict=True):
        np.testing.assert_array_equal(got, compute(given)["out_sample"])
    engine.close()
    assert machine.cuda.leaks() == NOTHING and machine.device.allocated == {}


def test_closing_a_plan_waits_for_its_run(package_copy: Path) -> None:
    machine = Machine(package_copy, RTX)
    inside, go_on = threading.Event(), threading.Event()

    def wait(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        inside.set()
        assert go_on.wait(30)
        return compute(inputs)

    machine.engine.compute = wait
    engine, given = machine.load(), machine.feeds()
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(engine.run, given)
        assert inside.wait(30)
        closing = pool.submit(engine.close)
        with pytest.raises(TimeoutError):
            closing.result(timeout=0.2)
        go_on.set()
        np.testing.assert_array_equal(running.result(30)["out_sample"], compute(given)["out_sample"])
        closing.result(30)
    assert machine.cuda.leaks() == NOTHING


class Session:
    """Counts how many threads are inside of `run` at once."""

    def __init__(self) -> None:
        self.inside = self.most = 0

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.01)
        self.inside -= 1
        return [inputs["sample"]]


@pytest.mark.parametrize("takes_turns", [False, True])
def test_threads_take_turns_where_a_provider_needs_it(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, takes_turns: bool
) -> None:
    monkeypatch.setattr(session, "fallbacks", lambda *arguments: ())
    provider = Provider("CPUExecutionProvider", "", "", takes_turns=takes_turns)
    engine = session.OrtEngine(tiny / "unet/model.onnx", provider=provider)
    engine._session = counting = Session()
    run_all(engine, [feeds()] * THREADS)
    assert (counting.most == 1) is takes_turns


def test_directml_sessions_are_for_one_thread_at_a_time() -> None:
    """https://onnxruntime.ai/docs/execution-providers/DirectML-ExecutionProvider.html"""
    assert [name for name, provider in PROVIDERS.items() if provider.takes_turns] == ["directml"]
