"""Quantised layers compute what the numbers that are stored say, on both engines, and hostile numbers do not pass."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnxruntime import quantization

from ldm_export.errors import ExportError
from ldm_export.lossy.layers import exposed, quantisable
from ldm_export.lossy.quantise import Scheme, quantise
from ldm_export.lossy.ranges import ValueRange
from tests.lossy.graphs import (
    CONVOLUTION,
    WEIGHTS,
    by_whole_numbers,
    compiled,
    convolution,
    convolved,
    image,
    operators_of,
    parsed,
    product,
    range_of,
    relative_rms,
    session,
    types_of,
)
from tests.optimise.graphs import HEADER, normal, operators, parse, run

ORT = Scheme(outputs=True)
OPENVINO = Scheme()
SMOOTH = Scheme(alpha=0.5)


def tokens() -> np.ndarray:
    return normal(2, 3, 8, seed=5)


def ranges_of_convolution(x: np.ndarray) -> dict[str, ValueRange]:
    (y,) = run(convolution(), {"x": x})
    return {"x": range_of(x), "y": range_of(y)}


def on_openvino(model: ir.Model, x: np.ndarray) -> np.ndarray:
    return compiled(model)({"x": x})[0]


def on_ort(model: ir.Model, x: np.ndarray) -> np.ndarray:
    return session(model).run(None, {"x": x})[0]


# --- the arithmetic ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [None, 0.5])
@pytest.mark.parametrize("engine", [on_ort, on_openvino])
def test_a_convolution_computes_what_its_numbers_say(engine: Callable[..., np.ndarray], alpha: float | None) -> None:
    x = image()
    model = convolution()
    (layer,) = quantisable(model)
    model, data = quantise(model, ranges_of_convolution(x), Scheme(alpha=alpha))
    expected = by_whole_numbers(layer, data, x, WEIGHTS["b"])
    assert relative_rms(engine(model, x), expected) < 1e-6
    exact = convolved(x, WEIGHTS["w"]) + WEIGHTS["b"][:, None, None]
    assert 1e-3 < relative_rms(expected, exact) < 2e-2  # rounded, and not by much


@pytest.mark.parametrize("alpha", [None, 0.5])
@pytest.mark.parametrize("engine", [on_ort, on_openvino])
def test_a_product_computes_what_its_numbers_say(engine: Callable[..., np.ndarray], alpha: float | None) -> None:
    x = tokens()
    model = product()
    (layer,) = quantisable(model)
    model, data = quantise(model, {"x": range_of(x, 2)}, Scheme(alpha=alpha))
    expected = by_whole_numbers(layer, data, x, None)
    assert relative_rms(engine(model, x), expected) < 1e-6
    assert 1e-3 < relative_rms(expected, x @ WEIGHTS["m"]) < 2e-2


def test_onnx_runtimes_form_rounds_the_output_besides(tmp_path: Path) -> None:
    x = image()
    model = convolution()
    (layer,) = quantisable(model)
    model, data = quantise(model, ranges_of_convolution(x), ORT)
    expected = by_whole_numbers(layer, data, x, WEIGHTS["b"])
    step = data["w/output_scale"]
    got = session(model, tmp_path / "optimised.onnx").run(None, {"x": x})[0]
    inside = np.abs(got - expected) <= 0.5001 * step  # but for what lies beyond the range
    assert inside.mean() > 0.99
    assert "QLinearConv" in operators_of(tmp_path / "optimised.onnx")
    np.testing.assert_allclose(got / step, np.rint(got / step), atol=1e-3)


def test_without_a_rounded_output_onnx_runtime_computes_in_float(tmp_path: Path) -> None:
    """Why its form has them."""
    x = image()
    model, _ = quantise(convolution(), ranges_of_convolution(x), OPENVINO)
    session(model, tmp_path / "optimised.onnx")
    assert "QLinearConv" not in operators_of(tmp_path / "optimised.onnx")


def test_onnx_runtime_multiplies_products_in_whole_numbers(tmp_path: Path) -> None:
    model, _ = quantise(product(), {"x": range_of(tokens(), 2)}, ORT)
    session(model, tmp_path / "optimised.onnx")
    assert "MatMulIntegerToFloat" in operators_of(tmp_path / "optimised.onnx")


@pytest.mark.parametrize("layer", ["convolution", "product"])
def test_openvino_computes_in_eight_bits(layer: str) -> None:
    if layer == "convolution":
        model, _ = quantise(convolution(), ranges_of_convolution(image()), OPENVINO)
    else:
        model, _ = quantise(product(), {"x": range_of(tokens(), 2)}, OPENVINO)
    (found,) = types_of(compiled(model)).values()
    assert found in ("u8", "i8")


def test_weights_are_those_of_onnx_runtimes_own_quantiser(tmp_path: Path) -> None:
    x = image()
    onnx.save(ir.to_proto(convolution()), tmp_path / "float.onnx")

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter([{"x": x}])

        def get_next(self) -> Any:
            return next(self.feeds, None)

    quantization.quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "theirs.onnx",
        Reader(),
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    theirs = {
        each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(tmp_path / "theirs.onnx").graph.initializer
    }
    model, data = quantise(convolution(), ranges_of_convolution(x), ORT)
    np.testing.assert_array_equal(data["w/int8"], theirs["w_quantized"])
    np.testing.assert_allclose(data["w/scale"], theirs["w_scale"], rtol=1e-6)
    exact = convolved(x, WEIGHTS["w"]) + WEIGHTS["b"][:, None, None]
    error = relative_rms(session(model).run(None, {"x": x})[0], exact)
    own = onnxruntime.InferenceSession(tmp_path / "theirs.onnx").run(None, {"x": x})[0]
    assert error <= 1.02 * relative_rms(own, exact)


@pytest.mark.parametrize(
    ("part", "factor", "shift"),
    [("scale", 1.5, 0), ("smoothing", 1.5, 0), ("int8", 1.5, 0), ("input_scale", 0.5, 0), ("input_zero", 1, 64)],
)
def test_one_wrong_number_shows(part: str, factor: float, shift: int) -> None:
    """Of one layer: several times the error that is there anyway.

    An input's scale and zero are read twice, to round and back: what is wrong with them shows where it cuts values off.
    """
    x = image()
    model, data = quantise(convolution(), ranges_of_convolution(x), SMOOTH)
    exact = convolved(x, WEIGHTS["w"]) + WEIGHTS["b"][:, None, None]
    error = relative_rms(on_ort(model, x), exact)
    array = data[f"w/{part}"]
    model.graph.initializers[f"w/{part}"].const_value = ir.tensor((array * factor + shift).astype(array.dtype))
    assert relative_rms(on_ort(model, x), exact) > 5 * error


# --- smoothing -----------------------------------------------------------------------------------------------------

NORM = """g (float[B, T, 8] x) => (float[B, T, 5] y, float[B, T, 5] z) {
    n = LayerNormalization<axis = -1>(x, weight, bias)
    y = MatMul(n, m)
    z = MatMul(n, k)
}"""
READ_ELSEWHERE = NORM.replace("float[B, T, 5] z)", "float[B, T, 5] z, float[B, T, 8] e)").replace("}", " e = Exp(n) }")
GROUPS = """g (float[B, 8, H, W] x) => (float[B, 5, H, W] y) {
    ones = Constant<value_floats = [1.0, 1.0]>()
    zeros = Constant<value_floats = [0.0, 0.0]>()
    grouped_shape = Constant<value_ints = [0, 2, -1]>()
    axes = Constant<value_ints = [1, 2]>()
    grouped = Reshape(x, grouped_shape)
    normal = InstanceNormalization<epsilon = 0.00001>(grouped, ones, zeros)
    shape = Shape(x)
    back = Reshape(normal, shape)
    factor = Unsqueeze(weight, axes)
    shift = Unsqueeze(bias, axes)
    scaled = Mul(back, factor)
    n = Add(scaled, shift)
    y = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(n, w, b)
}"""


def test_smoothing_goes_into_the_norm_where_only_layers_read_it() -> None:
    weights = {"weight": 1 + normal(8, seed=6), "bias": normal(8, seed=7), "m": WEIGHTS["m"], "k": normal(8, 5, seed=8)}
    x = tokens()
    (n,) = run(parse(NORM.replace("float[B, T, 5] y, float[B, T, 5] z", "float[B, T, 8] n"), weights), {"x": x})
    folded, data = quantise(parsed(NORM, weights), {"n": range_of(n, 2)}, SMOOTH)
    assert "Mul" not in operators(folded) and operators(folded).count("QuantizeLinear") == 1
    beside, others = quantise(parsed(READ_ELSEWHERE, weights), {"n": range_of(n, 2)}, SMOOTH)
    assert operators(beside).count("Mul") == 1 and operators(beside).count("QuantizeLinear") == 1
    np.testing.assert_allclose(data["m/norm_weight"], weights["weight"] * others["m/smoothing"], rtol=1e-6)
    for got, expected in zip(run(folded, {"x": x}), run(beside, {"x": x})[:2], strict=True):
        assert relative_rms(got, expected) < 3e-3  # a level, where rounding of the norm's float32 decides
    assert relative_rms(run(beside, {"x": x})[2], np.exp(n)) < 1e-6


def test_smoothing_goes_into_a_norm_over_groups() -> None:
    weights = {"weight": 1 + normal(8, seed=6), "bias": normal(8, seed=7), "w": WEIGHTS["w"], "b": WEIGHTS["b"]}
    x = image()
    (expected,) = run(parse(GROUPS, weights), {"x": x})
    (n,) = run(parse(GROUPS.replace("float[B, 5, H, W] y", "float[B, 8, H, W] n"), weights), {"x": x})
    model, data = quantise(parsed(GROUPS, weights), {"n": range_of(n)}, SMOOTH)
    assert {"w/norm_weight", "w/norm_bias"} <= set(data) and "w/smoothing" not in data
    assert relative_rms(run(model, {"x": x})[0], expected) < 2e-2


@pytest.mark.parametrize("layer", ["convolution", "product"])
def test_an_outlying_channel_costs_less_with_smoothing(layer: str) -> None:
    """By 6 dB at least: the others keep their levels."""
    x = image() if layer == "convolution" else tokens()
    axis = 1 if layer == "convolution" else 2
    np.moveaxis(x, axis, 0)[3] *= 40
    make = convolution if layer == "convolution" else product
    (exact,) = run(make(), {"x": x})
    plain, smooth = (
        relative_rms(run(quantise(make(), {"x": range_of(x, axis)}, Scheme(alpha=alpha))[0], {"x": x})[0], exact)
        for alpha in (None, 0.5)
    )
    # Relative to what the other channels add: an outlier's own error is small beside its share of the output.
    assert smooth < plain / 2


# --- what is left alone --------------------------------------------------------------------------------------------

TWO = """g (float[B, 8, H, W] x) => (float[B, 8, H, W] y) {
    first = Conv<kernel_shape = [1, 1]>(x, u)
    bent = Relu(first)
    y = Conv<kernel_shape = [1, 1]>(bent, v)
}"""
TWO_WEIGHTS = {"u": normal(8, 8, 1, 1, seed=9), "v": normal(8, 8, 1, 1, seed=10)}


def two() -> ir.Model:
    return parsed(TWO, TWO_WEIGHTS)


def ranges_of_two(x: np.ndarray) -> dict[str, ValueRange]:
    text = TWO.replace("=> (", "=> (float[B, 8, H, W] first, float[B, 8, H, W] bent, ")
    values = run(parse(text, TWO_WEIGHTS), {"x": x})
    return {"x": range_of(x)} | {
        name: range_of(each) for name, each in zip(("first", "bent", "y"), values, strict=True)
    }


@pytest.mark.parametrize("scheme", [ORT, OPENVINO, Scheme(activations=False)])
def test_every_layer_kept_leaves_the_graph_as_it_was(scheme: Scheme) -> None:
    x = image()
    model, data = quantise(two(), {}, scheme, keep={"first/Conv", "y/Conv"})
    assert data == {}
    assert ir.to_proto(model).SerializeToString() == ir.to_proto(two()).SerializeToString()
    np.testing.assert_array_equal(run(model, {"x": x})[0], run(two(), {"x": x})[0])


def test_a_kept_layer_computes_exactly() -> None:
    x = image()
    ranges = ranges_of_two(x)
    model, data = quantise(two(), ranges, OPENVINO, keep={"first/Conv"})
    assert all(name.startswith("v/") for name in data)
    bent = next(node.outputs[0] for node in model.graph if node.op_type == "Relu")
    bent.type, bent.shape = model.graph.outputs[0].type, model.graph.outputs[0].shape
    model.graph.outputs.append(bent)
    np.testing.assert_array_equal(
        run(model, {"x": x})[1], np.maximum(ranges["first"].sample.reshape(2, 6, 7, 8), 0).transpose(0, 3, 1, 2)
    )


def test_a_second_time_changes_nothing() -> None:
    ranges = ranges_of_two(image())
    model, _ = quantise(two(), ranges, ORT)
    before = ir.to_proto(model).SerializeToString()
    again, data = quantise(model, ranges, ORT)
    assert data == {} and ir.to_proto(again).SerializeToString() == before


def test_the_weights_of_quantised_layers_leave_the_graph() -> None:
    model, data = quantise(two(), ranges_of_two(image()), OPENVINO)
    assert set(model.graph.initializers) == set(data)


def test_both_engines_read_the_same_numbers() -> None:
    ranges = ranges_of_two(image())
    ours, theirs = quantise(two(), ranges, ORT)[1], quantise(two(), ranges, OPENVINO)[1]
    assert set(theirs) < set(ours)
    for name, array in theirs.items():
        np.testing.assert_array_equal(array, ours[name])


def test_two_layers_of_one_weight_have_numbers_of_their_own() -> None:
    text, weights, x = TWO.replace("(bent, v)", "(bent, u)"), {"u": TWO_WEIGHTS["u"]}, image()
    (exact,) = run(parse(text, weights), {"x": x})
    ranges = {"x": range_of(x), "bent": ranges_of_two(x)["bent"]}
    model, data = quantise(parsed(text, weights), ranges, OPENVINO)
    assert {"u/int8", "u of y/Conv/int8"} <= set(data)
    assert relative_rms(run(model, {"x": x})[0], exact) < 2e-2


def test_layers_of_one_name_are_refused() -> None:
    model = parse(TWO, TWO_WEIGHTS)
    for node in model.graph:
        node.name = "layer"
    with pytest.raises(ExportError, match="2 layers of the graph are called 'layer'"):
        quantise(model, ranges_of_two(image()), OPENVINO)


def test_the_names_of_the_graphs_outputs_stay() -> None:
    x = image()
    model, _ = quantise(two(), ranges_of_two(x), ORT)
    (output,) = model.graph.outputs
    assert output.name == "y" and [str(size) for size in output.shape] == ["B", "8", "H", "W"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_a_weight_in_half_precision_is_widened_first(dtype: Any) -> None:
    text = CONVOLUTION.replace("    y = ", "    w = Cast<to = 1>(h)\n    b = Cast<to = 1>(c)\n    y = ")
    stored = {"h": WEIGHTS["w"].astype(dtype), "c": WEIGHTS["b"].astype(dtype)}
    model = onnx.parser.parse_model(HEADER + text)
    for name, array in stored.items():
        model.graph.initializer.append(ir.to_proto(ir.tensor(array, name=name)))
    half = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    x = image()
    wide = {name: stored[other].astype(np.float32) for name, other in (("w", "h"), ("b", "c"))}
    got, data = quantise(half, ranges_of_convolution(x), ORT)
    _, expected = quantise(convolution(**wide), ranges_of_convolution(x), ORT)
    np.testing.assert_array_equal(data["h/int8"], expected["w/int8"])
    np.testing.assert_array_equal(data["h/bias"], expected["w/bias"])
    assert "Cast" not in operators(got)


def test_only_parameters_are_quantised() -> None:
    text = CONVOLUTION.replace("    y = ", "    v = Relu(w)\n    y = ").replace("(x, w, b)", "(x, v, b)")
    assert quantisable(parse(text, {"w": WEIGHTS["w"], "b": WEIGHTS["b"]})) == []


def test_a_convolution_in_groups_is_left_alone() -> None:
    text = CONVOLUTION.replace("pads = [1, 1, 1, 1]>", "pads = [1, 1, 1, 1], group = 4>").replace("[B, 5", "[B, 4")
    assert quantisable(parse(text, {"w": normal(4, 2, 3, 3), "b": normal(4)})) == []


def test_the_first_and_last_to_touch_numbers_are_exposed() -> None:
    text = """g (float[B, 16, H, W] x, float[B, 32] t, float[B, T, 32] c) => (float[B, 16, H, W] y, float[B, T, 32] k) {
        first = Conv<kernel_shape = [1, 1]>(x, first_w)
        time = Sigmoid(t)
        embedded = MatMul(time, time_w)
        axes = Constant<value_ints = [2, 3]>()
        shift = Unsqueeze(embedded, axes)
        moved = Add(first, shift)
        inner = Conv<kernel_shape = [1, 1]>(moved, inner_w)
        narrow = Conv<kernel_shape = [1, 1]>(inner, narrow_w)
        wide = Conv<kernel_shape = [1, 1]>(narrow, wide_w)
        bent = Relu(wide)
        y = Conv<kernel_shape = [1, 1]>(bent, last_w)
        keys = MatMul(c, key_w)
        k = Sigmoid(keys)
    }"""
    square = normal(16, 16, 1, 1)
    weights = {
        "first_w": square,
        "inner_w": square,
        "last_w": square,
        "time_w": normal(32, 16),
        "key_w": normal(32, 32),
    }
    model = parsed(text, {**weights, "narrow_w": normal(4, 16, 1, 1), "wide_w": normal(16, 4, 1, 1)})
    names = {name.removesuffix("/Conv").removesuffix("/MatMul") for name in exposed(model)}
    assert names == {"first", "embedded", "narrow", "wide", "y", "keys"}


# --- hostile numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [on_ort, on_openvino])
def test_outputs_and_inputs_without_weights_are_exact(engine: Callable[..., np.ndarray]) -> None:
    """An output channel of zeros is its bias, one that is almost nothing hardly more; an input channel may be empty."""
    weight, bias, x = WEIGHTS["w"].copy(), WEIGHTS["b"] * 100, image()
    weight[1] = 0
    weight[2] *= 1e-9
    weight[:, 5] = 0
    x[:, 6] = 0
    (exact,) = run(convolution(w=weight, b=bias), {"x": x})
    ranges = {"x": range_of(x), "y": range_of(exact)}
    for scheme in (OPENVINO, SMOOTH, ORT):
        model, data = quantise(convolution(w=weight, b=bias), ranges, scheme)
        assert all(np.isfinite(array).all() for array in data.values())
        got = engine(model, x)
        rounding = 0.51 * data["w/output_scale"] if scheme.outputs else 0
        assert np.abs(got[:, 1:3] - bias[1:3, None, None]).max() <= rounding + 1e-5 * np.abs(bias).max()
        assert relative_rms(got, exact) < 2e-2


@pytest.mark.parametrize("engine", [on_ort, on_openvino])
def test_weights_of_zeros_make_the_bias(engine: Callable[..., np.ndarray]) -> None:
    x = image()
    model, _ = quantise(convolution(w=np.zeros_like(WEIGHTS["w"])), {"x": range_of(x)}, OPENVINO)
    np.testing.assert_allclose(engine(model, x), np.broadcast_to(WEIGHTS["b"][:, None, None], (2, 5, 6, 7)), rtol=1e-6)


def test_a_value_that_was_always_zero_stays_zero() -> None:
    x = np.zeros_like(image())
    model, data = quantise(convolution(), {"x": range_of(x)}, OPENVINO)
    assert data["w/input_scale"] > 0
    np.testing.assert_allclose(
        run(model, {"x": x})[0], np.broadcast_to(WEIGHTS["b"][:, None, None], (2, 5, 6, 7)), rtol=1e-6
    )


def test_a_missing_range_names_the_value() -> None:
    with pytest.raises(ExportError, match="there is no range of 'x'; calibrate"):
        quantise(convolution(), {}, OPENVINO)
    with pytest.raises(ExportError, match="there is no range of 'y'; calibrate"):
        quantise(convolution(), {"x": range_of(image())}, ORT)


@pytest.mark.parametrize("end", ["low", "high", "sample"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_range_that_is_not_finite_names_the_channel(end: str, number: float) -> None:
    found = range_of(image())
    getattr(found, end)[..., 4] = number
    with pytest.raises(ExportError, match="the range of 'x' holds NaN or infinity in channel 4; "):
        quantise(convolution(), {"x": found}, OPENVINO)


def test_a_range_of_other_channels_or_in_the_wrong_order_is_refused() -> None:
    with pytest.raises(ExportError, match=r"the range of 'x' has shapes \(7,\), \(7,\), \(7,\), expected 8 channels"):
        quantise(convolution(), {"x": range_of(image(channels=7))}, OPENVINO)
    found = range_of(image())
    found.low[2], found.high[2] = 2.0, 1.0
    with pytest.raises(ExportError, match="goes from 2 to 1 in channel 2"):
        quantise(convolution(), {"x": found}, OPENVINO)


@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_a_weight_that_is_not_finite_is_named(number: float) -> None:
    weight = WEIGHTS["w"].copy()
    weight[0, 0, 0, 0] = number
    with pytest.raises(ExportError, match="'w' holds NaN or infinity"):
        quantise(convolution(w=weight), {"x": range_of(image())}, OPENVINO)


def test_a_layer_to_keep_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        ExportError, match="there is no layer 'frist/Conv' to keep in float32; expected nodes such as 'first/Conv'"
    ):
        quantise(two(), {}, OPENVINO, keep={"frist/Conv"})


def test_schemes_that_nothing_computes_are_refused() -> None:
    with pytest.raises(ExportError, match="int4 with activations"):
        Scheme(weights="int4")
    with pytest.raises(ExportError, match="outputs are rounded only where activations are"):
        Scheme(activations=False, outputs=True)
    for alpha in (0, -0.5, 1.5, float("nan")):
        with pytest.raises(ExportError, match="expected a number above 0, at most 1, or None"):
            Scheme(alpha=alpha)


# --- weights alone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [on_ort, on_openvino])
def test_weights_alone_are_rounded_once(engine: Callable[..., np.ndarray]) -> None:
    x = image()
    model, data = quantise(convolution(), {}, Scheme(activations=False))
    assert set(data) == {"w/int8", "w/scale"}
    weight = data["w/int8"] * data["w/scale"][:, None, None, None]
    assert np.abs(weight - WEIGHTS["w"]).max() <= 0.5001 * data["w/scale"].max()
    expected = convolved(x, weight) + WEIGHTS["b"][:, None, None]
    assert relative_rms(engine(model, x), expected) < 1e-6


@pytest.mark.parametrize("inputs", [8, 32, 70])
@pytest.mark.parametrize("engine", [on_ort, on_openvino])
def test_weights_of_four_bits_have_a_scale_for_each_block(engine: Callable[..., np.ndarray], inputs: int) -> None:
    text = f"g (float[B, T, {inputs}] x) => (float[B, T, 5] y) {{ y = MatMul(x, m) }}"
    weight, x = normal(inputs, 5, seed=11), normal(2, 3, inputs, seed=12)
    model, data = quantise(parse(text, {"m": weight}), {}, Scheme(weights="int4", activations=False))
    assert data["m/int4"].shape == (5, -(-inputs // 32), 16) and data["m/int4"].dtype == np.uint8
    low, high = data["m/int4"] & 15, data["m/int4"] >> 4
    levels = np.stack([low, high], axis=-1).reshape(5, -1, 32).astype(np.float32) - 8
    wide = (levels * data["m/scale"].reshape(5, -1, 1)).reshape(5, -1)[:, :inputs].T
    assert 0.02 < relative_rms(wide, weight) < 0.12
    assert relative_rms(engine(model, x), x @ wide) < 1e-5


@pytest.mark.parametrize("engine", [lambda model, x: run(model, {"x": x})[0], on_openvino])
def test_blocks_of_the_standard_operator_have_the_same_numbers(engine: Callable[..., np.ndarray]) -> None:
    text = "g (float[B, T, 64] x) => (float[B, T, 6] y) { y = MatMul(x, m) }"
    weight, x = normal(64, 6, seed=11), normal(2, 3, 64, seed=12)
    models = [
        quantise(parse(text, {"m": weight}), {}, Scheme("int4", activations=False, blocks=blocks))
        for blocks in ("MatMulNBits", "DequantizeLinear")
    ]
    assert models[1][1]["m/int4"].shape == (64 * 6 // 2,) and models[1][1]["m/scale"].shape == (2, 6)
    assert "MatMulNBits" not in operators(models[1][0])
    ours, standard = (engine(model, x) for model, _ in models)
    np.testing.assert_allclose(standard, ours, rtol=1e-4, atol=1e-5)


def test_products_that_are_no_multiple_of_a_block_have_eight_bits_in_the_standard_operator() -> None:
    text = "g (float[B, T, 70] x) => (float[B, T, 6] y) { y = MatMul(x, m) }"
    scheme = Scheme("int4", activations=False, blocks="DequantizeLinear")
    assert set(quantise(parse(text, {"m": normal(70, 6)}), {}, scheme)[1]) == {"m/int8", "m/scale"}


def test_a_product_that_is_named_has_eight_bits() -> None:
    text = "g (float[B, T, 64] x) => (float[B, T, 6] y) { y = MatMul(x, m) }"
    model = parsed(text, {"m": normal(64, 6)})
    scheme = Scheme("int4", activations=False, in_eight_bits=frozenset({"y/MatMul"}))
    assert set(quantise(model, {}, scheme)[1]) == {"m/int8", "m/scale"}
