"""The gate holds a variant to its record: what is as it was measured passes, a small fault in one layer does not."""

import contextlib
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldm_export.lossy.bf16 import missing_bf16
from ldm_export.lossy.fp16 import missing_fp16
from ldm_export.verify import reference_file, variant_file, variants
from ldm_export.verify import report as reports
from ldm_export.verify.gate import prove_variants, proving_engines, verify_package
from ldm_export.verify.report import VariantResult
from ldm_export.verify.variant_file import file_of
from ldm_runtime import variants as runtime_variants
from ldm_runtime.engines.choice import open_way
from ldm_runtime.engines.units import cpu_units
from ldm_runtime.errors import PackageError
from ldm_runtime.files import strict_json
from ldm_runtime.package import safetensors
from ldm_runtime.package.open import Package, open_package
from tests.verify import perturbations

pytestmark = pytest.mark.slow
KINDS = ("bf16", "fp16", "int8", "int8-openvino", "int8-bf16")
DATA = "model.int8.safetensors"


@pytest.fixture
def copy(lossy_package: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return perturbations.copy(lossy_package(), tmp_path / "package")


def require(package: Path, name: str) -> None:
    """Skip a test of half the bits where it cannot be measured; every other variant has to be in the package."""
    for precision, missing in (("bf16", missing_bf16()), ("fp16", missing_fp16())):
        if name.endswith(precision) and missing is not None:
            pytest.skip(f"{name} cannot be measured here: {missing}")
    assert name in {variant.name for variant in open_package(package, check="size").manifest.variants}


def result_of(package: Path, name: str) -> VariantResult:
    """Compare one variant of a package alone."""
    opened = open_package(package, check="size")
    reference = reference_file.read(opened.file(reference_file.FILE))
    (variant,) = (each for each in opened.manifest.variants if each.name == name)
    return variants.verify_variant(opened, proving_engines(), variant, reference)[0]


def compared(package: Path, name: str, engine: str = "auto") -> tuple[VariantResult, list[str]]:
    """Compare one variant of a package as the gate does; return the result, and what was said meanwhile."""
    opened, said = open_package(package, check="size"), list[str]()
    reference = reference_file.read(opened.file(reference_file.FILE))
    alone = tuple(each for each in opened.manifest.variants if each.name == name)
    opened = Package(package, replace(opened.manifest, variants=alone), "", "size")
    ((result, _),) = variants.verify_variants(opened, proving_engines(engine), reference, said.append)
    return result, said


def edit_manifest(package: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads((package / "manifest.json").read_text())
    change(value)
    perturbations.replace_text(package / "manifest.json", json.dumps(value))


def edit_data(package: Path, name: str, change: Callable[[dict[str, np.ndarray]], str]) -> str:
    """Change tensors of a file in place."""
    file = package / name
    data = bytearray(file.read_bytes())
    header = safetensors.read_header(file).tensors
    tensors = {
        key: np.ndarray(info.shape, safetensors.DTYPES[info.dtype], data, info.offset) for key, info in header.items()
    }
    what = change(tensors)
    file.unlink()
    file.write_bytes(data)
    perturbations.rehash(package, name)
    return what


def test_a_package_with_variants_passes_and_the_report_has_each(copy: Path, tmp_path: Path) -> None:
    names = [variant.name for variant in open_package(copy).manifest.variants]
    assert {"int8", "int8-openvino"} <= set(names) <= set(KINDS)
    report = verify_package(copy, out=tmp_path / "proof")
    assert report.passed and [each.name for each in report.variants] == names
    for each in report.variants:
        assert each.left_out is None and each.cases and each.image_psnr is not None
        assert each.name in report.table()
    text = (tmp_path / "proof" / "report.json").read_text()
    assert reports.parse(text, "report.json") == report
    shown = (tmp_path / "proof" / "report.html").read_text()
    assert "<h2>Variants</h2>" in shown and all(f"<td>{name}</td>" in shown for name in names)
    assert {file_of(name) for name in names} <= report.artefacts.keys()
    assert {f"unet/{DATA}", f"vae_decoder/{DATA}"} <= report.artefacts.keys()
    recorded = json.loads((copy / "verify" / "variants" / "report.json").read_text())
    assert [each["name"] for each in recorded["variants"]] == names and recorded["passed"]
    assert "variants" not in json.loads((copy / "verify" / "report.json").read_text())


def passes(package: Path, name: str, component: str) -> bool:
    """Compare one component of a variant as the gate does, until a case fails."""
    opened = open_package(package, check="size")
    reference = reference_file.read(opened.file(reference_file.FILE))
    (variant,) = (each for each in opened.manifest.variants if each.name == name)
    own = variant_file.read(opened.file(file_of(name)), variant, reference)
    with contextlib.closing(open_way(proving_engines(), opened, component, variant.ways[component]).engine) as engine:
        made = (replace(case, outputs=engine.run(dict(case.inputs))) for case in reference.cases_of(component))
        return all(result.passed for case in made for result in variants._case(variant, case, reference, own))


def spoil(part: str, factor: float, shift: int, share: float = 0.5) -> Callable[[dict[str, np.ndarray]], str]:
    """Change one number of one layer: of those that have it, the one at a share of their list."""

    def change(tensors: dict[str, np.ndarray]) -> str:
        names = sorted(name for name in tensors if name.endswith(f"/{part}"))
        name = names[round(share * (len(names) - 1))]
        tensors[name][...] = (tensors[name].astype(np.float64) * factor + shift).astype(tensors[name].dtype)
        return f"{name} * {factor} + {shift}"

    return change


# A scale or zero of inputs is read to round and to widen: what is wrong with it shows where it cuts values off. Every
# scale of both components is seen by this; of the zeros some are not, where hardly a value lies at that end.
FAULTS = (("scale", 1.5, 0), ("input_scale", 0.5, 0))
ZERO = ("input_zero", 1, 64)


@pytest.mark.parametrize("component", ["unet", "vae_decoder"])
@pytest.mark.parametrize(("name", "shares"), [("int8", (0, 0.3, 0.7, 1)), ("int8-openvino", (0.5,))])
def test_a_wrong_number_in_one_quantised_layer_fails(
    copy: Path, name: str, shares: tuple[float, ...], component: str
) -> None:
    file = copy / component / DATA
    good = file.read_bytes()
    assert passes(copy, name, component)
    for fault, share in (*itertools.product(FAULTS, shares), (ZERO, 0.5)):
        what = edit_data(copy, f"{component}/{DATA}", spoil(*fault, share))
        assert not passes(copy, name, component), what
        file.unlink()
        file.write_bytes(good)


def test_a_build_whose_variant_is_not_as_it_was_measured_is_not_proven(copy: Path) -> None:
    edit_data(copy, f"unet/{DATA}", spoil("scale", 1.5, 0))
    opened = open_package(copy, check="size")
    proven = reports.recorded(opened)
    report = prove_variants(copy, opened.manifest, proven=proven)
    assert proven.passed and not report.passed and report.cases == proven.cases
    assert report.first_failure.startswith("variant int8: unet")


def test_a_variant_that_computes_in_another_precision_than_it_says_fails(copy: Path) -> None:
    """The record has it too: its outputs tell."""
    name = "int8-bf16"
    require(copy, name)

    def change(value: dict[str, Any]) -> None:
        (variant,) = (each for each in value["variants"] if each["name"] == name)
        for way in variant["ways"].values():
            way["precision"] = "int8"

    edit_manifest(copy, change)
    (variant,) = (each for each in open_package(copy, check="size").manifest.variants if each.name == name)
    file = copy / file_of(name)
    tensors = {name: np.array(each) for name, each in safetensors.read(file).items()}
    file.unlink()
    safetensors.write(file, tensors, {"variant": json.dumps(strict_json.plain(variant))})
    perturbations.rehash(copy, file_of(name))
    result = result_of(copy, name)
    assert result.facts[0].passed and any("as recorded" in sentence for sentence in result.failures)


@pytest.mark.parametrize("place", [("error", "psnr"), ("time",), ("error", "components", "unet", "relative_rms")])
def test_a_figure_that_was_changed_by_hand_fails(copy: Path, place: tuple[str, ...]) -> None:
    def change(value: dict[str, Any]) -> None:
        *parents, last = place
        (holder,) = (each for each in value["variants"] if each["name"] == "int8")
        for name in parents:
            holder = holder[name]
        holder[last] *= 1.01

    edit_manifest(copy, change)
    result = result_of(copy, "int8")
    assert not result.facts[0].passed
    assert result.failures[0].startswith("variant int8: variants[int8]: the package has ")


def test_a_variant_that_fails_does_not_keep_the_others_from_being_compared(copy: Path) -> None:
    def change(tensors: dict[str, np.ndarray]) -> str:
        tensors["trajectory/image"][0, 0, 0] = np.nan
        return ""

    edit_data(copy, file_of("int8"), change)
    report = verify_package(copy)
    assert not report.passed
    assert {each.name: each.passed for each in report.variants}["int8-openvino"]
    assert "variant int8: " in report.first_failure and "holds NaN or infinity" in report.first_failure


def test_what_needs_a_unit_that_is_not_here_is_left_out_and_said(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require(copy, "int8-bf16")
    monkeypatch.setattr(runtime_variants, "cpu_units", lambda: cpu_units() - {"avx512_bf16", "amx_bf16"})
    result, said = compared(copy, "int8-bf16")
    assert result.passed and result.left_out is not None
    assert result.left_out.startswith(("it needs a CPU with AVX512-BF16; ", "it needs a CPU with AMX-BF16; "))
    assert result.line() == f"variant int8-bf16  left out: {result.left_out}"
    assert f"verify: variant int8-bf16 left out: {result.left_out}" in said


def test_an_engine_by_name_leaves_out_the_variants_of_others(copy: Path) -> None:
    assert compared(copy, "int8", "ort")[0].left_out is None
    assert compared(copy, "int8-openvino", "ort")[0].left_out == "it runs unet with openvino, but engine is ort"


def test_where_images_were_equal_they_need_be_no_nearer_than_an_exact_run_is(copy: Path) -> None:
    reference = reference_file.read(copy / reference_file.FILE)

    def equal(value: dict[str, Any]) -> None:
        (variant,) = (each for each in value["variants"] if each["name"] == "int8")
        variant["error"]["psnr"] = None

    edit_manifest(copy, equal)
    (variant,) = (each for each in open_package(copy, check="size").manifest.variants if each.name == "int8")
    file = copy / file_of("int8")
    tensors = {name: np.array(each) for name, each in safetensors.read(file).items()}
    file.unlink()
    text = json.dumps(strict_json.plain(variant))
    safetensors.write(file, {**tensors, "trajectory/image": reference.trajectory.image}, {"variant": text})
    perturbations.rehash(copy, file_of("int8"))
    result = result_of(copy, "int8")
    assert result.image_floor == reference.trajectory.image_floor - variants.PSNR_MARGIN
    assert not result.passed and "sampling run: the image's PSNR is" in result.failures[-1]


def test_a_record_that_is_not_of_these_cases_is_refused(copy: Path) -> None:
    file = copy / file_of("int8")
    tensors = {name: np.array(each) for name, each in safetensors.read(file).items()}
    metadata = safetensors.read_header(file).metadata
    first = next(name for name in tensors if name.startswith("unet/"))
    file.unlink()
    safetensors.write(file, {**tensors, first: tensors[first][..., :1]}, metadata)
    perturbations.rehash(copy, file_of("int8"))
    with pytest.raises(PackageError, match="is not float32 in the shape"):
        result_of(copy, "int8")
