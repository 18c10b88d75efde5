"""A tiny pipeline built as `build` does it, but for the proof; many tests share it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.export.to_onnx import ExportReport, export_component
from ldm_export.families.spec import ComponentSpec
from ldm_export.optimise.pipeline import CANONICAL_PASSES, PassReport, optimise, ort_cpu_passes
from ldm_export.package.write import ORT_CPU_FILE, finish_package, with_files, with_proof, write_manifest
from ldm_export.recipes.build import BuildRecipe
from ldm_export.verify.gate import prove_package
from ldm_export.verify.reference import write_reference
from ldm_runtime.package.open import read_manifest
from tests import traces
from tests.oracles import build_tiny_sd

# What a kind may end in -> the precision of its checkpoint's weights.
PRECISIONS = {"": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class TinyBuild:
    """Read only; `raw` holds the graphs as they are before any pass, `package` the finished folder."""

    source: Path
    raw: Path
    package: Path
    exports: dict[str, ExportReport]
    passes: dict[str, list[PassReport]]  # graph file in the package -> what the passes did

    @property
    def traces(self) -> Path:
        """The graphs that were traced, of all kinds together."""
        return self.source.parent.parent / "traces"

    @property
    def checkpoint(self) -> Checkpoint:
        return open_checkpoint(self.source)

    @property
    def specs(self) -> dict[str, ComponentSpec]:
        return self.checkpoint.specs


def make(folder: Path, kind: str) -> TinyBuild:
    """Save a pipeline of `kind` ("sd15", "sd21", "sd15-fp16", …) with diffusers, export, optimise and package it."""
    family, _, precision = kind.partition("-")
    return packaged(folder, build_tiny_sd(folder / "source", family, dtype=PRECISIONS[precision]))


def packaged(folder: Path, source: Path) -> TinyBuild:
    """Export, optimise and package a pipeline that diffusers saved."""
    raw, package = folder / "raw", folder / "package"
    package.mkdir()
    exports, passes = {}, {}
    checkpoint = open_checkpoint(source)
    for name, spec in checkpoint.specs.items():
        with traces.remembered(folder.parent / "traces", checkpoint):
            exports[name] = export_component(checkpoint, name, package)
        canonical, fused = package / name / "model.onnx", package / name / ORT_CPU_FILE
        (raw / name).mkdir(parents=True)
        for file in ("model.onnx", "model.safetensors"):
            (raw / name / file).write_bytes((package / name / file).read_bytes())
        passes[f"{name}/{canonical.name}"] = optimise(canonical, canonical, CANONICAL_PASSES)
        passes[f"{name}/{fused.name}"] = optimise(canonical, fused, ort_cpu_passes(spec.factors))
    write_manifest(package, finish_package(package, checkpoint, exports, recipe=BuildRecipe(name="tiny")))
    return TinyBuild(source, raw, package, exports, passes)


def prove(built: TinyBuild, package: Path) -> Path:
    """A copy of the built package at `package`, with reference, report and proof."""
    shutil.copytree(built.package, package)
    manifest = read_manifest(package)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # models this small wait for one another's threads longer than they compute
    write_reference(built.checkpoint, package, manifest)
    torch.set_num_threads(threads)
    manifest = with_files(package, manifest)
    write_manifest(package, with_proof(package, manifest, prove_package(package, manifest)))
    return package
