"""Constants are computed once, exactly, and never grow the file."""

import numpy as np

from ldm_export.optimise.fold_constants import FREE_BYTES, fold_constants
from ldm_export.optimise.matching import constant
from tests.optimise.graphs import applied, normal, operators, parse


def test_a_chain_of_constants_becomes_one():
    text = """g (float[B, 3] x) => (float[B, 3] y) {
        start = Constant<value = float {0.0}>()
        stop = Constant<value = float {3.0}>()
        step = Constant<value = float {1.0}>()
        r = Range(start, stop, step)
        f = Exp(r)
        y = Mul(x, f)
    }"""
    model = applied(fold_constants, text, {"x": normal(2, 3)}, modified=2)
    assert operators(model) == ["Mul"]


def test_float32_is_rounded_once_from_float64():
    numbers = np.linspace(-9, 0, 160, dtype=np.float32)
    listed = ", ".join(repr(float(number)) for number in numbers)
    text = f"""g (float[B, 160] x) => (float[B, 160] y) {{
        a = Constant<value = float[160] {{{listed}}}>()
        f = Exp(a)
        y = Mul(x, f)
    }}"""
    model, count = fold_constants(parse(text))
    product = next(node for node in model.graph if node.op_type == "Mul")
    assert count == 1
    np.testing.assert_array_equal(constant(product.inputs[1]), np.exp(numbers.astype(np.float64)).astype(np.float32))


def test_a_result_that_would_grow_the_file_is_left_to_the_engine():
    text = """g (float[1] x) => (float[M] y) {
        number = Constant<value = float[1] {2.0}>()
        size = Constant<value = int64[1] {SIZE}>()
        big = Expand(number, size)
        y = Mul(x, big)
    }"""
    feeds = {"x": normal(1)}
    applied(fold_constants, text.replace("SIZE", str(FREE_BYTES // 4 + 1)), feeds, modified=0)
    applied(fold_constants, text.replace("SIZE", str(FREE_BYTES // 4)), feeds, modified=1)


def test_a_large_constant_may_become_another_of_its_size():
    listed = ", ".join(["1.5"] * 2048)
    text = f"""g (float[1] x) => (float[2048] y) {{
        big = Constant<value = float[2048] {{{listed}}}>()
        other = Neg(big)
        y = Mul(x, other)
    }}"""
    applied(fold_constants, text, {"x": normal(1)}, modified=1)


def test_weights_are_never_folded():
    text = """g (float[B, 2] x) => (float[B, 2] y) <float[2, 2] w = {1.0, 2.0, 3.0, 4.0}> {
        t = Transpose<perm = [1, 0]>(w)
        y = MatMul(x, t)
    }"""
    model = applied(fold_constants, text, {"x": normal(3, 2)}, modified=0)
    assert list(model.graph.initializers) == ["w"]


def test_what_depends_on_an_input_stays():
    text = """g (float[B, 2] x) => (float[B, 2] y) {
        two = Constant<value = float {2.0}>()
        y = Mul(x, two)
    }"""
    applied(fold_constants, text, {"x": normal(3, 2)}, modified=0)


def test_random_numbers_stay_random():
    text = """g (float[2] x) => (float[2] y) {
        mean = Constant<value = float[2] {0.5, 0.5}>()
        r = Bernoulli(mean)
        y = Mul(x, r)
    }"""
    _, count = fold_constants(parse(text))
    assert count == 0


def test_a_cast_to_the_type_of_something_else_is_a_constant():
    text = """g (float[B] x) => (float[B] y) {
        three = Constant<value = int64 {3}>()
        like = CastLike(three, x)
        y = Mul(x, like)
    }"""
    model = applied(fold_constants, text, {"x": normal(2)}, modified=1)
    assert operators(model) == ["Mul"]
