"""Arithmetic on sizes goes where the noted shapes say its result, and only there."""

import numpy as np

from ldm_export.optimise.matching import constant
from ldm_export.optimise.simplify_shapes import simplify_shapes
from tests.optimise.graphs import applied, normal, operators, parse, run

# (B, C, H, W) -> (B, H·W, C) as the tracer writes it
TO_TOKENS = """g (float[B, 4, H, W] x) => (float[B, N, 4] y) {
    b = Shape<start = 0, end = 1>(x)
    h = Shape<start = 2, end = 3>(x)
    w = Shape<start = 3, end = 4>(x)
    n = Mul(h, w)
    c = Constant<value = int64[1] {4}>()
    target = Concat<axis = 0>(b, n, c)
    last = Transpose<perm = [0, 2, 3, 1]>(x)
    y = Reshape<allowzero = 1>(last, target)
}"""


def traced(text: str, name: str, shape: tuple[int | str, ...]):
    """The graph with one value's shape noted, as the tracer does and inference cannot."""
    model = parse(text)
    for node in model.graph:
        for value in node.outputs:
            if value.name == name:
                value.shape = type(model.graph.inputs[0].shape)(shape)
    return model


def test_a_target_becomes_constant_with_one_size_left_over():
    model, count = simplify_shapes(traced(TO_TOKENS, "y", ("B", "H*W", 4)))
    reshape = next(node for node in model.graph if node.op_type == "Reshape")
    assert count == 1
    assert constant(reshape.inputs[1]).tolist() == [0, -1, 4]
    assert "allowzero" not in reshape.attributes
    assert simplify_shapes(model)[1] == 0


def test_results_stay_the_same_at_any_size():
    model, _ = simplify_shapes(traced(TO_TOKENS, "y", ("B", "H*W", 4)))
    for shape in ((1, 4, 2, 3), (3, 4, 5, 1)):
        x = normal(*shape)
        (got,) = run(model, {"x": x})
        np.testing.assert_array_equal(got, x.transpose(0, 2, 3, 1).reshape(shape[0], -1, 4))


def test_a_target_with_two_free_sizes_stays():
    text = """g (float[B, N, 4] x, float[B, 4, H, W] like) => (float[B, H, W, 4] y) {
        b = Shape<start = 0, end = 1>(x)
        size = Shape<start = 2, end = 4>(like)
        c = Constant<value = int64[1] {4}>()
        target = Concat<axis = 0>(b, size, c)
        y = Reshape(x, target)
    }"""
    feeds = {"x": normal(2, 6, 4), "like": normal(2, 4, 2, 3)}
    applied(simplify_shapes, text, feeds, modified=0)


def test_a_target_without_noted_shape_stays():
    text = """g (float[B, 4] x, int64[2] target) => (float[P, Q] y) { t = Reshape(x, target) y = Relu(t) }"""
    model = traced(text, "t", ("P", None))
    assert simplify_shapes(model)[1] == 0


def test_the_shape_of_fixed_sizes_becomes_constant():
    text = """g (float[B, 4, 5] x) => (int64[2] y) { s = Shape<start = 1>(x) y = Neg(s) }"""
    model = applied(simplify_shapes, text, {"x": normal(2, 4, 5)}, modified=1)
    assert operators(model) == ["Neg"]


def test_the_size_of_an_axis_is_read_from_the_first_input_that_has_it():
    text = """g (float[B, 4] x) => (int64[1] y) { t = Relu(x) s = Shape<start = 0, end = 1>(t) y = Neg(s) }"""
    model = applied(simplify_shapes, text, {"x": normal(2, 4)}, modified=1)
    assert operators(model) == ["Shape", "Neg"]
    assert model.graph.node(0).inputs[0].name == "x"


def test_an_axis_that_no_input_has_is_read_where_it_is():
    text = """g (float[B, 4] x) => (int64[1] y) { t = NonZero(x) s = Shape<start = 1, end = 2>(t) y = Neg(s) }"""
    applied(simplify_shapes, text, {"x": normal(2, 4)}, modified=0)


def test_a_shape_with_fixed_and_free_sizes_stays():
    text = """g (float[B, 4] x) => (int64[2] y) { t = Relu(x) s = Shape(t) y = Neg(s) }"""
    applied(simplify_shapes, text, {"x": normal(2, 4)}, modified=0)
