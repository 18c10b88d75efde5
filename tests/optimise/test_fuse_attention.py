"""Attention becomes one operator with the same result; what only resembles it does not."""

import pytest

from ldm_export.optimise.fuse_attention import fuse_attention
from tests.optimise.graphs import applied, normal, operators, parse

MASK = """
    zero = Constant<value = int64 {0}>()
    one = Constant<value = int64 {1}>()
    shape = Shape<start = 1, end = 2>(q)
    tokens = Squeeze(shape)
    columns = Range(zero, tokens, one)
    axis = Constant<value = int64[1] {1}>()
    rows = Unsqueeze(columns, axis)
    future = Greater(columns, rows)
    never = Constant<value = float {-inf}>()
    always = Constant<value = float {0.0}>()
    mask = Where(future, never, always)
    masked = Add(scores, mask)
"""

# q (B, N, 8), k and v (B, T, 8), two heads of four
ATTENTION = """g (float[B, N, 8] q, float[B, T, 8] k, float[B, T, 8] v) => (float[B, N, 8] y) {
    split = Constant<value = int64[4] {0, 0, 2, 4}>()
    merge = Constant<value = int64[3] {0, 0, 8}>()
    scale = Constant<value = float {0.5}>()
    q4 = Reshape(q, split)
    qh = Transpose<perm = [0, 2, 1, 3]>(q4)
    qs = Mul(qh, scale)
    k4 = Reshape(k, split)
    kh = Transpose<perm = [0, 2, 3, 1]>(k4)
    v4 = Reshape(v, split)
    vh = Transpose<perm = [0, 2, 1, 3]>(v4)
    scores = MatMul(qs, kh)
    p = Softmax<axis = -1>(scores)
    o = MatMul(p, vh)
    oh = Transpose<perm = [0, 2, 1, 3]>(o)
    y = Reshape(oh, merge)
}"""

CROSS = {"q": normal(2, 5, 8, seed=1), "k": normal(2, 7, 8, seed=2), "v": normal(2, 7, 8, seed=3)}
SELF = {"q": normal(2, 5, 8, seed=1), "k": normal(2, 5, 8, seed=2), "v": normal(2, 5, 8, seed=3)}
CAUSAL = ATTENTION.replace("    p = Softmax<axis = -1>(scores)", MASK + "    p = Softmax<axis = -1>(masked)")


def test_attention_to_another_sequence_is_fused():
    model = applied(fuse_attention, ATTENTION, CROSS, modified=1)
    (node,) = [node for node in model.graph if node.op_type != "Constant"]
    assert (node.domain, node.op_type) == ("com.microsoft", "MultiHeadAttention")
    assert node.attributes["num_heads"].value == 2
    assert node.attributes["scale"].value == 0.5
    assert node.attributes["unidirectional"].value == 0


def test_another_scale_is_kept():
    model = applied(fuse_attention, ATTENTION.replace("{0.5}", "{0.1}"), CROSS, modified=1)
    (node,) = [node for node in model.graph if node.op_type == "MultiHeadAttention"]
    assert node.attributes["scale"].value == pytest.approx(0.1)


def test_a_causal_mask_becomes_the_operators_own():
    model = applied(fuse_attention, CAUSAL, SELF, modified=1)
    (node,) = [node for node in model.graph if node.op_type != "Constant"]
    assert node.attributes["unidirectional"].value == 1


def test_the_values_name_and_shape_stay():
    model = applied(fuse_attention, ATTENTION, CROSS, modified=1)
    (output,) = model.graph.outputs
    assert output.name == "y" and [str(dim) for dim in output.shape] == ["B", "N", "8"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Softmax<axis = -1>(scores)", "Softmax<axis = 2>(scores)"),
        ("qs = Mul(qh, scale)", "two = Constant<value = float[2,1,1] {0.5, 1.0}>() qs = Mul(qh, two)"),
        ("qs = Mul(qh, scale)", "qs = Div(qh, scale)"),
        ("oh = Transpose<perm = [0, 2, 1, 3]>(o)", "r = Relu(o) oh = Transpose<perm = [0, 2, 1, 3]>(r)"),
        ("o = MatMul(p, vh)", "r = Relu(p) o = MatMul(r, vh)"),
        ("scores = MatMul(qs, kh)", "s = MatMul(qs, kh) scores = Add(s, scale)"),
        ("vh = Transpose<perm = [0, 2, 1, 3]>(v4)", "vt = Relu(v4) vh = Transpose<perm = [0, 2, 1, 3]>(vt)"),
    ],
    ids=["other-axis", "scale-per-head", "divided", "after", "between", "shifted", "changed-values"],
)
def test_something_else_is_not_fused(old, new):
    assert old in ATTENTION
    applied(fuse_attention, ATTENTION.replace(old, new), CROSS, modified=0)


def test_probabilities_that_are_read_elsewhere_are_kept():
    text = ATTENTION.replace("=> (float[B, N, 8] y)", "=> (float[B, N, 8] y, float[B, 2, N, T] z)")
    text = text.replace("y = Reshape(oh, merge)", "y = Reshape(oh, merge) z = Relu(p)")
    applied(fuse_attention, text, CROSS, modified=0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Greater(columns, rows)", "Greater(rows, columns)"),
        ("{-inf}", "{-1.0}"),
        ("Where(future, never, always)", "Where(future, always, never)"),
        ("value = int64 {1}", "value = int64 {2}"),
    ],
    ids=["past", "finite", "inverted", "every-second"],
)
def test_another_mask_is_not_taken_for_the_causal_one(old, new):
    assert old in CAUSAL
    model, count = fuse_attention(parse(CAUSAL.replace(old, new)))
    assert count == 0 and "MultiHeadAttention" not in operators(model)
