"""A large graph is compiled for the sizes that come first, and once more, for any, when others come."""

import gc
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from ldm_runtime.engines.choice import choose, open_engine
from ldm_runtime.engines.openvino.engine import OpenVinoEngine
from ldm_runtime.engines.openvino.forms import Forms, Primed, Sizes
from ldm_runtime.engines.openvino.savings import WINOGRAD, read_savings
from ldm_runtime.errors import EngineError, InputError
from ldm_runtime.package.open import open_package
from tests.runtime.engines.test_ort import feeds

SMALL, LARGE = ((4, 6),), ((8, 8),)


def forms() -> tuple[Forms, list[Sizes | None]]:
    made: list[Sizes | None] = []

    def make(sizes: Sizes | None):
        made.append(sizes)
        return lambda given: {"sizes": np.array(0 if sizes is None else sizes[0])}

    return Forms(make), made


def test_the_second_size_makes_a_form_for_any_and_no_third_is_made() -> None:
    held, made = forms()
    for sizes in (SMALL, SMALL, LARGE, SMALL, ((2, 2),)):
        held.of(sizes)
    assert made == [SMALL, None]


def test_a_form_for_any_size_serves_all() -> None:
    held, made = forms()
    assert held.of(None) is held.of(SMALL)
    assert made == [None]


def test_the_first_form_is_let_go_of_before_the_second_is_made() -> None:
    alive: list[bool] = []

    def make(sizes: Sizes | None):
        alive.append(held._held is not None)
        return lambda given: {}

    held = Forms(make)
    held.of(SMALL)
    held.of(LARGE)
    assert alive == [False, False]


def test_a_form_that_cannot_be_made_leaves_room_for_the_next() -> None:
    def make(sizes: Sizes | None):
        if sizes == SMALL:
            raise RuntimeError("no")
        return lambda given: {}

    held = Forms(make)
    with pytest.raises(RuntimeError, match="no"):
        held.of(SMALL)
    assert held.of(LARGE)({}) == {}


def test_threads_that_come_together_make_one_form() -> None:
    held, made = forms()
    together = threading.Barrier(4, timeout=10)
    threads = [threading.Thread(target=lambda: (together.wait(), held.of(SMALL))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert made == [SMALL]


def test_nothing_is_kept_of_a_form_that_is_made_as_the_engine_is_closed() -> None:
    def make(sizes: Sizes | None):
        held.close()
        return lambda given: {}

    held = Forms(make)
    assert held.of(SMALL)({}) == {}
    assert held._held is None


def test_a_thread_with_one_token_does_not_come_before_the_longer_text_of_another() -> None:
    ran, is_other_done = [], threading.Event()

    def inner(given):
        tokens = given["text"].shape[1]
        ran.append(tokens)
        if tokens == 7:
            assert is_other_done.wait(10)  # it has begun, and OpenVINO has compiled nothing for it yet
        return {}

    primed = Primed(inner, "text")
    long = threading.Thread(target=lambda: primed.run({"text": np.ones((1, 7, 2), np.float32)}))
    long.start()
    while not ran:
        time.sleep(0.001)
    primed.run({"text": np.ones((1, 1, 2), np.float32)})
    is_other_done.set()
    long.join()
    primed.run({"text": np.ones((1, 1, 2), np.float32)})
    assert ran == [7, 2, 1, 1]


def opened(tiny: Path, **options: str) -> OpenVinoEngine:
    choice = choose("openvino", threads=1, options={"openvino": {"savings": "all", **options}})
    engine = open_engine(choice, open_package(tiny), "unet").engine
    assert isinstance(engine, OpenVinoEngine)
    return engine


def test_batches_and_tokens_of_any_size_share_a_form_and_images_of_another_size_still_run(tiny: Path) -> None:
    engine = opened(tiny)
    plain = open_engine(choose("openvino", threads=1), open_package(tiny), "unet").engine
    kept = set()
    for batch, tokens in ((2, 5), (1, 1), (3, 12)):
        np.testing.assert_allclose(
            engine.run(feeds(batch, tokens))["out_sample"], plain.run(feeds(batch, tokens))["out_sample"], atol=1e-6
        )
        kept.add(id(engine._forms._held))
    assert len(kept) == 1 and engine._forms._held is not None and engine._forms._held.sizes is not None
    other = {**feeds(), "sample": np.ones((2, 4, 7, 9), np.float32)}
    np.testing.assert_allclose(engine.run(other)["out_sample"], plain.run(other)["out_sample"], atol=1e-6)
    assert engine._forms._held is not None and engine._forms._held.sizes is None and engine._graph._model is None
    np.testing.assert_allclose(engine.run(feeds())["out_sample"], plain.run(feeds())["out_sample"], atol=1e-6)


def test_what_is_wrong_is_said_as_the_graph_is_opened_though_it_is_compiled_later(tiny: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot load .*model.onnx: .*BEADS"):
        opened(tiny, BEADS="10")
    engine = opened(tiny)
    assert engine.computes_in == "f32" and engine._forms._held is None
    engine.close()
    with pytest.raises(EngineError, match="is closed; load the package again"):
        engine.run(feeds())


def test_an_engine_and_its_memory_go_with_the_last_that_holds_it(tiny: Path) -> None:
    engine = opened(tiny)
    engine.run(feeds())
    graph = weakref.ref(engine._graph)
    gc.disable()
    try:
        del engine
        assert graph() is None
    finally:
        gc.enable()


def test_small_graphs_are_compiled_for_any_size_as_they_are_opened(tiny: Path) -> None:
    engine = open_engine(choose("openvino"), open_package(tiny), "unet").engine
    assert isinstance(engine, OpenVinoEngine)
    assert engine._forms._held is not None and engine._forms._held.sizes is None


def test_which_savings_are_made() -> None:
    names = {"upsampling", "winograd", "text", "time", "prefix"}
    assert read_savings("auto", 2**30, "f32", None) == names
    assert read_savings("all", 1, "f32", None) == {*names, "sizes"}
    assert read_savings("auto", 2**26, "f32", None) == {"upsampling", "winograd"}
    assert read_savings("auto", 2**20, "f32", None) == set() == read_savings("none", 2**30, "f32", None)
    assert read_savings("text,time", 1, "f32", None) == {"text", "time"}
    assert read_savings("auto", 2**30, "bf16", None) == names - {WINOGRAD}
    assert read_savings("auto", 2**30, "f32", 11 * 2**30) == set()
    assert read_savings("auto", 2**30, "f32", 12 * 2**30) == names
    assert read_savings("text", 2**30, "f32", 2**30) == {"text"}
    with pytest.raises(InputError, match="openvino.savings has 'wood'; expected auto, all, none or some of sizes, "):
        read_savings("text,wood", 1, "f32", None)
