"""Which layers can be quantised, and which of them stay in float32 whatever the budget."""

from ldm_export.lossy.layers import exposed, quantisable
from tests.lossy.graphs import CONVOLUTION, WEIGHTS, parsed
from tests.optimise.graphs import normal, parse


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
