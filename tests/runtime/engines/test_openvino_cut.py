"""What depends on some inputs alone is cut off, and part and rest together are the whole."""

from typing import Any

import numpy as np

from ldm_runtime.engines.openvino.cut import cut_off
from ldm_runtime.engines.openvino.library import import_openvino, shared_core

op = import_openvino().opset13


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def product(value: Any, *shape: int, seed: int) -> Any:
    return op.matmul(value, op.constant(normal(*shape, seed=seed)), False, False)


def whole() -> Any:
    """A model of two inputs: what follows `text` alone ends in a product, a sum and the shape of one of its values."""
    sample, text = op.parameter([-1, 4], np.float32), op.parameter([-1, 3], np.float32)
    for each, name in ((sample, "sample"), (text, "text")):
        each.output(0).get_tensor().set_names({name})
    inner = op.relu(product(text, 3, 6, seed=1))
    inner = op.reshape(inner, op.shape_of(op.tanh(inner)), special_zero=False)
    key = op.add(product(inner, 6, 5, seed=2), op.constant(normal(1, 5, seed=3)))
    made = import_openvino().Model([op.multiply(product(sample, 4, 5, seed=4), key)], [sample, text], "whole")
    made.outputs[0].get_tensor().set_names({"out"})
    return made


def run(model: Any, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    compiled = shared_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = compiled({port: feeds[port.get_any_name()] for port in compiled.inputs})
    return {port.get_any_name(): outputs[port] for port in compiled.outputs}


def test_part_and_rest_are_the_whole() -> None:
    feeds = {"sample": normal(2, 4, seed=5), "text": normal(2, 3, seed=6)}
    rest = whole()
    cut = cut_off(rest, ["text"], "text")
    assert cut is not None and cut.values == ("text.0",) and cut.batched == {"text.0"}
    assert [port.get_any_name() for port in cut.model.inputs] == ["text"]
    kinds = [node.get_type_name() for node in cut.model.get_ops()]
    assert kinds.count("MatMul") == 2 and "Add" not in kinds  # what follows the last product stays
    assert [node.get_type_name() for node in rest.get_ops()].count("MatMul") == 1
    expected = run(whole(), feeds)["out"]
    got = run(rest, {**feeds, **run(cut.model, feeds)})["out"]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_only_the_shape_of_another_input_is_no_reason_to_stay() -> None:
    """The embedding of the time is repeated for each image of the batch."""
    sample, time = op.parameter([-1, 4], np.float32), op.parameter([], np.float32)
    for each, name in ((sample, "sample"), (time, "time")):
        each.output(0).get_tensor().set_names({name})
    batch = op.gather(op.shape_of(sample), op.constant([0]), op.constant(0))
    times = op.broadcast(op.reshape(time, op.constant([1, 1]), False), op.concat([batch, op.constant([3])], 0))
    total = op.add(product(sample, 4, 5, seed=1), product(times, 3, 5, seed=2))
    model = import_openvino().Model([total], [sample, time], "whole")
    model.outputs[0].get_tensor().set_names({"out"})
    feeds = {"sample": normal(3, 4), "time": np.array(7, np.float32)}
    expected = run(model, feeds)["out"]
    cut = cut_off(model, ["time"], "time")
    assert cut is not None and {port.get_any_name() for port in cut.model.inputs} == {"sample", "time"}
    np.testing.assert_allclose(run(model, {**feeds, **run(cut.model, feeds)})["out"], expected, rtol=1e-6)


def test_without_a_product_there_is_nothing_to_cut_off() -> None:
    model = whole()
    assert cut_off(model, ["image"], "text") is None
    assert cut_off(model, ["text"], "text") is not None
    assert cut_off(model, ["text"], "text") is None
