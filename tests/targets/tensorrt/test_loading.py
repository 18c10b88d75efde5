"""Plans are opened as far as it goes without a GPU, and what is damaged or of another set is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from ldm_runtime.engines.tensorrt.engine import load_plan
from ldm_runtime.engines.tensorrt.fit import Machine, check_header, find_plan, requirements
from ldm_runtime.errors import EngineUnavailable, PackageError
from ldm_runtime.package.open import open_package, read_manifest
from tests.runtime.tiny_package import rehash
from tests.targets.tensorrt.planning import RTX, asked, build_tensorrt, plans_of, without_gpu

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_this_process")]


def loaded(path: Path) -> Any:
    RTX.take_messages()
    return load_plan(path, RTX, RTX.module.Runtime(RTX.log))


@pytest.fixture
def plan(built: Path, tmp_path: Path) -> Path:
    (made,) = plans_of(built).values()
    return Path(shutil.copyfile(built / made.file, tmp_path / "unet.plan"))


@without_gpu
def test_a_good_plan_without_a_driver_is_refused_for_that(plan: Path) -> None:
    with pytest.raises(EngineUnavailable, match="CUDA driver|GPU"):
        loaded(plan)


@pytest.mark.parametrize("content", [b"x" * 200, b"vtrt", b"PK\x03\x04" + bytes(300)])
def test_what_is_no_plan_is_damaged_in_tensorrts_eyes(plan: Path, content: bytes) -> None:
    plan.write_bytes(content)
    with pytest.raises(PackageError, match="is damaged: TensorRT .* does not know it as a plan"):
        loaded(plan)


def test_a_truncated_plan_is_refused_by_its_own_size(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "package"))
    package = open_package(folder, check="size")
    found = find_plan(package, "unet", Machine({"rtx": RTX.version}, "8.6"))
    file = package.file(found.file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(PackageError, match="has changed since the package was opened"):
        check_header(package, found)
    with pytest.raises(PackageError, match="is truncated"):
        open_package(folder)
    rehash(folder)  # a manifest that agrees with it
    with pytest.raises(PackageError, match="is truncated: it has"):
        check_header(open_package(folder, check="size"), found)


def test_a_plan_of_another_set_is_refused_by_what_it_says(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "package"))
    build_tensorrt(folder, asked("rtx", ("12.0",)))
    package = open_package(folder, check="size")
    found = find_plan(package, "unet", Machine({"rtx": RTX.version}, "12.0"))
    other = find_plan(package, "unet", Machine({"rtx": RTX.version}, "8.9"))
    shutil.copyfile(package.file(other.file), package.file(found.file))
    rehash(folder)
    with pytest.raises(
        PackageError, match=r"is a plan for GPUs of compute capability 8.6, 8.9, but the manifest says 12"
    ):
        check_header(open_package(folder, check="size"), found)


def test_a_plan_carries_the_names_of_the_files_it_was_built_from(built: Path) -> None:
    manifest = read_manifest(built)
    (plan,) = map(requirements, plans_of(built).values())
    assert plan.graph == manifest.files["unet/model.onnx"].sha256
    assert plan.weights == manifest.files["unet/model.safetensors"].sha256
