"""Pairs merge, equal things are computed once, what nobody reads goes."""

import numpy as np
import pytest

from ldm_export.optimise.merge_pairs import merge_pairs
from ldm_export.optimise.remove_unused import remove_unused
from ldm_export.optimise.share_duplicates import share_duplicates
from tests.optimise.graphs import applied, normal, operators, parse

X = {"x": normal(2, 3, 4, 5)}


def test_two_transposes_become_one():
    text = """g (float[B, 3, N, 5] x) => (float[B, 5, 3, N] y) {
        t = Transpose<perm = [0, 2, 1, 3]>(x)
        y = Transpose<perm = [0, 3, 2, 1]>(t)
    }"""
    model = applied(merge_pairs, text, X, modified=1)
    assert operators(model) == ["Transpose"]


def test_the_first_transpose_stays_for_others_that_read_it():
    text = """g (float[B, 3, N, 5] x) => (float[B, 5, 3, N] y, float[B, N, 3, 5] z) {
        t = Transpose<perm = [0, 2, 1, 3]>(x)
        y = Transpose<perm = [0, 3, 2, 1]>(t)
        z = Relu(t)
    }"""
    model = applied(merge_pairs, text, X, modified=1)
    assert operators(model).count("Transpose") == 2


def test_a_transpose_after_something_else_stays():
    text = """g (float[B, 3, N, 5] x) => (float[B, 5, 3, N] y) {
        t = Transpose<perm = [0, 2, 1, 3]>(x)
        r = Relu(t)
        y = Transpose<perm = [0, 3, 2, 1]>(r)
    }"""
    applied(merge_pairs, text, X, modified=0)


def test_equal_nodes_become_one():
    text = """g (float[B, 3] x) => (float[B, 3] y) {
        a = Constant<value = float {2.0}>()
        b = Constant<value = float {2.0}>()
        s = Mul(x, a)
        t = Mul(x, b)
        y = Add(s, t)
    }"""
    model = applied(share_duplicates, text, {"x": normal(2, 3)}, modified=2)
    assert operators(model) == ["Mul", "Add"]


def test_nodes_that_differ_in_an_attribute_or_an_input_stay():
    text = """g (float[2, 3] x) => (float[2, 3] y, float[2] p, float[3] q) {
        a = Constant<value = float {2.0}>()
        b = Constant<value = float {2.5}>()
        s = Mul(x, a)
        t = Mul(x, b)
        y = Add(s, t)
        c = Constant<value = int64[1] {1}>()
        d = Constant<value = int64[1] {0}>()
        p = ReduceSum<keepdims = 0>(x, c)
        q = ReduceSum<keepdims = 0>(x, d)
    }"""
    applied(share_duplicates, text, {"x": normal(2, 3)}, modified=0)


def test_random_nodes_are_not_shared():
    text = """g (float[64] x) => (float[64] y) {
        s = RandomNormalLike<seed = 1.0>(x)
        t = RandomNormalLike<seed = 1.0>(x)
        y = Sub(s, t)
    }"""
    _, count = share_duplicates(parse(text))
    assert count == 0


def test_what_nobody_reads_goes_with_what_fed_it_alone():
    text = """g (float[B, 3] x) => (float[B, 3] y) <float[3] w = {1., 2., 3.}, float[3] v = {4., 5., 6.}> {
        dead = Mul(x, w)
        end = Relu(dead)
        y = Add(x, v)
    }"""
    model = applied(remove_unused, text, {"x": normal(2, 3)}, modified=3)
    assert operators(model) == ["Add"] and list(model.graph.initializers) == ["v"]


def test_what_is_read_stays():
    text = """g (float[B, 3] x) => (float[B, 3] y, float[B, 3] z) <float[3] w = {1.0, 2.0, 3.0}> {
        y = Mul(x, w)
        z = Relu(y)
    }"""
    model = applied(remove_unused, text, {"x": np.ones((2, 3), np.float32)}, modified=0)
    assert len(model.graph.outputs) == 2


UNSQUEEZES = """g (float[2, 3] x) => (float[P, Q, R, S] y) {{
    a = Constant<value = int64[{n}] {{{first}}}>()
    b = Constant<value = int64[{m}] {{{second}}}>()
    t = Unsqueeze(x, a)
    y = Unsqueeze(t, b)
}}"""


@pytest.mark.parametrize(("first", "second"), [((2,), (3,)), ((0,), (0,)), ((1,), (0,)), ((2,), (1,)), ((0,), (2,))])
def test_two_unsqueezes_become_one(first, second):
    text = UNSQUEEZES.format(n=len(first), first=str(first)[1:-2], m=len(second), second=str(second)[1:-2])
    model = applied(merge_pairs, text, {"x": normal(2, 3)}, modified=1)
    assert operators(model) == ["Unsqueeze"]


def test_unsqueezes_that_count_axes_from_the_end_stay():
    text = UNSQUEEZES.format(n=1, first="-1", m=1, second="-1")
    applied(merge_pairs, text, {"x": normal(2, 3)}, modified=0)


CONCATS = """g (float[2, 3] x) => (float[P, Q] y{more}) {{
    t = Concat<axis = {axis}>(x, x)
    y = Concat<axis = 0>(x, t, x)
    {rest}
}}"""


def test_a_concat_in_a_concat_becomes_part_of_it():
    text = CONCATS.format(axis=0, more="", rest="")
    model = applied(merge_pairs, text, {"x": normal(2, 3)}, modified=1)
    assert operators(model) == ["Concat"]


def test_a_concat_along_another_axis_or_with_another_reader_stays():
    other = """g (float[2, 2] x) => (float[P, Q] y) {
        t = Concat<axis = 1>(x, x)
        u = Concat<axis = 1>(t, t)
        v = Concat<axis = 0>(u, u)
        y = Relu(v)
    }"""
    applied(merge_pairs, other, {"x": normal(2, 2)}, modified=0)
    read_twice = CONCATS.format(axis=0, more=", float[P, Q] z", rest="z = Relu(t)")
    applied(merge_pairs, read_twice, {"x": normal(2, 3)}, modified=0)


PAD = """g (float[B, 2, H, W] x) => (float[B, 3, P, Q] y) {{
    amounts = Constant<value = int64[8] {{{pads}}}>()
    number = Constant<value = float {{{number}}}>()
    t = Pad<mode = "{mode}">(x, amounts, number)
    y = Conv<strides = [2, 2]{more}>(t, w)
}}"""
IMAGE, KERNEL = {"x": normal(2, 2, 7, 6)}, {"w": normal(3, 2, 3, 3, seed=1)}


def pad(pads="0, 0, 0, 0, 0, 0, 1, 1", number="0.0", mode="constant", more="") -> str:
    return PAD.format(pads=pads, number=number, mode=mode, more=more)


@pytest.mark.parametrize("text", [pad(), pad(pads="0, 0, 2, 1, 0, 0, 0, 3"), pad(more=", pads = [1, 0, 2, 3]")])
def test_zeros_around_an_image_become_pads_of_the_convolution(text):
    model = applied(merge_pairs, text, IMAGE, modified=1, weights=KERNEL)
    assert operators(model) == ["Conv"]


@pytest.mark.parametrize(
    "text",
    [
        pad(number="1.0"),
        pad(mode="reflect"),
        pad(pads="0, 0, -1, 0, 0, 0, 1, 1"),
        pad(pads="1, 0, 0, 0, 0, 0, 1, 1"),  # one more image
        pad(more=', auto_pad = "SAME_UPPER"'),
    ],
)
def test_another_pad_stays(text):
    applied(merge_pairs, text, IMAGE, modified=0, weights=KERNEL)


def test_a_pad_with_another_reader_stays():
    text = (
        pad()
        .replace("float[B, 3, P, Q] y)", "float[B, 3, P, Q] y, float[B, 2, R, S] z)")
        .replace("\n}", "\n z = Relu(t)\n}")
    )
    applied(merge_pairs, text, IMAGE, modified=0, weights=KERNEL)
