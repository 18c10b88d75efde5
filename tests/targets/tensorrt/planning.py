"""Plans of the golden package: what is asked for, how it is built, and what a folder then has."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from ldm_export.process.isolate import StageCost
from ldm_export.targets.tensorrt.check import Work, check_tensorrt
from ldm_runtime.engines.cuda.driver import missing_gpu
from ldm_runtime.engines.tensorrt.fit import requirements
from ldm_runtime.engines.tensorrt.library import import_tensorrt
from ldm_runtime.package.artefacts import Artefact
from ldm_runtime.package.open import read_manifest
from tests.targets.building import add, order

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX: pip install 'ldm-export[tensorrt]'")
GOLDEN = Path(__file__).parents[2] / "golden" / "package"
RTX = import_tensorrt("rtx")
without_gpu = pytest.mark.skipif(missing_gpu() is None, reason="is about a machine without a GPU")

Asked = dict[str, Any]


def asked(
    flavour: str = "auto", compute_capabilities: tuple[str, ...] = (), profiles: tuple[str, ...] = (), **others: Any
) -> Asked:
    """What plans to build; `others` are precision, refit and weight_stripped."""
    return {"flavour": flavour, "compute_capabilities": compute_capabilities, "profiles": profiles, **others}


def check_target(what: Asked) -> Work:
    return check_tensorrt(order(GOLDEN, "tensorrt", **what))


def build_tensorrt(folder: Path, what: Asked, **others: Any) -> list[StageCost]:
    return add(folder, "tensorrt", **what, **others)


def files_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def plans_of(folder: Path, component: str = "unet") -> dict[str, Artefact]:
    """Name -> plan of a component, in the manifest's order."""
    artefacts = read_manifest(folder).components[component].artefacts
    return {artefact.name: artefact for artefact in artefacts if artefact.format == "tensorrt"}


def capabilities_of(folder: Path) -> dict[str, tuple[str, ...]]:
    return {name: requirements(plan).compute_capabilities for name, plan in plans_of(folder).items()}
