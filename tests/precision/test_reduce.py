"""Graphs in fp16 and bf16: the right types in the right places, no cast too many, and overflow that is seen."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ldm_export.errors import ExportError
from ldm_export.export.graph_file import read_graph
from ldm_export.precision.reduce import TYPES, reduce_precision
from tests.optimise.graphs import HEADER, normal, operators, parse, run

BUILTIN = Path(__file__).parents[2] / "runtime/ldm_runtime/builtin"
PRECISIONS = ("fp16", "bf16")
FLOAT = ir.DataType.FLOAT


def types(model: ir.Model) -> dict[str, str]:
    """First output of every node by its operator; the type that it computes in."""
    return {node.op_type: str(node.outputs[0].dtype) for node in model.graph if node.op_type != "Cast"}


def test_inputs_and_outputs_stay_float32_and_what_is_between_does_not():
    text = """g (float[B, 4] x) => (float[B, 4] y) {
        a = Sigmoid(x)
        y = Tanh(a)
    }"""
    model = reduce_precision(parse(text), "fp16")
    assert operators(model) == ["Cast", "Sigmoid", "Tanh", "Cast"]
    assert types(model) == {"Sigmoid": "FLOAT16", "Tanh": "FLOAT16"}
    (x,), (y,) = model.graph.inputs, model.graph.outputs
    assert (x.name, x.dtype, y.name, y.dtype) == ("x", FLOAT, "y", FLOAT)
    value = normal(3, 4)
    (got,) = run(model, {"x": value})
    np.testing.assert_allclose(got, np.tanh(1 / (1 + np.exp(-value))), atol=2e-3)


@pytest.mark.parametrize(
    "operator",
    [
        "Softmax(a)",
        "Sqrt(a)",
        "LayerNormalization<axis = -1>(a, a)",
        "ReduceMean<keepdims = 0>(a)",
        "Pow(a, a)",
        "Exp(a)",
    ],
)
def test_operators_that_need_it_stay_float32(operator: str):
    text = f"""g (float[4] x) => (float[4] y, float[M] z) {{
        a = Tanh(x)
        b = {operator}
        y = Sigmoid(a)
        z = Sigmoid(b)
    }}"""
    model = reduce_precision(parse(text.replace("float[M]", "float" if "Reduce" in operator else "float[4]")), "fp16")
    kinds = types(model)
    assert kinds.pop(operator.partition("(")[0].partition("<")[0]) == "FLOAT"
    assert set(kinds.values()) == {"FLOAT16"}


def test_a_norm_that_is_written_out_keeps_its_epsilon():
    """1e-12 is nothing in fp16, and a variance of 1e10 infinite."""
    text = """g (float[B, 4] x) => (float[B, 4] y) {
        e = Constant<value = float {1e-12}>()
        m = ReduceMean<keepdims = 1>(x)
        v = Add(m, e)
        s = Sqrt(v)
        y = Tanh(s)
    }"""
    model = reduce_precision(parse(text), "fp16")
    assert types(model) == {
        "Constant": "FLOAT",
        "ReduceMean": "FLOAT",
        "Add": "FLOAT",
        "Sqrt": "FLOAT",
        "Tanh": "FLOAT16",
    }


def test_an_addition_after_a_norm_is_reduced():
    text = """g (float[B, 4] x) => (float[B, 4] y) {
        m = Softmax(x)
        v = Add(m, x)
        y = Tanh(v)
    }"""
    assert types(reduce_precision(parse(text), "fp16"))["Add"] == "FLOAT16"


def test_the_angles_of_a_timestep_keep_their_digits():
    text = """g (float t, float[4] f) => (float[4] y) {
        a = Mul(t, f)
        s = Sin(a)
        y = Sigmoid(s)
    }"""
    model = reduce_precision(parse(text), "fp16")
    assert types(model) == {"Mul": "FLOAT", "Sin": "FLOAT", "Sigmoid": "FLOAT16"}
    feeds = {"t": np.array(998.7, np.float32), "f": np.float32([1, 0.5, 0.25, 1.25])}
    expected = 1 / (1 + np.exp(-np.sin(feeds["t"] * feeds["f"])))
    np.testing.assert_allclose(run(model, feeds)[0], expected, atol=1e-3)


def test_numbers_that_become_sizes_keep_their_digits():
    text = """g (float[B, 4] x, float[1] s) => (float[M, 4] y) {
        two = Constant<value = float[1] {2.0}>()
        n = Mul(s, two)
        k = Cast<to = 7>(n)
        four = Constant<value = int64[1] {4}>()
        shape = Concat<axis = 0>(k, four)
        y = Expand(x, shape)
    }"""
    model = reduce_precision(parse(text), "bf16")
    assert types(model)["Mul"] == "FLOAT"


def test_moves_keep_the_type_that_comes_in():
    text = """g (float[B, 4] x) => (float[4, B] y, float[4, B] z) {
        a = Tanh(x)
        y = Transpose<perm = [1, 0]>(a)
        s = Softmax(x)
        z = Transpose<perm = [1, 0]>(s)
    }"""
    model = reduce_precision(parse(text), "fp16")
    kinds = [str(node.outputs[0].dtype) for node in model.graph if node.op_type == "Transpose"]
    assert sorted(kinds) == ["FLOAT", "FLOAT16"]
    assert operators(model).count("Cast") == 2  # x for Tanh, and y at the end


def test_shapes_are_read_without_a_cast():
    text = """g (float[B, 4] x) => (int64[2] y) {
        a = Tanh(x)
        y = Shape(a)
    }"""
    assert operators(reduce_precision(parse(text), "fp16")).count("Cast") == 1


def test_the_scales_of_a_resize_stay_float32():
    text = """g (float[1, 1, 4, 4] x) => (float[1, 1, 8, 8] y) {
        scales = Constant<value = float[4] {1.0, 1.0, 2.0, 2.0}>()
        a = Tanh(x)
        y = Resize<mode = "nearest">(a, , scales)
    }"""
    model = reduce_precision(parse(text), "fp16")
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert types(model)["Resize"] == "FLOAT16"


def stored_in_fp16() -> ir.Model:
    """A product with a weight that is stored in half precision and widened."""
    model = onnx.parser.parse_model(
        HEADER
        + """g (float[B, 2] x) => (float[B, 2] y) <int32[2, 2] stored = {1, 2, 3, 4}> {
        w = Cast<to = 1>(stored)
        y = MatMul(x, w)
    }"""
    )
    weight = onnx.numpy_helper.from_array(np.float16([[1, 2], [3, 4]]), "stored")
    model.graph.initializer[0].CopyFrom(weight)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def test_a_weight_of_the_same_type_is_read_as_it_is_stored():
    model = reduce_precision(stored_in_fp16(), "fp16")
    (product,) = (node for node in model.graph if node.op_type == "MatMul")
    assert product.inputs[1] is model.graph.initializers["stored"] and operators(model).count("Cast") == 2


def test_a_weight_of_another_type_is_cast_from_what_is_stored():
    model = reduce_precision(stored_in_fp16(), "bf16")
    (product,) = (node for node in model.graph if node.op_type == "MatMul")
    cast = product.inputs[1].producer()
    assert cast is not None and cast.inputs[0] is model.graph.initializers["stored"]
    assert model.graph.initializers["stored"].dtype == ir.DataType.FLOAT16  # no second copy


def test_a_graph_inside_of_a_graph_is_refused():
    text = """g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <
            then_branch = a () => (float[2] p) { p = Tanh(x) },
            else_branch = b () => (float[2] q) { q = Sigmoid(x) }
        >
    }"""
    with pytest.raises(ExportError, match=r"\(If\) has a graph inside"):
        reduce_precision(parse(text), "fp16")


# --- what is kept in float32 ---


KEPT = """g (float[B, 2] x) => (float[B, 2] y) {
    thousand = Constant<value = float {1000.0}>()
    a = Tanh(x)
    b = Mul(a, thousand)
    c = Mul(b, thousand)
    d = Div(c, thousand)
    y = Div(d, thousand)
}"""


def named(text: str) -> ir.Model:
    """A graph whose nodes are called as what they compute."""
    model = parse(text)
    for node in model.graph:
        node.name = node.outputs[0].name
    return model


def test_kept_nodes_compute_in_float32_and_the_rest_does_not():
    feeds = {"x": normal(3, 2)}
    models = [reduce_precision(named(KEPT), "fp16", emulate=True, keep=names) for names in ((), ("c", "d"))]
    plain, kept = (run(model, feeds)[0] for model in models)
    assert np.isinf(plain).all()
    np.testing.assert_allclose(kept, np.tanh(feeds["x"]), rtol=3e-3)


def test_a_kept_node_reads_and_writes_float32():
    model = reduce_precision(named(KEPT), "fp16", keep=("c", "d"))
    types_of = {node.name: node.outputs[0].dtype for node in model.graph}
    assert [types_of[name] for name in "abcd"] == [TYPES["fp16"], TYPES["fp16"], FLOAT, FLOAT]


def test_a_name_that_is_no_node_is_refused():
    with pytest.raises(ExportError, match="has no node 'z' that could stay in float32"):
        reduce_precision(named(KEPT), "fp16", keep=("a", "z"))


# --- the emulation -------------------------------------------------------------------------------------------------

OVERFLOW = """g (float[B, 2] x) => (float[B, 2] y) {
    thousand = Constant<value = float {1000.0}>()
    thousandth = Constant<value = float {0.001}>()
    a = Mul(x, thousand)
    b = Mul(a, x)
    y = Mul(b, thousandth)
}"""


def test_an_overflow_is_seen_in_fp16_and_not_in_bf16():
    """1000 · 300 · 300 · 0.001: the middle is beyond fp16's 65504, the end is not."""
    feeds = {"x": np.full((1, 2), 300, np.float32)}
    fp16, bf16 = (run(reduce_precision(parse(OVERFLOW), each, emulate=True), feeds)[0] for each in PRECISIONS)
    assert np.isinf(fp16).all()
    np.testing.assert_allclose(bf16, 90000, rtol=0.02)


def test_every_reduced_value_is_rounded_once():
    text = """g (float[B, 4] x) => (float[B, 4] y, float[B, 4] z) {
        a = Tanh(x)
        y = Sigmoid(a)
        z = Softmax(a)
    }"""
    x = normal(5, 4)
    y, z = run(reduce_precision(parse(text), "fp16", emulate=True), {"x": x})
    half = np.tanh(x.astype(np.float16).astype(np.float32)).astype(np.float16).astype(np.float32)
    exponentials = np.exp(half - half.max(axis=1, keepdims=True))
    np.testing.assert_array_equal(y, y.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-half)), rtol=6e-4)
    np.testing.assert_allclose(z, exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_emulation_computes_in_float32_alone(precision: str):
    model = reduce_precision(parse(OVERFLOW), precision, emulate=True)
    assert set(types(model).values()) == {"FLOAT"}
    (y,) = model.graph.outputs
    assert (y.name, y.dtype) == ("y", FLOAT)


# --- the graphs that ship ------------------------------------------------------------------------------------------


def component(name: str, precision: str, *, emulate: bool = False) -> ir.Model:
    return reduce_precision(read_graph(BUILTIN / name / "model.onnx"), precision, emulate=emulate)


@pytest.mark.parametrize("name", ["text_encoder", "unet", "vae_encoder", "vae_decoder"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_real_graphs_compute_in_the_type_but_for_norms_softmax_and_angles(name: str, precision: str):
    canonical = Counter(node.op_type for node in read_graph(BUILTIN / name / "model.onnx").graph)
    model = component(name, precision)
    kinds: dict[str, set[ir.DataType | None]] = {}
    for node in model.graph:
        kinds.setdefault(node.op_type, set()).add(node.outputs[0].dtype)
    for operator in {"Conv", "MatMul", "Sigmoid", "Erf", "Resize"} & set(kinds):
        assert kinds[operator] == {TYPES[precision]}, operator
    for operator in {"InstanceNormalization", "LayerNormalization", "Softmax", "Sin", "Cos"} & set(kinds):
        assert kinds[operator] == {FLOAT}, operator
    assert Counter(node.op_type for node in model.graph) - Counter({"Cast": 10**6}) == canonical - Counter(
        {"Cast": 10**6}
    )
    for tensors in (model.graph.inputs, model.graph.outputs):
        assert all(value.dtype in (FLOAT, ir.DataType.INT64) for value in tensors)


@pytest.mark.parametrize("name", ["text_encoder", "unet", "vae_encoder", "vae_decoder"])
def test_no_cast_follows_a_cast_and_none_is_made_twice(name: str):
    seen: set[tuple[ir.Value | None, int | None]] = set()
    for node in component(name, "fp16").graph:
        if node.op_type == "Cast":
            source = node.inputs[0]
            made = None if source is None else source.producer()
            assert made is None or made.op_type != "Cast", node.name
            key = (source, node.attributes.get_int("to"))
            assert key not in seen, node.name
            seen.add(key)


@pytest.mark.parametrize("name", ["text_encoder", "vae_decoder"])
def test_types_agree_everywhere_as_the_onnx_checker_sees_it(name: str, tmp_path: Path):
    """Only for fp16: opset 18 has no convolution in bf16, which TensorRT takes all the same."""
    path = tmp_path / "model.onnx"
    (tmp_path / "model.safetensors").symlink_to(BUILTIN / name / "model.safetensors")
    ir.save(component(name, "fp16"), path)
    model = onnx.load(path, load_external_data=False)
    del model.graph.value_info[:]  # let inference find the types by itself
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    assert {value.type.tensor_type.elem_type for value in inferred.graph.output} == {onnx.TensorProto.FLOAT}
