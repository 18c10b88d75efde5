"""Plans with weights in eight or four bits: really built, smaller, measured, and refused where they cannot be."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from ldm_export.errors import VerificationError
from ldm_export.lossy.blocks import pack_blocks
from ldm_export.lossy.quantise import quantise
from ldm_export.precision.table import PRECISIONS
from ldm_export.targets.tensorrt import narrow as narrowing
from ldm_export.targets.tensorrt.narrow import measure_narrow
from ldm_export.targets.tensorrt.reduced import PLAIN
from ldm_export.verify import reference_file
from ldm_runtime.engines.tensorrt.fit import requirements
from ldm_runtime.package.open import open_package
from tests.runtime.tiny_package import COMPONENTS
from tests.targets.tensorrt.planning import RTX, asked, build_tensorrt, files_of, plans_of
from tests.targets.tensorrt.test_plan_refusals import edit, refused
from tests.targets.tensorrt.test_plan_refusals import request as request_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_this_process")]


def test_plans_with_narrow_weights_are_smaller_and_carry_their_difference(
    proven: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    before = files_of(folder)
    for weights in ("whole", "w8", "w4"):
        build_tensorrt(folder, asked("rtx", ("8.9",), precision="bf16", weights=weights))
    name = f"rtx-{RTX.version}-sm89-bf16"
    for component in COMPONENTS:
        plans = plans_of(folder, component)
        assert list(plans) == [name, f"{name}-w8", f"{name}-w4"]
        whole, eight, four = (requirements(plan).weight_bytes for plan in plans.values())
        assert whole is not None and eight is not None and four is not None
        assert eight < (0.95 if component == "text_encoder" else 0.6) * whole  # half of it is a table of tokens
        assert four < eight if component == "unet" else four == eight
        differences = [plan.difference.relative_rms for plan in plans.values() if plan.difference is not None]
        assert len(differences) == 3 and max(differences) < PRECISIONS["bf16"].tolerance.relative_rms
        assert {(plan.precision, plan.exactness) for plan in plans.values()} == {("bf16", "lossy")}
    assert {name for name in files_of(folder) if not name.startswith("engines/")} == set(before)
    open_package(folder, check="full").confirm()


def test_narrow_weights_that_differ_too_much_are_refused(proven: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    before = files_of(folder)
    with pytest.raises(
        VerificationError,
        match=r"fp16, weights w4\).* more than the tolerance 2.00e-02; build with --weights w8, or build with",
    ):
        build_tensorrt(folder, asked("rtx", ("8.9",), precision="fp16", weights="w4"))
    assert files_of(folder) == before


def test_a_wrong_scale_of_one_layer_is_refused(
    proven: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    graph, reference = folder / "text_encoder/model.onnx", folder / reference_file.FILE
    good = measure_narrow(graph, reference, "text_encoder", "fp16", "w8", PLAIN)
    assert 1e-3 < good.relative_rms < 2e-2

    def spoilt(*arguments: Any) -> Any:
        model, data = quantise(*arguments)
        name = sorted(name for name in data if name.endswith("/scale"))[3]
        data[name] *= np.float32(1.5)
        return model, data

    monkeypatch.setattr(narrowing, "quantise", spoilt)
    with pytest.raises(VerificationError, match="more than the tolerance 2.00e-02; build with --precision bf16"):
        measure_narrow(graph, reference, "text_encoder", "fp16", "w8", PLAIN)


def test_products_in_onnx_runtimes_own_blocks_are_refused(copy: Path) -> None:
    """So that plans have DequantizeLinear in the place of MatMulNBits, which ONNX Runtime's graphs of `w4` have."""

    def pack(model: onnx.ModelProto) -> None:
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
        place, node = next((at, each) for at, each in enumerate(model.graph.node) if each.op_type == "MatMul")
        weight = next(each for each in model.graph.initializer if each.name == node.input[1])
        inputs, outputs = weight.dims
        packed, scales = pack_blocks(np.ones((outputs, inputs), np.float32))
        for name, array in (("packed", packed), ("scales", scales.astype(np.float16))):
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        attributes = {"domain": "com.microsoft", "K": inputs, "N": outputs, "bits": 4, "block_size": 32}
        made = [
            onnx.helper.make_node("Cast", [node.input[0]], ["as_half"], to=onnx.TensorProto.FLOAT16),
            onnx.helper.make_node(
                "MatMulNBits", ["as_half", "packed", "scales"], ["product"], "unet/MatMulNBits", **attributes
            ),
            onnx.helper.make_node("Cast", ["product"], list(node.output), to=onnx.TensorProto.FLOAT),
        ]
        model.graph.node.remove(node)
        for offset, each in enumerate(made):
            model.graph.node.insert(place + offset, each)

    edit(copy, pack)
    refused(request_of(copy), "cannot read", "unet/MatMulNBits", "failed to load MatMulNBits plugin")
