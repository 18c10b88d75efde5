"""Quantised layers compute what the numbers that are stored say, on both engines."""

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

from ldm_export.lossy.layers import quantisable
from ldm_export.lossy.quantise import Scheme, quantise
from tests.lossy.graphs import (
    CONVOLUTION,
    OPENVINO,
    ORT,
    SMOOTH,
    WEIGHTS,
    by_whole_numbers,
    compiled,
    convolution,
    convolved,
    image,
    on_openvino,
    on_ort,
    operators_of,
    parsed,
    product,
    range_of,
    ranges_of_convolution,
    relative_rms,
    session,
    tokens,
    types_of,
)
from tests.optimise.graphs import HEADER, normal, operators, parse, run


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
