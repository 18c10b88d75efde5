"""A target built onto a finished package, as `build` does it while the package is being made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ldm_export.package.write import with_artefacts, write_manifest
from ldm_export.process.isolate import StageCost
from ldm_export.targets import TARGETS
from ldm_export.targets.target import Order
from ldm_runtime.package import safetensors
from ldm_runtime.package.open import read_manifest


def order(
    folder: Path, target: str, *, precision: Any = "fp32", max_memory: int | None = None, **options: Any
) -> Order:
    """Ask for a target of the package in `folder`; `options` are the target's own."""
    manifest, kind = read_manifest(folder), TARGETS[target].options
    headers = {name: safetensors.read_header(folder / parts.weights) for name, parts in manifest.components.items()}
    parameters = {name: sum(info.length // 4 for info in header.tensors.values()) for name, header in headers.items()}
    own = None if kind is None else kind(**options)
    return Order(manifest.contract, parameters, precision, own, folder, max_memory)


def add(
    folder: Path, target: str, *, progress: Callable[[str], None] = lambda text: None, **asked: Any
) -> list[StageCost]:
    """Check the order, do its work in `folder` and note it in the manifest."""
    work = TARGETS[target].check(order(folder, target, **asked))
    manifest = read_manifest(folder)
    made = TARGETS[target].build(work, folder, manifest, progress)
    write_manifest(folder, with_artefacts(folder, manifest, made.artefacts))
    return list(made.stages)
