"""The residual stream carried at a fraction: the same numbers in float32, wherever norms and products read it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from ldm_export.export.graph_file import read_graph
from ldm_export.optimise.rescale_residual import rescale_residual, residual_streams
from ldm_export.precision.reduce import reduce_precision
from ldm_export.targets.tensorrt.reduced import exact_session
from tests.optimise.graphs import normal, operators, parse, run

BUILTIN = Path(__file__).parents[2] / "runtime/ldm_runtime/builtin"

# A block as the exporter writes it: conv_in, norm, SiLU, conv2, the sum, a shortcut, a norm, conv_out.
BLOCK = """g (float[B, 2, 4, 4] x) => (float[B, 2, 4, 4] y) {
    ones = Constant<value = float[2] {1.0, 1.0}>()
    zeros = Constant<value = float[2] {0.0, 0.0}>()
    groups = Constant<value = int64[3] {0, 2, -1}>()
    h = Conv<pads = [1, 1, 1, 1]>(x, w_in, b_in)
    flat = Reshape(h, groups)
    normal = InstanceNormalization<epsilon = 0.001>(flat, ones, zeros)
    size = Shape(h)
    n = Reshape(normal, size)
    s = Sigmoid(n)
    act = Mul(n, s)
    c = Conv<pads = [1, 1, 1, 1]>(act, w_two, b_two)
    sum = Add(h, c)
    short = Conv(sum, w_short, b_short)
    tokens = Transpose<perm = [0, 2, 3, 1]>(short)
    norm = LayerNormalization<axis = -1, epsilon = 0.001>(tokens, gain, shift)
    back = Transpose<perm = [0, 3, 1, 2]>(norm)
    y = Conv<pads = [1, 1, 1, 1]>(back, w_out, b_out)
}"""
SIDES = {"w_in": 3, "w_two": 3, "w_short": 1, "w_out": 3}
WEIGHTS = {name: normal(2, 2, side, side, seed=place) for place, (name, side) in enumerate(SIDES.items())}
WEIGHTS |= {name: normal(2, seed=9 + place) for place, name in enumerate(["b_in", "b_two", "b_short", "b_out"])}
WEIGHTS |= {"gain": normal(2, seed=20), "shift": normal(2, seed=21)}
X = {"x": normal(2, 2, 4, 4, seed=30)}


def named(model: ir.Model) -> ir.Model:
    for index, node in enumerate(model.graph):
        node.name = f"n{index}/{node.op_type}"
    return model


def block() -> ir.Model:
    return named(parse(BLOCK, WEIGHTS))


def epsilons(model: ir.Model) -> list[float]:
    return [node.attributes["epsilon"].value for node in model.graph if "epsilon" in node.attributes]


def test_streams_are_what_products_write_and_norms_or_products_read():
    streams = residual_streams(block())
    assert streams == [frozenset({"h", "flat", "c", "sum"}), frozenset({"short", "tokens"})]


@pytest.mark.parametrize("scale", [2.0, 64.0, 4096.0])
def test_the_numbers_stay_the_same_in_float32(scale: float):
    model, count = rescale_residual(block(), scale)
    assert count == 2
    np.testing.assert_allclose(run(model, X)[0], run(block(), X)[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(epsilons(model), [0.001 / scale**2] * 2, rtol=1e-6)


def test_the_stream_is_smaller_by_the_scale():
    """What the sum holds, seen through outputs of the graph."""
    seen = []
    for model in (block(), rescale_residual(block(), 64.0)[0]):
        model.graph.outputs.extend(value for node in model.graph for value in node.outputs if value.name == "sum")
        seen.append(run(model, X)[1])
    np.testing.assert_allclose(seen[1] * 64, seen[0], rtol=1e-6, atol=1e-6)


def test_one_stream_alone_is_rescaled_and_its_readers_make_up_for_it():
    model, count = rescale_residual(block(), 64.0, {"sum"})
    assert count == 1 and epsilons(model)[1] == pytest.approx(0.001)
    np.testing.assert_allclose(run(model, X)[0], run(block(), X)[0], rtol=1e-6, atol=1e-6)


def test_a_second_time_changes_nothing():
    model, _ = rescale_residual(block(), 64.0)
    before = ir.to_proto(model).SerializeToString()
    model, count = rescale_residual(model, 64.0)
    assert count == 0 and ir.to_proto(model).SerializeToString() == before


def test_a_wrong_epsilon_is_seen():
    model, _ = rescale_residual(block(), 64.0)
    for node in model.graph:
        if "epsilon" in node.attributes:
            wrong = node.attributes["epsilon"].value * 64  # as of epsilon/s
            node.attributes.add(ir.Attr("epsilon", ir.AttributeType.FLOAT, wrong))
    assert np.abs(run(model, X)[0] - run(block(), X)[0]).max() > 1e-3


def test_weights_stay_as_they_are_stored():
    model, _ = rescale_residual(block(), 64.0)
    for name, stored in WEIGHTS.items():
        np.testing.assert_array_equal(model.graph.initializers[name].const_value.numpy(), stored)
    # Of conv_in and conv2 weight and bias, of the shortcut, which reads the stream too, the bias.
    assert operators(model).count("Mul") == operators(block()).count("Mul") + 5


@pytest.mark.parametrize("reader", ["Sigmoid(h)", "Mul(h, h)", "Softmax(h)", "Exp(h)", "MatMul(h, h)"])
def test_what_another_function_reads_is_no_stream(reader: str):
    text = f"""g (float[2, 2] x) => (float[2, 2] y) {{
        h = MatMul(x, w)
        a = {reader}
        y = MatMul(a, w)
    }}"""
    assert residual_streams(parse(text, {"w": normal(2, 2)})) == []


@pytest.mark.parametrize(
    "move",
    [
        "Concat<axis = 0>(h, w)",
        "Sub(w, h)",
        "Div(h, w)",
        "Mul(w, h)",
        "Pad(h, edges)",
        "Slice(h, two, four)",
        "Expand(h, sizes)",
    ],
)
def test_sums_moves_and_products_with_a_number_carry_the_scale(move: str):
    text = f"""g (float[2, 2] x) => (float[M, 2] y) {{
        edges = Constant<value = int64[4] {{1, 0, 1, 0}}>()
        two = Constant<value = int64[1] {{0}}>()
        four = Constant<value = int64[1] {{1}}>()
        sizes = Constant<value = int64[2] {{2, 2}}>()
        h = MatMul(x, w)
        m = {move}
        y = LayerNormalization<axis = -1, epsilon = 0.1>(m, gain)
    }}"""
    weights = {"w": normal(2, 2), "gain": normal(2, seed=1)}
    feeds = {"x": normal(2, 2, seed=2)}
    model, count = rescale_residual(named(parse(text, weights)), 16.0)
    assert count == 1
    np.testing.assert_allclose(run(model, feeds)[0], run(parse(text, weights), feeds)[0], rtol=1e-6, atol=1e-6)


def test_padding_with_a_number_fixes_the_scale():
    text = """g (float[2, 2] x) => (float[M, 2] y) {
        edges = Constant<value = int64[4] {1, 0, 1, 0}>()
        number = Constant<value = float {3.0}>()
        h = MatMul(x, w)
        m = Pad(h, edges, number)
        y = LayerNormalization<axis = -1>(m, gain)
    }"""
    assert residual_streams(parse(text, {"w": normal(2, 2), "gain": normal(2, seed=1)})) == []


# --- graphs that ship ------------------------------------------------------------------------------------------------

FEEDS: dict[str, Callable[[], dict[str, np.ndarray]]] = {
    "vae_decoder": lambda: {"latent_sample": normal(1, 4, 6, 8)},
    "vae_encoder": lambda: {"sample": normal(1, 3, 32, 48)},
    "unet": lambda: {
        "sample": normal(2, 4, 8, 8),
        "timestep": np.array(500.0, np.float32),
        "encoder_hidden_states": normal(2, 77, 192, seed=1),
    },
}


@pytest.mark.parametrize("component", FEEDS)
def test_shipped_graphs_keep_their_numbers(component: str, tmp_path: Path):
    shutil.copyfile(BUILTIN / component / "model.safetensors", tmp_path / "model.safetensors")
    outputs = []
    for name, scale in (("plain", 1.0), ("rescaled", 256.0)):
        model, count = rescale_residual(read_graph(BUILTIN / component / "model.onnx"), scale)
        assert (count > 0) == (scale > 1)
        ir.save(model, tmp_path / f"{name}.onnx")
        outputs.append(exact_session(tmp_path / f"{name}.onnx").run(None, FEEDS[component]())[0])
    spread = np.sqrt(np.mean(outputs[0] ** 2))
    assert np.sqrt(np.mean((outputs[1] - outputs[0]) ** 2)) < 1e-6 * spread


def test_the_mark_does_not_hinder_what_comes_after():
    model, _ = rescale_residual(block(), 64.0)
    assert "Cast" in operators(reduce_precision(model, "fp16"))
