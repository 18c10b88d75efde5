"""What changes nothing goes; what only looks like it stays."""

import numpy as np
import pytest

from ldm_export.optimise.remove_no_ops import remove_no_ops
from tests.optimise.graphs import applied, normal, operators, parse

X = {"x": normal(2, 3)}


def chain(body: str) -> str:
    """A graph around `body`, which makes t from x (B, 3); what follows lets the output keep its name."""
    return f"g (float[B, 3] x) => (float[B, M] y) {{ {body} y = Relu(t) }}"


@pytest.mark.parametrize(
    "body",
    [
        "t = Identity(x)",
        "t = Cast<to = 1>(x)",
        "t = CastLike(x, x)",
        "one = Constant<value = float {1.0}>() t = Mul(x, one)",
        "one = Constant<value = float {1.0}>() t = Mul(one, x)",
        "one = Constant<value = float[1] {1.0}>() t = Div(x, one)",
        "zero = Constant<value = float {0.0}>() t = Add(zero, x)",
        "zero = Constant<value = float {0.0}>() t = Sub(x, zero)",
        "t = Concat<axis = 1>(x)",
        "t = Transpose<perm = [0, 1]>(x)",
        "none = Constant<value = int64[4] {0, 0, 0, 0}>() t = Pad(x, none)",
        "same = Constant<value = int64[2] {0, 3}>() t = Reshape(x, same)",
    ],
)
def test_an_operator_that_hands_on_its_input_goes(body):
    model = applied(remove_no_ops, chain(body), X, modified=1)
    assert operators(model) == ["Relu"]


@pytest.mark.parametrize(
    "body",
    [
        "k = Cast<to = 7>(x) t = Cast<to = 1>(k)",
        "two = Constant<value = float {2.0}>() t = Mul(x, two)",
        "one = Constant<value = float {1.0}>() t = Div(one, x)",
        "one = Constant<value = float {1.0}>() t = Add(x, one)",
        "zero = Constant<value = float {0.0}>() t = Sub(zero, x)",
        "ones = Constant<value = float[3] {1.0, 2.0, 1.0}>() t = Mul(x, ones)",
        "t = Concat<axis = 1>(x, x)",
        "one = Constant<value = int64[4] {0, 1, 0, 0}>() t = Pad(x, one)",
        "flat = Constant<value = int64[2] {-1, 1}>() t = Reshape(x, flat)",
    ],
)
def test_an_operator_that_changes_something_stays(body):
    applied(remove_no_ops, chain(body), X, modified=0)


def test_one_times_a_smaller_value_broadcasts_and_stays():
    text = """g (float[B, 3] x) => (float[1, B, 3] y) {
        one = Constant<value = float[1, 1, 1] {1.0}>()
        t = Mul(x, one)
        y = Relu(t)
    }"""
    applied(remove_no_ops, text, X, modified=0)


def test_expanding_to_the_same_shape_goes_and_to_another_stays():
    text = """g (float[B, 3] x) => (float[B, 3] y, float[2, 2, 3] z) {
        shape = Shape(x)
        t = Expand(x, shape)
        y = Relu(t)
        more = Constant<value = int64[3] {2, 1, 1}>()
        u = Expand(x, more)
        z = Relu(u)
    }"""
    model = parse(text)
    model.graph.node(1).outputs[0].shape = model.graph.inputs[0].shape  # as the tracer notes it
    _, count = remove_no_ops(model)
    assert count == 1
    assert operators(model).count("Expand") == 1


def test_reshaping_there_and_back_goes():
    text = """g (float[B, 3] x) => (float[B, 3] y) {
        axes = Constant<value = int64[1] {0}>()
        up = Unsqueeze(x, axes)
        down = Squeeze(up, axes)
        y = Relu(down)
    }"""
    model = applied(remove_no_ops, text, X, modified=1)
    assert operators(model) == ["Relu"]


def test_a_transpose_between_reshapes_keeps_them():
    text = """g (float[B, 3] x) => (float[3, B] y) {
        axes = Constant<value = int64[1] {0}>()
        up = Unsqueeze(x, axes)
        turned = Transpose<perm = [0, 2, 1]>(up)
        down = Squeeze(turned, axes)
        y = Relu(down)
    }"""
    applied(remove_no_ops, text, X, modified=0)


def test_outputs_of_the_graph_keep_their_names():
    text = "g (float[B, 3] x) => (float[B, 3] y) { t = Relu(x) y = Identity(t) }"
    model = applied(remove_no_ops, text, X, modified=1)
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_an_input_that_is_an_output_too_stays_two_values():
    applied(remove_no_ops, "g (float[B, 3] x) => (float[B, 3] y) { y = Identity(x) }", X, modified=0)


def test_two_outputs_that_are_equal_stay_two():
    text = "g (float[B, 3] x) => (float[B, 3] y, float[B, 3] z) { y = Relu(x) z = Identity(y) }"
    applied(remove_no_ops, text, X, modified=0)


def test_integers_divided_by_one_stay_integers():
    text = """g (int64[B] x) => (int64[B] y) {
        one = Constant<value = int64 {1}>()
        t = Div(x, one)
        y = Neg(t)
    }"""
    model = applied(remove_no_ops, text, {"x": np.array([4, 5])}, modified=1)
    assert operators(model) == ["Neg"]
