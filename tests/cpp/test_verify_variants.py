"""`ldm verify` holds variants to their records as the Python gate does: the same verdicts, in the same sentences."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldm_export.package.write import write_manifest
from ldm_export.verify.variant_file import file_of
from ldm_runtime.package import safetensors
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.open import open_package
from tests.cpp.verifying import both, verify
from tests.lossy import test_caching_gate as caching_gate
from tests.lossy.test_caching_gate import varied  # noqa: F401 - a fixture
from tests.verify import perturbations
from tests.verify.test_variants import DATA, FAULTS, ZERO, edit_data, edit_manifest, spoil

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("private_cache")]
COMPONENTS = ("unet", "vae_decoder")


@pytest.fixture
def copy(lossy_package: Callable[[], Path], tmp_path: Path) -> Path:
    return perturbations.copy(lossy_package(), tmp_path / "package")


def result_of(found: dict[str, Any], name: str = "int8") -> dict[str, Any]:
    (result,) = (each for each in found["variants"] if each["name"] == name)
    return dict(result)


def failures_of(tool: Path, package: Path) -> list[str]:
    """The sentences of a package that does not pass, which are Python's."""
    expected, _ = both(tool, package)
    done = verify(tool, package, "--engine", "ort")
    said = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said == expected.failures and not expected.passed
    return said


def test_a_package_with_variants_passes_and_the_table_has_each(tool: Path, copy: Path) -> None:
    expected, found = both(tool, copy)
    done = verify(tool, copy, "--engine", "ort")
    assert expected.passed and done.stdout == expected.table() + "\n"
    assert result_of(found)["cases"] and result_of(found)["left_out"] is None
    assert result_of(found, "int8-openvino")["left_out"] == "it runs unet with openvino, but engine is ort"
    assert "verify: variant int8\n" in done.stderr
    assert "verify: variant int8-openvino left out: it runs unet with openvino, but engine is ort\n" in done.stderr
    assert file_of("int8") in found["artefacts"] and file_of("int8-openvino") not in found["artefacts"]


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("fault", [*FAULTS, ZERO], ids=lambda fault: fault[0])
def test_a_wrong_number_in_one_quantised_layer_fails_alike(
    tool: Path, copy: Path, component: str, fault: tuple[str, float, int]
) -> None:
    what = edit_data(copy, f"{component}/{DATA}", spoil(*fault))
    said = failures_of(tool, copy)
    assert all(sentence.startswith("variant int8: ") for sentence in said), what
    assert any(f"variant int8: {component} (" in sentence for sentence in said), what


@pytest.mark.parametrize("place", [("error", "psnr"), ("time",), ("error", "components", "unet", "relative_rms")])
def test_a_figure_that_was_changed_by_hand_fails_alike(tool: Path, copy: Path, place: tuple[str, ...]) -> None:
    def change(value: dict[str, Any]) -> None:
        *parents, last = place
        (holder,) = (each for each in value["variants"] if each["name"] == "int8")
        for name in parents:
            holder = holder[name]
        holder[last] *= 1.01

    edit_manifest(copy, change)
    assert failures_of(tool, copy)[0].startswith("variant int8: variants[int8]: the package has {")


def rewrite_record(package: Path, change: Callable[[dict[str, np.ndarray], dict[str, str]], object]) -> None:
    """Change the record of "int8"; its hash is right."""
    file = package / file_of("int8")
    tensors = {name: np.array(each) for name, each in safetensors.read(file).items()}
    metadata = dict(safetensors.read_header(file).metadata)
    change(tensors, metadata)
    file.unlink()
    safetensors.write(file, tensors, metadata)
    perturbations.rehash(package, file_of("int8"))


RECORDS: dict[str, Callable[[dict[str, np.ndarray], dict[str, str]], object]] = {
    "NaN": lambda tensors, metadata: tensors["trajectory/image"].__setitem__((0, 0, 0), np.nan),
    "another shape": lambda tensors, metadata: tensors.update({"trajectory/image": tensors["trajectory/image"][:1]}),
    "another type": lambda tensors, metadata: tensors.update(
        {"trajectory/image": tensors["trajectory/image"].astype(np.float16)}
    ),
    "a tensor missing": lambda tensors, metadata: tensors.pop(next(name for name in tensors if "/output/" in name)),
    "a tensor more": lambda tensors, metadata: tensors.update({"surplus": np.zeros(1, np.float32)}),
    "no variant": lambda tensors, metadata: metadata.pop("variant"),
    "no JSON": lambda tensors, metadata: metadata.update(variant="{"),
}


@pytest.mark.parametrize("why", RECORDS)
def test_a_record_that_will_not_do_fails_alike_and_the_others_are_compared(tool: Path, copy: Path, why: str) -> None:
    rewrite_record(copy, RECORDS[why])
    (said,) = failures_of(tool, copy)
    assert said.startswith("variant int8: ")


def test_a_record_that_is_no_object_and_numbers_that_are_written_whole(tool: Path, copy: Path) -> None:
    rewrite_record(copy, lambda tensors, metadata: metadata.update(variant="[1.0]"))
    assert failures_of(tool, copy)[0].endswith("but was proven with [1.0]")
    (variant,) = (each for each in open_package(copy, check="size").manifest.variants if each.name == "int8")
    text = json.dumps(json.loads(json.dumps(dataclasses.asdict(variant))) | {"time": 2})
    edit_manifest(copy, lambda value: next(each for each in value["variants"] if each["name"] == "int8").update(time=2))
    rewrite_record(copy, lambda tensors, metadata: metadata.update(variant=text))
    expected, found = both(tool, copy)
    assert expected.passed and result_of(found)["facts"][0]["passed"]


def test_a_missing_record_fails_alike(tool: Path, copy: Path) -> None:
    file = copy / file_of("int8")
    file.unlink()
    edit_manifest(copy, lambda value: value["files"].pop(file_of("int8")))
    (said,) = failures_of(tool, copy)
    assert said.startswith("variant int8: ") and file_of("int8") in said


def test_a_unit_that_no_cpu_has_is_said_alike(tool: Path, copy: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        (variant,) = (each for each in value["variants"] if each["name"] == "int8")
        for way in variant["ways"].values():
            way["units"] = ["unheard_of", "avx2", "another"]

    edit_manifest(copy, change)
    expected, found = both(tool, copy)
    assert expected.passed and result_of(found)["left_out"].startswith("it needs a CPU with unheard_of, another; ")


# --- deep features ---


def cached(varied: tuple[Path, Manifest], folder: Path, damage: caching_gate.Damage) -> Path:  # noqa: F811
    """A copy of the package with a variant that keeps deep features, once something was done to it."""
    package = Path(shutil.copytree(varied[0], folder / "package"))
    write_manifest(package, damage(package, varied[1]))
    perturbations.rehash(package, *(f"unet/model.ort_cpu.{part}-1.onnx" for part in ("deep", "shallow")))
    return package


def test_a_variant_with_caching_passes_alike(tool: Path, varied, tmp_path: Path) -> None:  # noqa: F811
    package = cached(varied, tmp_path, lambda folder, manifest: manifest)
    expected, found = both(tool, package)
    assert expected.passed
    (result,) = found["variants"]
    after = [case for case in result["cases"] if case["artefact"] == "ort_cpu-shallow-1, after ort_cpu-deep-1"]
    assert len(after) > 1


DAMAGES = [caching_gate._wrong_place, caching_gate._longer, caching_gate._another_norm]


@pytest.mark.parametrize("damage", DAMAGES)
def test_wrong_deep_features_fail_alike(
    tool: Path,
    varied,  # noqa: F811
    tmp_path: Path,
    damage: caching_gate.Damage,
) -> None:
    assert failures_of(tool, cached(varied, tmp_path, damage))
