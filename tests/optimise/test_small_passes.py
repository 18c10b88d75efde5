"""Transposes merge, equal things are computed once, what nobody reads goes."""

import numpy as np

from ldm_export.optimise.merge_transposes import merge_transposes
from ldm_export.optimise.remove_unused import remove_unused
from ldm_export.optimise.share_duplicates import share_duplicates
from tests.optimise.graphs import applied, normal, operators, parse

X = {"x": normal(2, 3, 4, 5)}


def test_two_transposes_become_one():
    text = """g (float[B, 3, N, 5] x) => (float[B, 5, 3, N] y) {
        t = Transpose<perm = [0, 2, 1, 3]>(x)
        y = Transpose<perm = [0, 3, 2, 1]>(t)
    }"""
    model = applied(merge_transposes, text, X, modified=1)
    assert operators(model) == ["Transpose"]


def test_the_first_transpose_stays_for_others_that_read_it():
    text = """g (float[B, 3, N, 5] x) => (float[B, 5, 3, N] y, float[B, N, 3, 5] z) {
        t = Transpose<perm = [0, 2, 1, 3]>(x)
        y = Transpose<perm = [0, 3, 2, 1]>(t)
        z = Relu(t)
    }"""
    model = applied(merge_transposes, text, X, modified=1)
    assert operators(model).count("Transpose") == 2


def test_a_transpose_after_something_else_stays():
    text = """g (float[B, 3, N, 5] x) => (float[B, 5, 3, N] y) {
        t = Transpose<perm = [0, 2, 1, 3]>(x)
        r = Relu(t)
        y = Transpose<perm = [0, 3, 2, 1]>(r)
    }"""
    applied(merge_transposes, text, X, modified=0)


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
