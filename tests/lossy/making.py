"""A tiny proven package with variants, made as `build --budget` does, in this process and with few prompts."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ldm_export.lossy import make, measure
from ldm_export.lossy.bf16 import missing_bf16
from ldm_export.lossy.fp16 import missing_fp16
from ldm_export.lossy.prompts import OWN, Prompts
from ldm_export.package.write import write_manifest
from ldm_export.verify.gate import prove_variants
from ldm_export.verify.report import recorded
from ldm_runtime.budget import read_budget
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.open import Package, read_manifest
from tests.stages import here

FEW = Prompts(OWN.calibration[:1], OWN.held_out[:2])
STEPS = 3


def hasten(patch: pytest.MonkeyPatch) -> None:
    """Let variants be made in this process, and measured over few steps."""
    patch.setattr(make, "run_isolated", here)
    setting = measure.setting_of
    patch.setattr(measure, "setting_of", lambda *args: replace(setting(*args), steps=STEPS))


def methods_here() -> tuple[str, ...]:
    missing = {"bf16": missing_bf16(), "fp16": missing_fp16()}
    return (*(name for name, reason in missing.items() if reason is None), "int8")


def make_varied(proven: Path, package: Path) -> Path:
    """Copy a proven package, and add all variants that this machine can measure."""
    shutil.copytree(proven, package)
    manifest = read_manifest(package)
    with pytest.MonkeyPatch.context() as patch:
        hasten(patch)
        made = make.make_variants(package, manifest, read_budget("psnr=12"), methods_here(), FEW, lambda text: None)
    return prove(package, made.manifest)


def prove(package: Path, manifest: Manifest) -> Path:
    """Write the manifest of a package with variants, and compare each with its record."""
    write_manifest(package, manifest)
    proven = recorded(Package(package, manifest, "", "size"))
    assert prove_variants(package, manifest, proven=proven).passed
    return package
