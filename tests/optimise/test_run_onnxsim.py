"""onnxsim as a pass of ours, and as a judge of ours: what it still finds in our graphs, by operator."""

import sys
from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxsim
import pytest

from ldm_export.errors import ExportError
from ldm_export.export.graph_file import read_graph
from ldm_export.optimise.pipeline import CANONICAL_PASSES, count_operators, ort_cpu_passes, run_passes
from ldm_export.optimise.run_onnxsim import require_onnxsim, run_onnxsim
from tests.optimise.graphs import applied, normal, operators

COMPONENTS = ("text_encoder", "unet", "vae_encoder", "vae_decoder")
FILES = ("model.onnx", "model.ort_cpu.onnx")
KINDS = ("sd15", "sd15-fp16", "sd21")
X = {"x": normal(2, 3)}


def counts(model: onnx.ModelProto) -> Counter:
    return Counter(node.op_type for node in model.graph.node)


def removed_by_onnxsim(model: onnx.ModelProto) -> tuple[Counter, Counter]:
    """(removed, added): operator -> how many fewer, and how many more, onnxsim leaves; weights may be folded."""
    simplified, _ = onnxsim.simplify(model)
    before, after = counts(model), counts(simplified)
    return before - after, after - before


def reads_weight(model: onnx.ModelProto) -> Counter:
    """Operator -> nodes of it whose first or second input is a weight, widened to float32 or not."""
    weights = {weight.name for weight in model.graph.initializer}
    wide = {node.output[0] for node in model.graph.node if node.op_type == "Cast" and node.input[0] in weights}
    return Counter(node.op_type for node in model.graph.node if (weights | wide) & set(node.input[:2]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("component", COMPONENTS)
def test_onnxsim_finds_nothing_but_constants_and_what_depends_on_weights_alone(tiny_build, kind, component):
    """The bound, by operator; docs/passes.md says why the rest stays."""
    for file in FILES:
        model = onnx.load(tiny_build(kind).package / component / file)
        before, on_weights = counts(model), reads_weight(model)
        removed, added = removed_by_onnxsim(model)
        bound = {
            "Constant": before["Constant"],  # which become initialisers
            "Cast": on_weights["Cast"],  # half precision widened: the file is twice as large
            "Unsqueeze": on_weights["Unsqueeze"],  # of a norm's weights, (C,) to (C, 1, 1)
            # The sums of kernels for the decoder's upsampling, which engines fold when they load the graph.
            "Reshape": on_weights["Reshape"] + 5 * before["DepthToSpace"],
            "Split": before["DepthToSpace"],
            # MatMul and Add become Gemm between two Reshapes; MatMuls of one input become one and a Split.
            "MatMul": on_weights["MatMul"] + before["DepthToSpace"],
            "Add": on_weights["Add"],
        }
        excess = {operator: count for operator, count in removed.items() if count > bound.get(operator, 0)}
        assert excess == {}, f"{file}: onnxsim removes {dict(removed)} and adds {dict(added)}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("component", COMPONENTS)
def test_with_the_weights_as_they_are_it_finds_nothing_in_our_graphs(tiny_build, kind, component):
    for file in FILES:
        model = read_graph(tiny_build(kind).package / component / file)
        assert run_onnxsim(model) == (model, 0)


@pytest.mark.parametrize("component", COMPONENTS)
def test_it_notices_when_a_pass_of_ours_is_missing(tiny_build, component):
    """The judge can fail: before our passes it finds a lot."""
    model = read_graph(tiny_build("sd15").raw / component / "model.onnx")
    result, removed = run_onnxsim(model)
    assert removed > 5 and result is not model


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_pass_keeps_weights_names_and_shapes(tiny_build, component):
    """Alone on a raw graph, so that it has work; then every pass of ours still finds its patterns."""
    built = tiny_build("sd15-fp16")
    path = built.raw / component / "model.onnx"
    model, original = read_graph(path), read_graph(path)
    model, count = run_onnxsim(model)
    assert count > 0
    assert model.graph.initializers.keys() == original.graph.initializers.keys()
    for name, value in model.graph.initializers.items():
        assert value.const_value.dtype == original.graph.initializers[name].const_value.dtype == ir.DataType.FLOAT16
    assert [value.name for value in model.graph.inputs] == [value.name for value in original.graph.inputs]
    assert [value.name for value in model.graph.outputs] == [value.name for value in original.graph.outputs]
    run_passes(model, CANONICAL_PASSES)
    run_passes(model, ort_cpu_passes(built.specs[component].factors))
    heavy = ("com.microsoft.MultiHeadAttention", "com.microsoft.QuickGelu", "Conv", "LayerNormalization", "MatMul")
    shipped = count_operators(read_graph(built.package / component / "model.ort_cpu.onnx"))
    assert {name: count_operators(model).get(name) for name in heavy} == {name: shipped.get(name) for name in heavy}


def test_the_results_stay():
    text = """g (float[B, 3] x) => (float[B, 3] y) <float[3] w = {1.0, 2.0, 3.0}, float[3] v = {4.0, 5.0, 6.0}> {
        a = Identity(x)
        b = Transpose<perm = [1, 0]>(a)
        c = Transpose<perm = [1, 0]>(b)
        s = Add(w, v)
        y = Mul(c, s)
    }"""
    model = applied(run_onnxsim, text, X, modified=3)
    assert operators(model) == ["Add", "Mul"]  # of weights, nothing is computed
    assert list(model.graph.initializers) == ["w", "v"]


def test_a_graph_that_it_cannot_make_smaller_is_left_alone():
    text = """g (float[B, 3] x) => (float[B, 3] y) <float[3] w = {1.0, 2.0, 3.0}> { y = Mul(x, w) }"""
    applied(run_onnxsim, text, X, modified=0)


def test_without_onnxsim_there_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxsim", None)
    with pytest.raises(ExportError, match=r"pass onnxsim cannot be run .*pip install 'ldm-export\[onnxsim\]'"):
        require_onnxsim()


def test_a_failure_of_onnxsim_names_it(monkeypatch, tiny_build):
    def fail(model: onnx.ModelProto) -> None:
        raise RuntimeError("no supported data type: 17")

    monkeypatch.setattr(onnxsim, "simplify", fail)
    model = read_graph(tiny_build("sd15").package / "text_encoder" / "model.onnx")
    with pytest.raises(ExportError, match="onnxsim cannot simplify the graph: no supported data type"):
        run_onnxsim(model)


def test_small_constants_stay_nodes_of_the_graph(tiny_build):
    """Passes of ours read numbers from Constant nodes; an initialiser is a weight of the data file."""
    model, _ = run_onnxsim(read_graph(tiny_build("sd15").raw / "unet" / "model.onnx"))
    assert all(isinstance(value.const_value, ir.ExternalTensor) for value in model.graph.initializers.values())
    constants = [node for node in model.graph if node.op_type == "Constant"]
    assert constants and all(np.asarray(node.attributes["value"].value).size < 1024 for node in constants)
