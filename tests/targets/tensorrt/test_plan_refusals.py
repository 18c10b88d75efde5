"""What TensorRT itself refuses comes back as one sentence that names the node."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from ldm_export.errors import ExportError
from ldm_export.targets.tensorrt.plan import PlanRequest, build_plan
from ldm_export.targets.tensorrt.profiles import Profile, axis_ranges, input_shapes
from ldm_runtime.engines.tensorrt.library import read_header
from ldm_runtime.package.open import read_manifest
from tests.targets.tensorrt.planning import RTX

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_this_process")]


def request(folder: Path, component: str = "unet", **changes: Any) -> PlanRequest:
    manifest = read_manifest(folder)
    made = PlanRequest(
        graph=folder / component / "model.onnx",
        plan=folder / "out.plan",
        name="a name",
        flavour="rtx",
        capabilities=("8.9",),
        profiles=(input_shapes(manifest.contract, component, axis_ranges(manifest.contract, Profile())[component]),),
    )
    return dataclasses.replace(made, **changes)


def edit(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    path = folder / "unet" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    change(model)
    onnx.save(model, path)


def refused(made: PlanRequest, *texts: str) -> None:
    with pytest.raises(ExportError) as raised:
        build_plan(made)
    message = str(raised.value)
    assert "\n" not in message and "catchCudaError" not in message
    for text in texts:
        assert text in message, message
    assert not made.plan.exists()


def test_operators_that_tensorrt_lacks_are_listed_by_node(copy: Path) -> None:
    def quick_gelu(model: onnx.ModelProto) -> None:
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
        for node in model.graph.node:
            if node.op_type == "Tanh":
                node.op_type, node.domain, node.name = "QuickGelu", "com.microsoft", "unet/act/QuickGelu"

    edit(copy, quick_gelu)
    refused(request(copy), "cannot read", "node 'unet/act/QuickGelu' (QuickGelu): ", "Plugin not found")


def test_types_that_do_not_go_together_are_said_by_node(copy: Path) -> None:
    def halve(model: onnx.ModelProto) -> None:
        (add,) = (node for node in model.graph.node if node.output[0] == "with_time")
        model.graph.node.insert(0, onnx.helper.make_node("Cast", ["timestep"], ["half_time"], to=10))
        add.name, add.input[1] = "unet/add_time", "half_time"

    edit(copy, halve)
    refused(request(copy), "unet/add_time", "must have same input types")


def test_weights_that_are_missing_are_named_with_the_file(copy: Path) -> None:
    (copy / "unet" / "model.safetensors").unlink()
    refused(request(copy), "cannot read", "model.safetensors")


def test_what_is_no_graph_is_refused(copy: Path) -> None:
    for content in (b"", b"not protobuf at all"):
        (copy / "unet" / "model.onnx").write_bytes(content)
        refused(request(copy), "cannot read")


def test_precisions_that_a_gpu_lacks_come_back_in_tensorrts_words(copy: Path) -> None:
    """What the table refuses first; the table is right."""
    refused(request(copy, "text_encoder", capabilities=("9.0",)), "does not build for compute capability 9.0")
    refused(request(copy, capabilities=("7.5",)), "cannot build", "FP32 GEMM is not supported")


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        ({"sample": ((1, 4, 9, 9), (2, 4, 6, 8), (8, 4, 9, 12))}, ("refuses the profile", "MIN<=OPT<=MAX")),
        (
            {"sample": ((1, 3, 2, 2), (2, 3, 6, 8), (8, 3, 9, 12))},
            ("cannot build", "Dimension mismatch for tensor sample"),
        ),
        ({"encoder_hidden_states": ((1, 1, 6), (3, 12, 6), (8, 48, 6))}, ("cannot build", "batch")),
        ({"noise": ((1,), (1,), (1,))}, ("inputs encoder_hidden_states, sample, timestep, but the profile encoder",)),
    ],
)
def test_a_profile_that_contradicts_the_graph_is_refused(copy: Path, change: Any, texts: tuple[str, ...]) -> None:
    made = request(copy)
    refused(dataclasses.replace(made, profiles=({**made.profiles[0], **change},)), *texts)


def test_a_good_request_builds(copy: Path) -> None:
    """The twin of all that is refused above; two profiles at once."""
    made = request(copy)
    built = build_plan(dataclasses.replace(made, profiles=made.profiles * 2))
    assert built.version == RTX.version and made.plan.stat().st_size == read_header(made.plan).size
