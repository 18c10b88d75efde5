"""The passes together, on the graphs that ship: smaller, equal, stable, and sharing one data file."""

from collections import Counter

import onnx
import onnx_ir as ir
import pytest

from ldm_export.errors import ExportError
from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.optimise.pipeline import (
    CANONICAL_PASSES,
    count_operators,
    optimise,
    ort_cpu_passes,
    run_passes,
)
from tests.optimise.graphs import parse

COMPONENTS = ("text_encoder", "unet", "vae_encoder", "vae_decoder")


def counts(path) -> Counter:
    return Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_passes_make_every_graph_smaller(tiny_build, component):
    built = tiny_build("sd15")
    raw, canonical, fused = (
        counts(path)
        for path in (
            built.raw / component / "model.onnx",
            built.package / component / "model.onnx",
            built.package / component / "model.ort_cpu.onnx",
        )
    )
    assert fused.total() < canonical.total() < 0.75 * raw.total()
    heavy = ("Conv", "MatMul", "InstanceNormalization", "LayerNormalization", "Softmax", "Resize")
    assert {op: canonical[op] for op in heavy} == {op: raw[op] for op in heavy}


@pytest.mark.parametrize("component", COMPONENTS)
def test_all_attention_and_all_activations_are_fused_for_the_cpu(tiny_build, component):
    built = tiny_build("sd15")
    canonical = counts(built.package / component / "model.onnx")
    fused = counts(built.package / component / "model.ort_cpu.onnx")
    assert fused["Softmax"] == fused["Sigmoid"] == fused["Erf"] == 0
    assert fused["MultiHeadAttention"] == canonical["Softmax"] > 0
    assert fused["QuickGelu"] == canonical["Sigmoid"] > 0
    assert fused["Gelu"] + fused["BiasGelu"] == canonical["Erf"]


@pytest.mark.slow
@pytest.mark.parametrize("component", COMPONENTS)
def test_wide_convolutions_of_images_larger_than_the_latent_are_winograds(tiny_build, component):
    built = tiny_build("wide")
    canonical = counts(built.package / component / "model.onnx")
    fused = counts(built.package / component / "model.ort_cpu.onnx")
    done = {report.name: report.modified for report in built.passes[f"{component}/model.ort_cpu.onnx"]}
    expected = {"vae_encoder": 1, "vae_decoder": 4}.get(component, 0)  # the UNet's weights stay mapped: none there
    assert done["apply_winograd"] == expected
    assert fused["Sub"] - canonical["Sub"] == expected
    assert fused["Conv"] == canonical["Conv"] + 7 * expected + 3 * done["split_upsampling"]


@pytest.mark.parametrize("component", ["text_encoder", "unet"])
def test_every_layer_norm_is_one_operator(tiny_build, component):
    built = tiny_build("sd15")
    norms = [key for key in built.exports[component].keys if key.endswith(("norm.weight", "norm1.weight"))]
    for file in ("model.onnx", "model.ort_cpu.onnx"):
        graph = counts(built.package / component / file)
        assert graph["LayerNormalization"] + graph["InstanceNormalization"] >= len(norms) > 0
        assert graph["ReduceMean"] == graph["Pow"] == graph["Sqrt"] == 0


def test_little_arithmetic_on_sizes_is_left(tiny_build):
    graph = counts(tiny_build("sd15").package / "unet" / "model.onnx")
    assert graph["Identity"] == graph["Cast"] == graph["CastLike"] == graph["Slice"] == 0
    assert graph["Shape"] <= graph["InstanceNormalization"] + 6


@pytest.mark.parametrize("component", COMPONENTS)
def test_running_the_passes_again_changes_nothing(tiny_build, component):
    built = tiny_build("sd15")
    fused = ort_cpu_passes(built.specs[component].factors)
    for file, passes in (("model.onnx", CANONICAL_PASSES), ("model.ort_cpu.onnx", fused)):
        model = read_graph(built.package / component / file)
        before = count_operators(model)
        assert {report.modified for report in run_passes(model, passes)} == {0}
        assert count_operators(model) == before


def test_every_pass_reports_what_it_did(tiny_build):
    passes = tiny_build("sd15").passes
    for file, reports in passes.items():
        expected = CANONICAL_PASSES if file.endswith("model.onnx") else ort_cpu_passes({})
        assert [report.name for report in reports] == [each.__name__ for each in expected]
        for report in reports:
            assert sum(report.operators_before.values()) >= sum(report.operators_after.values()) > 0
    assert all(report.modified > 0 for report in passes["unet/model.onnx"])


def test_the_graph_on_disk_stays_when_a_pass_breaks_it(tmp_path):
    text = "g (float[B, 3] x) => (float[B, 3] y) { y = Relu(x) }"
    path = tmp_path / "model.onnx"
    write_graph(parse(text), path)
    before = path.read_bytes()

    def ruin(model: ir.Model) -> tuple[ir.Model, int]:
        model.graph.node(0).op_type = "NoSuchOperator"
        return model, 0

    with pytest.raises(ExportError, match="NoSuchOperator"):
        optimise(path, path, (ruin,))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_passes_that_undo_each_other_are_noticed():
    def always(model: ir.Model) -> tuple[ir.Model, int]:
        return model, 1

    with pytest.raises(AssertionError, match="rounds"):
        run_passes(parse("g (float[B, 3] x) => (float[B, 3] y) { y = Relu(x) }"), (always,))


@pytest.mark.parametrize("content", [None, b"", b"no protobuf at all, but a text"])
def test_what_is_no_graph_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExportError, match="model.onnx"):
        optimise(path, path, CANONICAL_PASSES)


def test_a_graph_whose_weights_are_missing_is_refused(tiny_build, tmp_path):
    source = tiny_build("sd15").package / "vae_decoder" / "model.onnx"
    (tmp_path / "model.onnx").write_bytes(source.read_bytes())
    with pytest.raises(ExportError, match="model.safetensors"):
        optimise(tmp_path / "model.onnx", tmp_path / "model.ort_cpu.onnx", ort_cpu_passes({}))
    assert not (tmp_path / "model.ort_cpu.onnx").exists()
