"""Attention's scale inside the projections: the same scores from smaller queries and keys."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from ldm_export.export.graph_file import read_graph
from ldm_export.optimise.fuse_attention import fuse_attention
from ldm_export.optimise.split_attention_scale import split_attention_scale
from tests.optimise.graphs import normal, parse, run

BUILTIN = Path(__file__).parents[2] / "runtime/ldm_runtime/builtin"
WEIGHTS = {"w_q": normal(4, 4), "w_k": normal(4, 4, seed=1), "b_k": normal(4, seed=2)}
X = {"x": normal(2, 3, 4, seed=3)}


def attention(scale: float, query: str = "MatMul(x, w_q)") -> ir.Model:
    text = f"""g (float[B, 3, 4] x) => (float[B, 2, 3, 3] y) {{
        heads = Constant<value = int64[4] {{0, 0, 2, 2}}>()
        scale = Constant<value = float {{{scale}}}>()
        q = {query}
        q_heads = Reshape(q, heads)
        q_split = Transpose<perm = [0, 2, 1, 3]>(q_heads)
        q_scaled = Mul(q_split, scale)
        k = MatMul(x, w_k)
        k_bias = Add(k, b_k)
        k_heads = Reshape(k_bias, heads)
        k_split = Transpose<perm = [0, 2, 3, 1]>(k_heads)
        scores = MatMul(q_scaled, k_split)
        y = Softmax<axis = -1>(scores)
    }}"""
    model = parse(text, WEIGHTS)
    for index, node in enumerate(model.graph):
        node.name = f"n{index}/{node.op_type}"
    return model


def value(model: ir.Model, name: str) -> np.ndarray:
    model.graph.outputs.extend(each for node in model.graph for each in node.outputs if each.name == name)
    return run(model, X)[1]


@pytest.mark.parametrize("scale", [0.5, 0.125, 0.15811388, 0.1])
def test_scores_stay_and_queries_and_keys_shrink(scale: float):
    model, count = split_attention_scale(attention(scale))
    assert count == 1
    np.testing.assert_allclose(run(model, X)[0], run(attention(scale), X)[0], rtol=2e-6)
    shares = []
    for name in ("q", "k_bias"):
        before, after = value(attention(scale), name), value(split_attention_scale(attention(scale))[0], name)
        shares.append(float(np.abs(after).max() / np.abs(before).max()))
    exponents = np.log2(shares)
    assert exponents == pytest.approx(np.round(exponents))
    assert exponents.sum() == round(np.log2(scale)) and abs(exponents[0] - exponents[1]) <= 1


def test_a_power_of_two_leaves_no_product():
    model, _ = split_attention_scale(attention(0.25))
    assert "q_scaled" not in [each.name for node in model.graph for each in node.outputs]


@pytest.mark.parametrize("scale", [0.125, 0.1])
def test_a_second_time_changes_nothing(scale: float):
    model, _ = split_attention_scale(attention(scale))
    before = ir.to_proto(model).SerializeToString()
    model, count = split_attention_scale(model)
    assert count == 0 and ir.to_proto(model).SerializeToString() == before


def test_queries_that_others_read_or_no_product_makes_stay():
    assert split_attention_scale(attention(0.125, "Tanh(x)"))[1] == 0
    model = attention(0.125)
    model.graph.outputs.extend(each for node in model.graph for each in node.outputs if each.name == "q")
    assert split_attention_scale(model)[1] == 0


def test_every_attention_of_the_shipped_unet_is_rewritten():
    graph = BUILTIN / "unet" / "model.onnx"
    _, fused = fuse_attention(read_graph(graph))
    assert split_attention_scale(read_graph(graph))[1] == fused > 0
