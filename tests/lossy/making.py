"""A tiny proven package with variants, made as `build --budget` does, in this process and with few prompts."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ldm_export.lossy import int8, make
from ldm_export.lossy.bf16 import missing_bf16
from ldm_export.lossy.prompts import OWN, Prompts
from ldm_export.package.write import write_manifest
from ldm_export.process.isolate import Outcome
from ldm_export.verify.gate import prove_package
from ldm_runtime.budget import read_budget
from ldm_runtime.package.open import read_manifest

FEW = Prompts(OWN.calibration[:2], OWN.held_out[:3])


def here(function: Callable[..., Any], *args: Any, progress: Any = None, **kwargs: Any) -> Outcome:
    """Call what `run_isolated` would call in a process of its own."""
    given = {} if progress is None else {"progress": progress}
    return Outcome(function(*args, **kwargs, **given), peak_bytes=0, seconds=0.0)


def methods_here() -> tuple[str, ...]:
    return ("bf16", "int8") if missing_bf16() is None else ("int8",)


def make_varied(proven: Path, package: Path, budget: str, methods: Sequence[str]) -> Path:
    """Copy a proven package, and add the variants that are within the budget."""
    shutil.copytree(proven, package)
    manifest = read_manifest(package)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "run_isolated", here)
        patch.setattr(int8, "run_isolated", here)
        made = make.make_variants(package, manifest, read_budget(budget), methods, FEW, lambda text: None)
    write_manifest(package, made.manifest)
    assert prove_package(package, made.manifest).passed
    return package
