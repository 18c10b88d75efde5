"""What plans cannot be, this machine cannot build, or does not fit, is refused before the work."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ldm_export import build as builds
from ldm_export.errors import ExportError
from ldm_export.recipes.build import BuildRecipe
from ldm_export.targets.tensorrt import build as building
from ldm_export.targets.tensorrt import check as checking
from ldm_export.targets.tensorrt.check import group_capabilities
from ldm_export.targets.tensorrt.plan import PlanRequest
from ldm_runtime.errors import EngineUnavailable, InputError, LdmError
from ldm_runtime.files.atomic import atomic_folder
from tests.targets.tensorrt.planning import GOLDEN, Asked, asked, build_tensorrt, check_target, files_of, without_gpu

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_this_process")]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (asked("rtxx"), r"--flavour \(tensorrt\.flavour\) got 'rtxx'; expected auto, rtx, classic"),
        (asked(precision="int8"), "--precision got 'int8'; expected fp32, fp16, bf16"),  # type: ignore[arg-type]
        (
            asked(compute_capabilities=("9.0",)),
            "got '9.0'; TensorRT for RTX builds for 7.5.*--flavour classic",
        ),
        (
            asked(compute_capabilities=("8",)),
            r"--compute-capability \(tensorrt\.compute_capabilities\) got '8'; TensorRT for RTX builds for [^;]*$",
        ),
        (
            asked(compute_capabilities=("7.5",)),
            "7.5 do not compute in fp32 .* choose --precision fp16, or leave",
        ),
        (asked(compute_capabilities=("8.9", "7.5"), precision="bf16"), "7.5 do not compute in bf16"),
        (asked(profiles=("batch=0",)), r"--profile \(tensorrt\.profiles\) got 'batch=0'"),
        (
            asked(precision="fp16", weight_stripped=True),
            r"--weight-stripped \(tensorrt\.weight_stripped\) takes the weights from the package",
        ),
        (asked(precision="fp16", weights="w5"), r"--weights \(tensorrt.weights\) got 'w5'; expected whole, w8, w4"),
        (asked(weights="w8"), r"--weights w8 \(tensorrt.weights\) is for plans in fp16 or bf16; got --precision fp32"),
        (asked("classic", precision="fp16", weights="w8"), "w8 .* is for TensorRT for RTX; choose --flavour rtx, or"),
        (
            asked(precision="bf16", weights="w4", refit=True),
            "gives plans whose weights cannot be replaced; leave --ref",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_once(target: Asked, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_target(target)


@pytest.mark.parametrize(
    "target",
    [
        asked(),
        asked("rtx", ("7.5", "12.1"), precision="fp16"),
        asked("rtx", ("7.5", "8.9"), precision="fp16", weights="w8"),
        asked("auto", ("8.0", "8.6", "8.9", "12.0", "12.1"), ("size=32:64:128", "batch=1:2:4"), precision="bf16"),
    ],
)
def test_what_can_be_passes(target: Asked) -> None:
    check_target(target)


@without_gpu
def test_classic_without_a_gpu_names_the_other_way() -> None:
    with pytest.raises(EngineUnavailable, match=r"classic .* here is missing .*; `--flavour rtx` builds for RTX GPUs"):
        check_target(asked("classic"))


@without_gpu
@pytest.mark.parametrize("options", [{"refit": True}, {"weight_stripped": True}])
def test_refitting_without_a_gpu_is_refused_before_building(options: dict[str, bool]) -> None:
    with pytest.raises(
        EngineUnavailable, match=r"with a GPU only, and here is missing .*leave --refit and --weight-str"
    ):
        check_target(asked(**options))


def test_a_tensorrt_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(flavour: str) -> Any:
        raise EngineUnavailable("TensorRT cannot be imported; install it with `pip install 'ldm-export[tensorrt]'`")

    monkeypatch.setattr(checking, "import_tensorrt", missing)
    with pytest.raises(EngineUnavailable, match=r"pip install 'ldm-export\[tensorrt\]'"):
        check_target(asked())


def as_with_classic(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    monkeypatch.setattr(checking, "missing_gpu", lambda: None)
    monkeypatch.setattr(checking, "compute_capability", lambda: capability)
    monkeypatch.setattr(
        checking, "import_tensorrt", lambda flavour: SimpleNamespace(flavour="classic", version="10.14")
    )


def test_classic_builds_for_the_gpu_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    as_with_classic(monkeypatch, "9.0")
    work = check_target(asked("classic", precision="bf16", refit=True))
    assert work.groups == {"classic-10.14-sm90-bf16-refit": ()}
    with pytest.raises(InputError, match="builds for the GPU of this machine; leave --compute-capability .* out"):
        check_target(asked("classic", ("9.0",)))


def test_classic_on_a_gpu_without_bf16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    as_with_classic(monkeypatch, "7.5")
    with pytest.raises(InputError, match="compute capability 7.5, does not compute in bf16"):
        check_target(asked("classic", precision="bf16"))


def test_turing_has_plans_of_its_own() -> None:
    assert group_capabilities("rtx", ()) == [()]
    assert group_capabilities("rtx", ("12.0", "7.5", "8.6")) == [("7.5",), ("8.6", "12.0")]
    assert group_capabilities("rtx", ("7.5",)) == [("7.5",)]


def test_what_does_not_fit_into_memory_is_refused(copy: Path) -> None:
    with pytest.raises(ExportError, match=r"the plan of \w+ needs about 0.6 GB, but --max-memory allows 0.1 GB"):
        build_tensorrt(copy, asked("rtx"), max_memory=100_000_000)


def test_a_full_disk_is_said_before_building(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000_000))
    before = files_of(copy)
    with pytest.raises(ExportError, match=r"need about 0.10 GB of disk space, but 0.01 GB are free"):
        build_tensorrt(copy, asked("rtx"))
    assert files_of(copy) == before


def test_what_the_plans_need_is_looked_at_before_the_graphs_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "_export", lambda *args: pytest.fail("it began to export"))
    recipe = BuildRecipe(targets=("onnx", "tensorrt"))
    with monkeypatch.context() as patch, pytest.raises(ExportError, match=r"plans need about .* 0.01 GB are free in"):
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000_000))
        builds.build_package(None, tmp_path / "out", recipe=recipe)
    monkeypatch.setattr(checking, "MEMORY_FACTOR", 1e6)
    with pytest.raises(ExportError, match=r"the plan of \w+ needs about .* GB, but the machine has available"):
        builds.build_package(None, tmp_path / "out", recipe=recipe)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(request: PlanRequest, **kwargs: Any) -> Any:
        (request.plan.parent / "half.plan").write_bytes(b"half")
        raise OSError(28, "No space left on device", str(request.plan))

    monkeypatch.setattr(building, "build_plan", full)
    with (
        pytest.raises(LdmError, match="cannot write .*No space left on device; nothing was left behind"),
        atomic_folder(tmp_path / "package") as folder,
    ):
        shutil.copytree(GOLDEN, folder, dirs_exist_ok=True)
        build_tensorrt(folder, asked("rtx"))
    assert list(tmp_path.iterdir()) == []
