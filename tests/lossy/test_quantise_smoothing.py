"""Smoothing of what is rounded: where it goes, and that an outlying channel costs less with it."""

import numpy as np
import pytest

from ldm_export.lossy.quantise import Scheme, quantise
from tests.lossy.graphs import SMOOTH, WEIGHTS, convolution, image, parsed, product, range_of, relative_rms, tokens
from tests.optimise.graphs import normal, operators, parse, run

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
