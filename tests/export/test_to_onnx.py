"""The exported files: standard, complete, dynamic, equal to torch, and made without a copy of the weights."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ldm_export import models
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.configs.vae import VAEConfig
from ldm_export.errors import CheckpointError, ExportError
from ldm_export.export.to_onnx import ONNX_TYPES, estimate_memory, export_component
from ldm_export.export.trace import IR_VERSION, OPSET, trace
from ldm_export.families.stable_diffusion import STABLE_DIFFUSION
from ldm_export.models import AutoencoderKL, UNet2DConditionModel
from ldm_runtime.errors import LdmError
from ldm_runtime.package import safetensors
from ldm_runtime.pipeline import builtin_package
from tests import traces
from tests.oracles import build_tiny_sd

COMPONENTS = ("text_encoder", "unet", "vae_encoder", "vae_decoder")
KINDS = ["sd15", "sd15-fp16", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("sd21", "sd21-bf16"))]
HALVES = KINDS[1::2]
FILES = ("model.onnx", "model.ort_cpu.onnx")


def graph_of(folder, component, file="model.onnx"):
    return onnx.load(folder / component / file, load_external_data=False)


def relative_rms(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(got.astype(np.float64) - wanted) / np.linalg.norm(wanted.astype(np.float64)))


def test_a_trace_is_remembered_for_the_code_that_was_traced_alone():
    spec = open_checkpoint(builtin_package(), check="size").specs["unet"]
    namesake = type("UNet2DConditionModel", (UNet2DConditionModel,), {"__module__": "elsewhere"})
    wrapper = type(spec.wrapper.__qualname__, (spec.wrapper,), {"__module__": "elsewhere"})
    wrapper.__qualname__ = spec.wrapper.__qualname__
    traced = [(spec, UNet2DConditionModel), (spec, namesake), (dataclasses.replace(spec, wrapper=wrapper), namesake)]
    assert len({repr(traces.about_trace(*each, config=None)) for each in traced}) == 3


def test_what_a_remembered_trace_may_differ_in_is_read_by_no_model():
    names = "|".join(traces.UNTRACED)
    read = [file.name for file in Path(models.__file__).parent.rglob("*.py") if re.search(names, file.read_text())]
    assert read == [] and vars(VAEConfig()).keys() >= traces.UNTRACED
    config = dataclasses.replace(VAEConfig(), scaling_factor=0.5)
    assert traces.traced_part(config) == traces.traced_part(VAEConfig())
    assert traces.traced_part(dataclasses.replace(config, latent_channels=5)) != traces.traced_part(VAEConfig())


@pytest.mark.parametrize("kind", [*KINDS, pytest.param("wide", marks=pytest.mark.slow)])
@pytest.mark.parametrize("component", COMPONENTS)
def test_every_graph_equals_torch_at_untraced_sizes(tiny_build, kind, component):
    built = tiny_build(kind)
    spec = built.specs[component]
    model = spec.wrap(built.checkpoint.load(spec.part))
    files = [
        built.raw / component / "model.onnx",
        built.package / component / "model.onnx",
        built.package / component / "model.ort_cpu.onnx",
    ]
    sessions = [onnxruntime.InferenceSession(file) for file in files]
    for seed, sizes in enumerate(spec.probes):
        feeds = spec.sample(sizes, seed)
        with torch.no_grad():
            wanted = model(*(torch.from_numpy(value) for value in feeds.values()))
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for file, session in zip(files, sessions, strict=True):
            for tensor, got, reference in zip(spec.outputs, session.run(None, feeds), wanted, strict=True):
                assert got.shape == spec.shape(tensor, sizes)
                assert relative_rms(got, reference.numpy()) <= 3e-6, (file.name, tensor.name, sizes)


@pytest.mark.parametrize("component", ["unet", "vae_encoder", "vae_decoder"])
def test_the_smallest_sizes_run(tiny_build, component):
    built = tiny_build("sd15")
    spec = built.specs[component]
    sizes = {name: axis.minimum for name, axis in spec.axes.items()}
    feeds = spec.sample(sizes, seed=0)
    for file in FILES:
        session = onnxruntime.InferenceSession(built.package / component / file)
        (got,) = session.run(None, feeds)
        assert got.shape == spec.shape(spec.outputs[0], sizes)
        assert np.isfinite(got).all()


@pytest.mark.parametrize("kind", ["sd15", *HALVES])
@pytest.mark.parametrize("component", COMPONENTS)
def test_the_canonical_graph_has_standard_operators_only(tiny_build, kind, component):
    for folder in (tiny_build(kind).raw, tiny_build(kind).package):
        model = graph_of(folder, component)
        assert {node.domain for node in model.graph.node} == {""}
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
        assert model.ir_version == IR_VERSION
        assert not model.functions
        onnx.checker.check_model(str(folder / component / "model.onnx"), full_check=True)


@pytest.mark.parametrize("component", COMPONENTS)
def test_inputs_and_outputs_are_the_specs(tiny_build, component):
    spec = tiny_build("sd15").specs[component]
    for file in FILES:
        graph = graph_of(tiny_build("sd15").package, component, file).graph
        for value, tensor in zip([*graph.input, *graph.output], [*spec.inputs, *spec.outputs], strict=True):
            kind = value.type.tensor_type
            dims = tuple(d.dim_param if d.dim_param else d.dim_value for d in kind.shape.dim)
            assert (value.name, dims) == (tensor.name, tensor.dims)
            assert onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) == tensor.dtype


@pytest.mark.parametrize(("kind", "dtype"), [("sd15", "F32"), ("sd15-fp16", "F16")])
@pytest.mark.parametrize("component", COMPONENTS)
def test_every_parameter_is_an_initialiser_with_the_checkpoints_bytes(tiny_build, kind, dtype, component):
    built = tiny_build(kind)
    spec, report = built.specs[component], built.exports[component]
    parameters = built.checkpoint.load(spec.part, dtype=None).state_dict()
    if spec.part == "vae":
        half = ("encoder.", "quant_conv.") if component == "vae_encoder" else ("decoder.", "post_quant_conv.")
        parameters = {name: value for name, value in parameters.items() if name.startswith(half)}
    assert report.keys.keys() == parameters.keys()
    stored = safetensors.read(built.package / report.weights)
    assert stored.keys() == {entry.initialiser for entry in report.keys.values()}
    for key, entry in report.keys.items():
        value = parameters[key].numpy()
        assert entry.dtype == dtype
        assert entry.initialiser == (key if entry.transpose is None else f"{key}.T")
        wanted = value if entry.transpose is None else value.transpose(entry.transpose)
        np.testing.assert_array_equal(stored[entry.initialiser], wanted, strict=True)


@pytest.mark.parametrize("kind", ["sd15", *HALVES])
@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("file", FILES)
def test_initialisers_are_the_weights_and_lie_where_the_data_file_says(tiny_build, kind, component, file):
    built = tiny_build(kind)
    header = safetensors.read_header(built.package / component / "model.safetensors")
    graph = graph_of(built.package, component, file).graph
    assert {tensor.name for tensor in graph.initializer} == header.tensors.keys()
    for tensor in graph.initializer:
        info = header.tensors[tensor.name]
        place = {entry.key: entry.value for entry in tensor.external_data}
        assert place == {
            "location": "model.safetensors",
            "offset": str(info.offset),
            "length": str(info.length),
        }
        assert tuple(tensor.dims) == info.shape and not tensor.raw_data
        assert tensor.data_type == ONNX_TYPES[info.dtype]


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("file", FILES)
def test_half_precision_is_widened_by_casts_that_stand_first(tiny_build, kind, component, file):
    graph = graph_of(tiny_build(kind).package, component, file).graph
    weights = {tensor.name for tensor in graph.initializer}
    casts, others = graph.node[: len(weights)], graph.node[len(weights) :]
    assert {node.op_type for node in casts} == {"Cast"}
    assert {node.input[0] for node in casts} == weights
    assert {onnx.helper.get_node_attr_value(node, "to") for node in casts} == {onnx.TensorProto.FLOAT}
    assert not weights & {name for node in others for name in node.input}


@pytest.mark.parametrize(
    ("full", "half"), [("sd15", "sd15-fp16"), pytest.param("sd21", "sd21-bf16", marks=pytest.mark.slow)]
)
def test_passes_find_the_same_in_half_precision(tiny_build, full, half):
    def modified(kind):
        return {file: [(each.name, each.modified) for each in done] for file, done in tiny_build(kind).passes.items()}

    assert modified(half) == modified(full)


@pytest.mark.parametrize(("kind", "suffix"), [("sd15", ""), ("sd15-fp16", "/wide")])
def test_linear_weights_are_stored_as_products_read_them(tiny_build, kind, suffix):
    for component in COMPONENTS:
        graph = graph_of(tiny_build(kind).package, component).graph
        weights = {tensor.name + suffix for tensor in graph.initializer}
        products = [node.input[1] for node in graph.node if node.op_type == "MatMul"]
        assert weights & set(products)
        assert all(name.endswith(f".weight.T{suffix}") for name in products if name in weights)
        assert not [n for n in graph.node if n.op_type == "Transpose" and n.input[0] in weights]


def test_nodes_are_named_after_their_modules_and_no_path_of_this_machine_is_kept(tiny_build):
    built = tiny_build("sd15")
    names = {node.name for node in graph_of(built.package, "unet").graph.node}
    assert "down_blocks.0.resnets.0.conv1/Conv" in names
    assert "mid_block.attentions.0.transformer_blocks.0.attn2.to_k/MatMul" in names
    for component in COMPONENTS:
        for file in FILES:
            content = (built.package / component / file).read_bytes()
            assert b".py" not in content and b"/home/" not in content and b"torch" not in content


@pytest.mark.slow
def test_exporting_twice_gives_the_same_files_and_tells_its_progress(tiny_build, tmp_path):
    built = tiny_build("sd15")
    said: list[str] = []
    export_component(built.checkpoint, "text_encoder", tmp_path, progress=said.append)
    assert len(said) >= 3 and all(text.startswith("text_encoder: ") for text in said)
    for file in ("model.onnx", "model.safetensors", "config.json"):
        expected = built.raw if file == "model.onnx" else built.package
        assert (tmp_path / "text_encoder" / file).read_bytes() == (expected / "text_encoder" / file).read_bytes()


def test_half_precision_halves_the_file(tiny_build):
    files = [tiny_build(kind).package / "unet" / "model.safetensors" for kind in ("sd15", "sd15-fp16")]
    full, half = (sum(info.length for info in safetensors.read_header(file).tensors.values()) for file in files)
    assert half == full / 2


@pytest.mark.slow
def test_a_variant_in_half_precision_is_exported_as_it_is(tmp_path):
    source = build_tiny_sd(tmp_path / "half", variant="fp16", dtype=torch.float16)
    report = export_component(open_checkpoint(source, "fp16"), "text_encoder", tmp_path)
    stored = safetensors.read_header(tmp_path / report.weights).tensors.values()
    assert {info.dtype for info in stored} == {entry.dtype for entry in report.keys.values()} == {"F16"}


@pytest.mark.slow
def test_every_weight_keeps_its_own_precision_but_float64_and_eight_bits(tiny_build, tmp_path):
    source = Path(shutil.copytree(tiny_build("sd15").source, tmp_path / "mixed"))
    file = source / "text_encoder" / "model.safetensors"
    kinds = {torch.float16: "F16", torch.float32: "F32", torch.bfloat16: "BF16", torch.float64: "F64"}
    kinds |= {torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"}
    becomes = {"F64": "F32", "F8_E4M3": "F16", "F8_E5M2": "F16"}
    tensors = {
        name: value.to(list(kinds)[index % 6]) for index, (name, value) in enumerate(sorted(load_file(file).items()))
    }
    save_file(tensors, file, {"format": "pt"})
    report = export_component(open_checkpoint(source), "text_encoder", tmp_path)
    stored = safetensors.read_header(tmp_path / report.weights).tensors
    for key, entry in report.keys.items():
        assert entry.dtype == kinds[tensors[key].dtype]
        assert stored[entry.initialiser].dtype == becomes.get(entry.dtype, entry.dtype)
    spec = tiny_build("sd15").specs["text_encoder"]
    feeds = spec.sample(spec.probes[0], seed=0)
    with torch.no_grad():
        wanted = open_checkpoint(source).load("text_encoder")(torch.from_numpy(feeds["input_ids"]))
    session = onnxruntime.InferenceSession(tmp_path / report.graph)
    for got, reference in zip(session.run(None, feeds), wanted, strict=True):
        assert relative_rms(got, reference.numpy()) <= 3e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sd15", *HALVES])
@pytest.mark.parametrize("component", COMPONENTS)
def test_a_package_is_exported_to_the_same_files_again(tiny_build, kind, component, tmp_path):
    built = tiny_build(kind)
    checkpoint = open_checkpoint(built.package)
    with traces.remembered(built.traces, checkpoint):
        export_component(checkpoint, component, tmp_path)
    for file in ("model.onnx", "model.safetensors"):
        assert (tmp_path / component / file).read_bytes() == (built.raw / component / file).read_bytes()


class FixedBatch(nn.Module):
    """A text encoder that works at one batch size only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state, pooled = self.model(input_ids)
        return state.reshape(3, -1, state.shape[-1]), pooled


@pytest.mark.slow
def test_a_model_that_fixes_a_size_is_refused(tiny_build):
    built = tiny_build("sd15")
    model = built.checkpoint.empty("text_encoder")
    with pytest.raises(ExportError, match="text_encoder"):
        trace(built.specs["text_encoder"], FixedBatch(model))


def test_the_memory_estimate_grows_with_the_weights(tiny_build, tmp_path):
    built = tiny_build("sd15")
    small = estimate_memory(open_checkpoint(built.source), "unet")
    assert small > estimate_memory(open_checkpoint(built.source), "text_encoder")
    shutil.copytree(built.source, tmp_path / "model")
    folder = tmp_path / "model" / "unet"
    tensors = safetensors.read(folder / "diffusion_pytorch_model.safetensors")
    weight_bytes = sum(array.nbytes for array in tensors.values())
    halves = {name: array.astype(np.float16) for name, array in tensors.items()}
    safetensors.write(folder / "diffusion_pytorch_model.safetensors", halves, {"format": "pt"})
    largest = max(array.nbytes for array in tensors.values())
    assert estimate_memory(open_checkpoint(tmp_path / "model"), "unet") == small - (weight_bytes + largest) // 2
    doubles = {name: array.astype(np.float64) for name, array in tensors.items()}
    safetensors.write(folder / "diffusion_pytorch_model.safetensors", doubles, {"format": "pt"})
    assert estimate_memory(open_checkpoint(tmp_path / "model"), "unet") == small + 3 * weight_bytes + largest


def test_a_source_that_has_changed_is_refused_before_anything_is_written(tiny_build, tmp_path):
    source = Path(shutil.copytree(tiny_build("sd15").source, tmp_path / "model"))
    checkpoint, out = open_checkpoint(source), tmp_path / "out"
    out.mkdir()
    (source / "text_encoder" / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="has changed since the checkpoint was opened"):
        export_component(checkpoint, "text_encoder", out)
    assert list(out.iterdir()) == []


def test_weights_that_do_not_fit_the_config_are_refused(tiny_build, tmp_path):
    source = tmp_path / "model"
    shutil.copytree(tiny_build("sd15").source, source)
    config = json.loads((source / "text_encoder" / "config.json").read_text())
    (source / "text_encoder" / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))
    with pytest.raises(LdmError, match="fc1"):
        export_component(open_checkpoint(source), "text_encoder", tmp_path)


@pytest.mark.slow
def test_an_autoencoder_without_attention_and_quant_convolutions_traces(tiny_build):
    configs = tiny_build("sd15").checkpoint.configs
    vae = dataclasses.replace(
        configs["vae"], mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False
    )
    table = STABLE_DIFFUSION.specs({**configs, "vae": vae})
    with torch.device("meta"):
        model = AutoencoderKL(vae)
    operators = {node.op_type for node in trace(table["vae_decoder"], model).graph}
    assert "Softmax" not in operators and "Conv" in operators
