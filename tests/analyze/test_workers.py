"""Workers: clocks, turns, and the figures that are made of times."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from ldm_export.analyze.subject import open_subject
from ldm_export.analyze.workers import ClockedEngine, Speed, open_workers, worker_count


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


@pytest.mark.parametrize(("cores", "workers"), ((1, 2), (2, 2), (6, 6), (64, 8)))
def test_workers_are_the_cores(monkeypatch: pytest.MonkeyPatch, cores: int, workers: int) -> None:
    monkeypatch.setattr("ldm_export.analyze.workers.usable_cores", lambda: cores)
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
