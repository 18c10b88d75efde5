"""A residual sum and the norm after it become one operator that gives both; broadcasting sums do not."""

import pytest

from ldm_export.optimise.fuse_layer_norm import fuse_layer_norm
from tests.optimise.graphs import applied, normal, operators

FEEDS = {"x": normal(2, 5, 8, seed=1), "skip": normal(2, 5, 8, seed=2)}

GRAPH = """g (float[B, N, 8] x, float[B, N, 8] skip) => (float[B, N, 8] y, float[B, N, 8] z)
    <float[8] scale = {1., 2., 3., 4., 5., 6., 7., 8.}, float[8] shift = {1., 0., 1., 0., 1., 0., 1., 0.},
     float[8] bias = {8., 7., 6., 5., 4., 3., 2., 1.}> {
    t = Add(x, skip)
    n = LayerNormalization<axis = -1, epsilon = 0.001>(t, scale, shift)
    y = Relu(n)
    z = Relu(skip)
}"""
RESIDUAL = GRAPH.replace("z = Relu(skip)", "z = Relu(t)")
BIASED = RESIDUAL.replace("t = Add(x, skip)", "b = Add(x, bias) t = Add(b, skip)")


def fused(model):
    (node,) = [node for node in model.graph if node.op_type == "SkipLayerNormalization"]
    assert node.domain == "com.microsoft"
    assert node.attributes["epsilon"].value == pytest.approx(0.001)
    return node


def test_the_sum_and_the_norm_are_one():
    model = applied(fuse_layer_norm, GRAPH, FEEDS, modified=1)
    assert operators(model) == ["SkipLayerNormalization", "Relu", "Relu"]
    assert len(fused(model).outputs) == 1


def test_the_sum_stays_readable():
    model = applied(fuse_layer_norm, RESIDUAL, FEEDS, modified=1)
    node = fused(model)
    assert node.outputs[3].name == "t" and node.outputs[3].uses()
    assert "Add" not in operators(model)


@pytest.mark.parametrize("order", ["b = Add(x, bias) t = Add(b, skip)", "b = Add(bias, x) t = Add(skip, b)"])
def test_a_bias_before_the_sum_is_taken_in(order):
    text = BIASED.replace("b = Add(x, bias) t = Add(b, skip)", order)
    model = applied(fuse_layer_norm, text, FEEDS, modified=1)
    assert operators(model) == ["SkipLayerNormalization", "Relu", "Relu"]
    assert fused(model).inputs[4].name == "bias"


def test_a_biased_value_that_is_read_elsewhere_is_kept():
    model = applied(fuse_layer_norm, BIASED.replace("z = Relu(t)", "z = Relu(b)"), FEEDS, modified=1)
    assert operators(model).count("Add") == 1


def test_a_chain_of_residuals_is_fused_throughout():
    text = RESIDUAL.replace(
        "z = Relu(t)",
        "u = Add(t, n) m = LayerNormalization<axis = -1, epsilon = 0.001>(u, shift, bias) z = Add(m, u)",
    )
    model = applied(fuse_layer_norm, text, FEEDS, modified=2)
    assert operators(model) == ["SkipLayerNormalization", "Relu", "SkipLayerNormalization", "Add"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("float[B, N, 8] skip)", "float[1, 8] skip)"),
        ("t = Add(x, skip)", "t = Sub(x, skip)"),
        ("t = Add(x, skip)", "t = Add(x, bias)"),
        ("axis = -1, epsilon = 0.001>(t, scale, shift)", "axis = -1, epsilon = 0.001>(t, scale)"),
    ],
    ids=["broadcast", "difference", "bias-alone", "no-shift"],
)
def test_another_sum_or_norm_stays(old, new):
    assert old in GRAPH
    text = GRAPH.replace(old, new)
    feeds = FEEDS
    if "float[1, 8]" in new:
        feeds = {**FEEDS, "skip": normal(1, 8)}
        text = text.replace("float[B, N, 8] z)", "float[1, 8] z)")
    applied(fuse_layer_norm, text, feeds, modified=0)


def test_a_norm_over_more_than_the_last_axis_stays():
    text = """g (float[B, 4, 8] x, float[B, 4, 8] skip, float[4, 8] scale, float[4, 8] shift)
        => (float[B, 4, 8] y) {
        t = Add(x, skip)
        y = LayerNormalization<axis = 1>(t, scale, shift)
    }"""
    feeds = {name: normal(2, 4, 8, seed=i) for i, name in enumerate(("x", "skip"))}
    feeds |= {name: normal(4, 8, seed=i) for i, name in enumerate(("scale", "shift"))}
    applied(fuse_layer_norm, text, feeds, modified=0)


def test_a_sum_that_is_an_output_stays():
    text = GRAPH.replace("t = Add(x, skip)", "z = Add(x, skip)").replace("z = Relu(skip)", "")
    applied(fuse_layer_norm, text.replace("(t, scale, shift)", "(z, scale, shift)"), FEEDS, modified=0)


def test_a_sum_that_is_read_before_the_norm_stays():
    text = RESIDUAL.replace("n = Layer", "z = Relu(t) n = Layer").replace("    z = Relu(t)\n}", "}")
    applied(fuse_layer_norm, text, FEEDS, modified=0)
