"""Workers: clocks, turns, and the figures that are made of times."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from ldm_export.analyze.subject import open_subject
from ldm_export.analyze.workers import ClockedEngine, Speed, open_workers, ratio, time_in_turns, worker_count


def test_ways_take_turns_and_a_first_round_is_not_counted() -> None:
    calls: list[str] = []
    seconds = time_in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert [len(each) for each in seconds.values()] == [3, 3] and all(each >= 0 for each in seconds["a"])
    time_in_turns({"a": lambda: calls.append("c")}, 2, warm=False)
    assert calls[8:] == ["c", "c"]


def test_times_are_those_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("ldm_export.analyze.workers.time", SimpleNamespace(perf_counter=lambda: now[0]))

    def wait(seconds: float) -> None:
        now[0] += seconds

    assert time_in_turns({"a": lambda: wait(2.0), "b": lambda: wait(0.5)}, 2) == {"a": (2.0, 2.0), "b": (0.5, 0.5)}


def test_a_speed_is_what_its_times_say() -> None:
    speed = Speed("work", 4, 8.0, 0.5, 2.5, (8.0, 9.0, 7.0), (4.0, 2.0, 3.5))
    assert speed.law == 2.0 and speed.seconds == 3.5
    found = speed.speedup
    assert (found.value, found.low, found.high) == (8 / 3.5, 2.0, 4.5)
    efficiency, beside = speed.efficiency, speed.beside_law
    assert (efficiency.value, efficiency.low, efficiency.high) == pytest.approx((8 / 3.5 / 4, 0.5, 4.5 / 4))
    assert (beside.value, beside.low, beside.high) == (1.75, 1.0, 2.0)


def test_communication_bounds_what_workers_gain() -> None:
    assert Speed("work", 100, 8.0, 0.5, 1.0, (8.0,), (1.0,)).law == 0.5


def test_a_ratio_is_of_medians_and_its_range_of_pairs() -> None:
    found = ratio([2.0, 4.0, 6.0], [1.0, 4.0, 2.0])
    assert (found.value, found.low, found.high) == (2.0, 1.0, 3.0)


def test_an_engine_is_clocked_in_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2)
    engine = SimpleNamespace(
        inputs=(), outputs=(), notices=(), run=lambda feeds: together.wait(30) or feeds, close=lambda: None
    )
    clocked = ClockedEngine(engine)  # type: ignore[arg-type]
    threads = [threading.Thread(target=clocked.run, args=({},)) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(clocked.seconds) == 2


@pytest.mark.parametrize(("cores", "workers"), ((None, 2), (1, 2), (2, 2), (6, 6), (64, 8)))
def test_workers_are_the_cores(monkeypatch: pytest.MonkeyPatch, cores: int | None, workers: int) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert worker_count() == workers


@pytest.mark.slow
def test_workers_draw_what_the_model_draws() -> None:
    with open_subject(None) as subject:
        usual = list(subject.pipe.sample("red apple", seed=1, steps=3))[-1]
        with open_workers(subject) as (pipe, engines):
            drawn = list(pipe.sample("red apple", seed=1, steps=3))[-1]
            assert len(engines[subject.contract.denoiser.component].seconds) == 3
        np.testing.assert_allclose(drawn.latents, usual.latents, atol=1e-3)
        assert subject.pipe.decode_array(usual.latents).shape == (1, 3, 128, 128)  # the model's own stay open
