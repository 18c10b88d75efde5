"""GELU, QuickGELU and SiLU become ONNX Runtime's operators; the tanh form and near misses do not."""

import pytest

from ldm_export.optimise.fuse_activations import fuse_activations
from tests.optimise.graphs import applied, normal, operators

X = {"x": normal(2, 5, 8)}

GELU = """g (float[B, N, 8] x) => (float[B, N, 8] y) <float[8] bias = {1., 2., 3., 4., 5., 6., 7., 8.}> {
    root = Constant<value = float {1.4142135}>()
    one = Constant<value = float {1.0}>()
    half = Constant<value = float {0.5}>()
    s = Relu(x)
    d = Div(s, root)
    e = Erf(d)
    b = Add(e, one)
    m = Mul(s, b)
    y = Mul(m, half)
}"""
BIASED = GELU.replace("s = Relu(x)", "s = Add(x, bias)")


def test_the_exact_gelu_is_fused():
    model = applied(fuse_activations, GELU, X, modified=1)
    assert operators(model) == ["Relu", "Gelu"]
    assert model.graph.node(-1).domain == "com.microsoft"


@pytest.mark.parametrize("order", ["s = Add(x, bias)", "s = Add(bias, x)"])
def test_a_bias_before_it_is_taken_in(order):
    model = applied(fuse_activations, BIASED.replace("s = Add(x, bias)", order), X, modified=1)
    assert operators(model) == ["BiasGelu"]


def test_a_bias_in_half_precision_is_taken_in():
    bits = "15360, 16384, 16896, 17408, 17664, 17920, 18176, 18432"  # 1 to 8
    text = BIASED.replace("float[8] bias = {1., 2., 3., 4., 5., 6., 7., 8.}", f"float16[8] narrow = {{{bits}}}")
    text = text.replace("    root", "    bias = Cast<to=1>(narrow) root")
    model = applied(fuse_activations, text, X, modified=1)
    assert operators(model) == ["Cast", "BiasGelu"]


def test_a_cast_of_something_computed_is_no_bias():
    text = BIASED.replace("    root", "more = Relu(bias) wide = Cast<to=1>(more) root").replace(
        "Add(x, bias)", "Add(x, wide)"
    )
    model = applied(fuse_activations, text, X, modified=1)
    assert operators(model) == ["Relu", "Cast", "Add", "Gelu"]


def test_a_sum_that_is_read_elsewhere_stays():
    text = BIASED.replace("=> (float[B, N, 8] y)", "=> (float[B, N, 8] y, float[B, N, 8] z)")
    model = applied(fuse_activations, text.replace("d = Div", "z = Relu(s) d = Div"), X, modified=1)
    assert sorted(operators(model)) == ["Add", "Gelu", "Relu"]


def test_a_residual_is_no_bias():
    text = GELU.replace("s = Relu(x)", "s = Add(x, x)")
    model = applied(fuse_activations, text, X, modified=1)
    assert operators(model) == ["Add", "Gelu"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{1.4142135}", "{1.4141}"),
        ("one = Constant<value = float {1.0}>", "one = Constant<value = float {1.001}>"),
        ("{0.5}", "{0.51}"),
        ("e = Erf(d)", "e = Tanh(d)"),
        ("m = Mul(s, b)", "m = Mul(x, b)"),
    ],
    ids=["root", "one", "half", "tanh", "other-factor"],
)
def test_what_is_not_the_exact_gelu_stays(old, new):
    assert old in GELU
    applied(fuse_activations, GELU.replace(old, new), X, modified=0)


@pytest.mark.parametrize(
    ("body", "alpha"),
    [
        ("t = Sigmoid(x) y = Mul(x, t)", 1.0),
        ("t = Sigmoid(x) y = Mul(t, x)", 1.0),
        ("a = Constant<value = float {1.702}>() s = Mul(x, a) t = Sigmoid(s) y = Mul(x, t)", 1.702),
        ("a = Constant<value = float {1.702}>() s = Mul(a, x) t = Sigmoid(s) y = Mul(x, t)", 1.702),
    ],
)
def test_a_value_times_its_sigmoid_is_fused(body, alpha):
    model = applied(fuse_activations, f"g (float[B, N, 8] x) => (float[B, N, 8] y) {{ {body} }}", X, modified=1)
    assert operators(model) == ["QuickGelu"]
    assert model.graph.node(-1).attributes["alpha"].value == pytest.approx(alpha)


@pytest.mark.parametrize(
    "body",
    [
        "t = Sigmoid(x) r = Relu(x) y = Mul(r, t)",
        "t = Tanh(x) y = Mul(x, t)",
        "a = Constant<value = float[2, 1, 1] {1., 2.}>() s = Mul(x, a) t = Sigmoid(s) y = Mul(x, t)",
        "t = Sigmoid(x) u = Mul(x, t) y = Add(u, t)",
    ],
    ids=["other-value", "tanh", "factor-per-image", "gate-read-elsewhere"],
)
def test_another_gate_stays(body):
    applied(fuse_activations, f"g (float[B, N, 8] x) => (float[B, N, 8] y) {{ {body} }}", X, modified=0)
