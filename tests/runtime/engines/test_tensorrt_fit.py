"""Which plan fits which machine, what a plan's file says of itself, and which profile covers a run."""

import dataclasses
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from ldm_runtime.engines.tensorrt.fit import Machine, check_header, choose_profile, find_plan, misfit
from ldm_runtime.engines.tensorrt.library import CLASSIC, RTX, _imported, import_tensorrt, installed, read_header
from ldm_runtime.errors import EngineUnavailable, OutOfProfile, PackageError
from ldm_runtime.files import strict_json
from ldm_runtime.package.artefacts import Artefact, Difference, PlanRequirements, Range
from ldm_runtime.package.open import Package, open_package
from ldm_runtime.package.variants import Variant
from tests.runtime.package.test_variants import variant, way

VERSION = "1.7.1.116"
HERE = Machine({RTX: VERSION}, "8.9")
PROFILE = {"batch": Range(1, 2, 4), "height": Range(2, 4, 8), "width": Range(2, 4, 8), "tokens": Range(1, 12, 48)}


def plan(package: Package, name: str = "any", **changes: Any) -> Artefact:
    """A plan of the UNet that fits; `changes` are of its requirements."""
    parts = package.manifest.components["unet"]
    graph, weights = (package.manifest.files[file].sha256 for file in (parts.canonical.file, parts.weights))
    requires = PlanRequirements("rtx", VERSION, ("8.6", "8.9"), (), graph, weights, (PROFILE,), None, None)
    files = (f"engines/{name}/unet.plan",)
    requires = dataclasses.replace(requires, **changes)
    return Artefact(name, "tensorrt", files, "tensorrt", "fp32", "exact", None, requires)


def give(package: Package, *plans: Artefact) -> None:
    """Add plans to the UNet of an opened package."""
    unet = package.manifest.components["unet"]
    components = {
        **package.manifest.components,
        "unet": dataclasses.replace(unet, artefacts=(*unet.artefacts, *plans)),
    }
    package.manifest = dataclasses.replace(package.manifest, components=components)


@pytest.fixture
def package(tiny: Path) -> Package:
    return open_package(tiny, check="size")


def test_a_plan_that_fits_is_found(package: Package) -> None:
    made = plan(package)
    assert misfit(package, "unet", made, HERE) is None
    give(package, made)
    assert find_plan(package, "unet", HERE) == made


def test_a_lossy_plan_of_a_variant_is_not_picked(package: Package) -> None:
    lossy = dataclasses.replace(plan(package), precision="fp16", exactness="lossy", difference=Difference(1e-3, 0.1))
    give(package, lossy)
    assert find_plan(package, "unet", HERE) == lossy
    named = strict_json.read(Variant, variant("fp16", {"unet": way("tensorrt", lossy.name, "fp16")}), "variant")
    package.manifest = dataclasses.replace(package.manifest, variants=(named,))
    with pytest.raises(EngineUnavailable, match="fits this machine: it has none"):
        find_plan(package, "unet", HERE)


@pytest.mark.parametrize(
    ("changes", "here", "reason"),
    [
        ({"flavour": "classic"}, HERE, "is for classic TensorRT, which cannot be imported here"),
        ({}, Machine({CLASSIC: VERSION}, "8.9"), "is for TensorRT for RTX, which cannot be imported here"),
        (
            {"version": "1.6.1.120"},
            HERE,
            "was built by TensorRT for RTX 1.6.1.120, here is 1.7.1.116: a plan runs in its own only",
        ),
        ({}, Machine({RTX: VERSION}, "12.0"), "is for GPUs of compute capability 8.6, 8.9, here is 12.0"),
        ({}, Machine({RTX: VERSION}, "9.0"), "is for GPUs of compute capability 8.6, 8.9, here is 9.0"),
    ],
)
def test_every_mismatch_with_the_machine_has_its_reason(
    package: Package, changes: dict[str, Any], here: Machine, reason: str
) -> None:
    assert misfit(package, "unet", plan(package, **changes), here) == reason


@pytest.mark.parametrize(("field", "file"), [("graph", "unet/model.onnx"), ("weights", "unet/model.safetensors")])
def test_plans_of_another_package_do_not_fit(package: Package, field: str, file: str) -> None:
    made = plan(package, **{field: "0" * 64})
    assert misfit(package, "unet", made, HERE) == f"was built from another {file} than the package's"


def test_the_first_plan_that_fits_is_taken_and_others_are_named_only_if_none_does(package: Package) -> None:
    give(package, plan(package, "old", version="1.6.1.120"), plan(package, "good"), plan(package, "later"))
    assert find_plan(package, "unet", HERE).name == "good"
    with pytest.raises(EngineUnavailable) as raised:
        find_plan(package, "unet", Machine({RTX: VERSION}, "7.5"))
    text = str(raised.value)
    assert "old was built by TensorRT for RTX 1.6.1.120" in text and "good is for GPUs" in text
    assert text.endswith("--target tensorrt`") and "\n" not in text


def test_a_package_without_plans_says_how_to_build_them(package: Package) -> None:
    with pytest.raises(EngineUnavailable, match="fits this machine: it has none; build one with `ldm-export build"):
        find_plan(package, "unet", HERE)


# --- the file's header ---------------------------------------------------------------------------------------------


def header(path: Path, *, bits: int = 0b1100, version: tuple[int, ...] = (1, 7, 1, 116), size: int = 100) -> Path:
    """As TensorRT for RTX writes it; `tests/targets/tensorrt/test_loading.py` reads real ones."""
    head = bytearray(64)
    head[:4] = b"vtrt"
    struct.pack_into("<Q", head, 16, size)
    head[24:28] = bytes(version)
    struct.pack_into("<I", head, 32, bits)
    path.write_bytes(bytes(head) + b"x" * 36)
    return path


def found(package: Package, path: Path, **changes: Any) -> Artefact:
    """A plan whose file is in the package, listed as any other."""
    made, name = plan(package, **changes), path.relative_to(package.path).as_posix()
    entry = dataclasses.replace(package.manifest.files["unet/model.onnx"], size=path.stat().st_size)
    package.manifest = dataclasses.replace(package.manifest, files={**package.manifest.files, name: entry})
    return dataclasses.replace(made, files=(name,))


@pytest.fixture
def copy(package_copy: Path) -> Package:
    return open_package(package_copy, check="size")


def test_a_header_is_read(tmp_path: Path) -> None:
    read = read_header(header(tmp_path / "a.plan", bits=0x7E))
    assert (read.version, read.size) == (VERSION, 100)
    assert read.capabilities == ("8.0", "8.6", "8.9", "12.0", "12.1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a plan of TensorRT for RTX"),
        (b"vtrt" + bytes(20), "is not a plan of TensorRT for RTX"),
        (b"ftrt" + bytes(96), "is not a plan of TensorRT for RTX"),
        (
            b"version https://git-lfs.github.com/spec/v1 and what else a stub of that file says",
            "is not a plan of TensorRT",
        ),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.plan").write_bytes(content)
    with pytest.raises(PackageError, match=message):
        read_header(tmp_path / "a.plan")


@pytest.mark.parametrize(("size", "damage"), [(101, "truncated"), (99, "too long")])
def test_a_plan_of_another_size_than_it_says_is_refused(tmp_path: Path, size: int, damage: str) -> None:
    with pytest.raises(PackageError, match=f"is {damage}: it has 100 bytes, but says {size} itself"):
        read_header(header(tmp_path / "a.plan", size=size))


def test_a_missing_plan_is_said(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"cannot read .*a.plan: No such file or directory; fetch or build"):
        read_header(tmp_path / "a.plan")


def test_a_file_that_says_what_the_manifest_says_passes(copy: Package) -> None:
    check_header(copy, found(copy, header(copy.path / "a.plan")))


@pytest.mark.parametrize(
    ("of_file", "message"),
    [
        ({"version": (1, 6, 1, 120)}, "is a plan of TensorRT for RTX 1.6.1.120, but the manifest says 1.7.1.116"),
        ({"bits": 0b100}, "is a plan for GPUs of compute capability 8.6, but the manifest says 8.6, 8.9"),
        ({"bits": 0}, "is a plan for GPUs of compute capability none, but"),
    ],
)
def test_a_file_that_contradicts_the_manifest_is_refused(copy: Package, of_file: Any, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        check_header(copy, found(copy, header(copy.path / "a.plan", **of_file)))


def test_classic_plans_have_no_header_to_read(copy: Package) -> None:
    (copy.path / "a.plan").write_bytes(b"anything")
    check_header(copy, found(copy, copy.path / "a.plan", flavour="classic"))


# --- sizes ---------------------------------------------------------------------------------------------------------


def test_the_nearest_profile_is_chosen() -> None:
    large = {**PROFILE, "height": Range(4, 8, 8), "width": Range(4, 8, 8)}
    profiles = (PROFILE, large)
    sizes = {"batch": 2, "height": 8, "width": 8, "tokens": 12}
    assert choose_profile("unet", profiles, sizes, -1) == 1
    assert choose_profile("unet", profiles, {**sizes, "height": 4, "width": 4}, -1) == 0
    assert choose_profile("unet", profiles, {**sizes, "width": 2}, 1) == 0  # the current one does not cover it
    assert choose_profile("unet", profiles, sizes, 0) == 0  # changing costs more than it gains


def test_limits_are_covered_and_what_is_beyond_is_named() -> None:
    limits = {"batch": 4, "height": 2, "width": 8, "tokens": 48}
    assert choose_profile("unet", (PROFILE,), limits, -1) == 0
    with pytest.raises(OutOfProfile) as raised:
        choose_profile("unet", (PROFILE,), {**limits, "batch": 5, "height": 1}, -1)
    assert str(raised.value) == (
        "the TensorRT plan of unet does not cover this run: it needs batch 5 where it was built for 1 to 4, height 1 "
        "where it was built for 2 to 8; build it with a wider --profile"
    )


# --- what is installed ---------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    _imported.cache_clear()
    yield
    _imported.cache_clear()


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(
    ("flavour", "who", "extra"),
    [
        ("auto", "TensorRT cannot be imported", "'ldm-runtime\\[tensorrt\\]'"),
        ("rtx", "TensorRT for RTX cannot be imported", "'ldm-runtime\\[tensorrt\\]'"),
        ("classic", "classic TensorRT cannot be imported", "tensorrt"),
    ],
)
def test_a_tensorrt_that_is_not_installed_names_what_to_install(flavour: str, who: str, extra: str) -> None:
    with pytest.raises(EngineUnavailable, match=f"^{who} .*; install it with `pip install {extra}`$"):
        import_tensorrt(flavour)
    assert installed() == []


def test_cuda_bindings_that_are_not_installed_name_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from ldm_runtime.engines.cuda.device import import_cuda

    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(EngineUnavailable, match=r"the CUDA bindings cannot be imported .*ldm-runtime\[tensorrt\]"):
        import_cuda()
