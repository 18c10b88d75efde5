"""Plans in half precision: their difference is recorded, and what overflows is repaired or named."""

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from ldm_export.errors import VerificationError
from ldm_export.precision.table import PRECISIONS
from ldm_export.targets.tensorrt import repair as repairing
from ldm_export.targets.tensorrt.reduced import compare_reduced, exact_session, reduced_graph
from ldm_export.targets.tensorrt.repair import measure_or_repair
from ldm_export.verify import reference_file
from ldm_export.verify.compare import judge
from ldm_runtime.errors import PackageError
from ldm_runtime.package.open import open_package
from tests.once import make_once
from tests.runtime.tiny_package import COMPONENTS
from tests.targets.tensorrt import overflowing
from tests.targets.tensorrt.planning import RTX, asked, build_tensorrt, capabilities_of, files_of, plans_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_this_process")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "capabilities", "sets"),
    [
        ("fp16", ("7.5", "8.9"), {"sm75-fp16": ("7.5",), "sm89-fp16": ("8.9",)}),
        ("bf16", ("8.9",), {"sm89-bf16": ("8.9",)}),
    ],
)
def test_plans_in_reduced_precision_carry_their_difference(
    proven: Callable[[str], Path],
    tmp_path: Path,
    precision: Any,
    capabilities: tuple[str, ...],
    sets: dict[str, tuple[str, ...]],
) -> None:
    folder = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    before = files_of(folder)
    build_tensorrt(folder, asked("rtx", capabilities, precision=precision))
    assert capabilities_of(folder) == {f"rtx-{RTX.version}-{name}": each for name, each in sets.items()}
    tolerance = PRECISIONS[precision].tolerance.relative_rms
    for component in COMPONENTS:
        for plan in plans_of(folder, component).values():
            assert plan.exactness == "lossy" and plan.difference is not None
            assert 1e-5 < plan.difference.relative_rms < tolerance
    left = {name for name in files_of(folder) if not name.startswith("engines/")}
    assert left == set(before)  # no reduced graph stays
    open_package(folder, check="full").confirm()


@pytest.mark.slow
def test_fp32_plans_of_real_graphs(proven: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    build_tensorrt(folder, asked("rtx", ("8.9",), profiles=("size=32:64:128", "windows=1:1:2")))
    assert [plan.exactness for name in COMPONENTS for plan in plans_of(folder, name).values()] == ["exact"] * 4


def scaled_decoder(folder: Path, factor: float) -> Path:
    """A package whose decoder is the same in float32, but has `factor` times larger values on the way."""
    graph = folder / "vae_decoder" / "model.onnx"
    model = onnx.load(graph, load_external_data=False)
    for name, value in (("grow", factor), ("shrink", 1 / factor)):
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [name], value_float=value))
    model.graph.node.insert(2, onnx.helper.make_node("Mul", ["latent_sample", "grow"], ["grown_in"], "grow/Mul"))
    model.graph.node.insert(3, onnx.helper.make_node("Mul", ["grown_in", "shrink"], ["same"], "shrink/Mul"))
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    first.input[0] = "same"
    onnx.save(model, graph)
    return folder


def reduced_difference(folder: Path, component: str, precision: Any) -> Any:
    """As `build` measures it, without a repair."""
    cases = reference_file.read(folder / reference_file.FILE).cases_of(component)
    return judge(list(compare_reduced(folder / component / "model.onnx", cases, precision)), cases, precision)


def test_a_component_that_overflows_in_fp16_is_named(proven: Callable[[str], Path], tmp_path: Path) -> None:
    folder = scaled_decoder(Path(shutil.copytree(proven("sd15"), tmp_path / "package")), 2.0**17)
    with pytest.raises(
        VerificationError, match=r"vae_decoder \(tensorrt fp16\), .* sample: it holds NaN .* --precision bf16"
    ):
        reduced_difference(folder, "vae_decoder", "fp16")
    assert reduced_difference(folder, "vae_decoder", "bf16").relative_rms < 0.1


def test_plans_in_fp16_of_graphs_that_overflow_are_repaired(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    large = make_once(tmp_path_factory, "overflowing", overflowing.make)
    folder = Path(shutil.copytree(large, tmp_path / "package"))
    before, said = files_of(folder), list[str]()
    build_tensorrt(folder, asked("rtx", ("8.9",), precision="fp16"), progress=said.append)
    for component in ("unet", "vae_encoder", "vae_decoder"):
        (plan,) = plans_of(folder, component).values()
        assert plan.difference is not None and plan.difference.relative_rms < 2e-2
        assert plan.rescaled is not None and plan.rescaled >= 2 and plan.kept == ()
        assert any(re.match(f"{component}: repaired, .* carried at 1/", text) for text in said), said
    (plan,) = plans_of(folder, "text_encoder").values()
    assert (plan.rescaled, plan.kept) == (None, ())
    assert {name for name in files_of(folder) if not name.startswith("engines/")} == set(before)
    open_package(folder, check="full").confirm()


def test_operators_that_stay_in_float32_are_found(proven: Callable[[str], Path], tmp_path: Path) -> None:
    folder = scaled_decoder(Path(shutil.copytree(proven("sd15"), tmp_path / "package")), 2.0**17)
    graph, reference = folder / "vae_decoder" / "model.onnx", folder / reference_file.FILE
    measured = measure_or_repair(graph, reference, "vae_decoder", "fp16", progress=lambda text: None)
    assert set(measured.repair.kept) == {"grow/Mul", "shrink/Mul"} and measured.repair.carried == ()
    assert measured.difference is not None and measured.difference.relative_rms < 2e-2


def test_what_cannot_be_repaired_leaves_the_package_as_it_was(
    proven: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scaled_decoder(Path(shutil.copytree(proven("sd15"), tmp_path / "package")), 2.0**17)
    before = files_of(folder)
    monkeypatch.setattr(repairing, "MOST_KEPT", 0.0)
    with pytest.raises(
        VerificationError, match=r"vae_decoder does not .* overflows is [0-9.e+]+ of grow/Mul \(Mul\); with 1 of"
    ):
        build_tensorrt(folder, asked("rtx", ("8.9",), precision="fp16"))
    assert files_of(folder) == before


def test_a_component_that_differs_too_much_is_named(
    proven: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    row = PRECISIONS["fp16"]
    strict = dataclasses.replace(row, tolerance=dataclasses.replace(row.tolerance, relative_rms=1e-5))
    monkeypatch.setitem(PRECISIONS, "fp16", strict)
    with pytest.raises(
        VerificationError,
        match=r"unet \(tensorrt fp16\), .* out_sample: relative RMS is .*more than the tolerance 1.00e-05",
    ):
        reduced_difference(package, "unet", "fp16")


def test_a_package_without_a_reference_cannot_be_reduced(copy: Path) -> None:
    before = files_of(copy)
    with pytest.raises(PackageError, match="cannot read .*reference.safetensors"):
        build_tensorrt(copy, asked("rtx", ("8.9",), precision="fp16"))
    assert files_of(copy) == before


def test_the_emulation_is_what_half_precision_in_torch_is(
    proven: Callable[[str], Path], tiny_build: Any, tmp_path: Path
) -> None:
    """As near to torch's own fp16 modules as both are to float32: the same rounding, other sums."""
    torch = pytest.importorskip("torch")
    from ldm_export.checkpoint.open import open_checkpoint

    checkpoint = open_checkpoint(tiny_build("sd15").source)
    decoder = checkpoint.load("vae").half()
    case = next(
        each
        for each in reference_file.read(proven("sd15") / "verify/reference.safetensors").cases
        if each.component == "vae_decoder"
    )
    with torch.no_grad():
        half = decoder.decode(torch.from_numpy(case.inputs["latent_sample"].copy()).half()).float().numpy()
    package = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    with reduced_graph(package / "vae_decoder/model.onnx", "fp16", emulate=True) as path:
        (emulated,) = exact_session(path).run(["sample"], case.inputs)
    expected = case.outputs["sample"]
    away = [float(np.sqrt(np.mean((each - expected) ** 2))) for each in (half, emulated)]
    assert 0.2 < away[1] / away[0] < 2
