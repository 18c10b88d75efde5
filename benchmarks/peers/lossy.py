"""Makes what the lossy rows open: this project's graphs in eight bits and cut in two, and the feeds to calibrate with.

Weights of a checkpoint without training meet no budget of images, so that `ldm-export build --budget` would keep
nothing of them. Here every form is made whatever its error, which the tables then have.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from benchmarks.peers.programs.ours import artefact_name
from benchmarks.peers.programs.protocol import link_file
from ldm_export.bench import PROMPT
from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.lossy.calibrate import Feeds, collect_ranges, record_runs
from ldm_export.lossy.int8 import DATA, FORMS, Form
from ldm_export.lossy.layers import exposed, quantisable
from ldm_export.lossy.measure import provisional
from ldm_export.lossy.method import Draft
from ldm_export.lossy.quantise import quantise
from ldm_export.lossy.ranges import ValueRange
from ldm_export.lossy.store import Quantised, store
from ldm_export.optimise.cut_at import deep_and_shallow
from ldm_export.optimise.pipeline import run_passes
from ldm_export.package.write import with_artefacts, write_manifest
from ldm_runtime.engines.choice import choose
from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.package.artefacts import Artefact, Difference
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.open import Package, open_package
from ldm_runtime.package.tensor_spec import ComponentContract, TensorSpec
from ldm_runtime.package.variants import Caching, Variant, VariantRun, Way

STEPS = 4  # of each run that calibrates, which has every kind of noise from the first row of a plan to the last
PROMPTS = ("a red house by the sea", "two cats on a sofa")
DEPTH = 1  # residual blocks of the last up block that the shallow denoiser computes
NOT_MEASURED = Difference(relative_rms=1.0, max_abs=1.0)  # a manifest wants one; the tables have the real difference


def write_calibration(package: Path, size: tuple[int, int], threads: int, out: Path) -> None:
    """Write what denoiser and decoder are fed with in runs of PROMPTS, as COMPONENT/NUMBER/INPUT."""
    arrays = {
        f"{component}/{number}/{name}": value
        for component, feeds in _recorded(package, size, threads, PROMPTS).items()
        for number, each in enumerate(feeds)
        for name, value in each.items()
    }
    with atomic_file(out) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def measured_inputs(package: Path, size: tuple[int, int], threads: int) -> dict[str, np.ndarray]:
    """Return what the components are measured on, as COMPONENT.INPUT: a run of another prompt, in the middle of it."""
    recorded = _recorded(package, size, threads, (PROMPT,))
    return {
        f"{component}.{name}": value
        for component, feeds in recorded.items()
        for name, value in feeds[len(feeds) // 2].items()
    }


def read_calibration(file: Path, component: str) -> list[Feeds]:
    """Read the feeds of a component, in their order."""
    with np.load(file) as stored:
        found: dict[int, dict[str, np.ndarray]] = {}
        for key in stored.files:
            owner, number, name = key.split("/")
            if owner == component:
                found.setdefault(int(number), {})[name] = stored[key]
    return [found[number] for number in sorted(found)]


def write_lossy_package(package: Path, calibration: Path, folder: Path) -> None:
    """Write a package with the files of `package`, linked where that can be, and the lossy forms beside them.

    ONNX's checker takes weights with a second link for an attack, so those that new graphs read are copied. No proof
    is of the forms, and the errors of their variants are beyond any budget: what runs them names an artefact.
    """
    shutil.copytree(package, folder, copy_function=link_file)
    opened = open_package(folder, check="size")
    contract = opened.manifest.contract
    denoiser, decoder = contract.denoiser.component, contract.codec.decoder.component
    for name in (denoiser, decoder):
        weights = folder / opened.manifest.components[name].weights
        weights.unlink()
        shutil.copy2(package / weights.relative_to(folder), weights)
    opened = open_package(folder, check="size")
    made = {name: _Forms(opened, name, read_calibration(calibration, name)).write() for name in (denoiser, decoder)}
    noted = with_artefacts(folder, opened.manifest, made)
    write_manifest(folder, replace(noted, variants=tuple(_variants(denoiser, decoder))))


def _variants(denoiser: str, decoder: str) -> Iterator[Variant]:
    """Yield the variants that a manifest wants for artefacts in eight bits. Their errors are not measured here."""
    for form, engine in (("int8", "ort"), ("int8", "openvino"), ("int8-cached", "openvino")):
        whole, plain = artefact_name(form, engine), artefact_name("int8", engine)
        caching = Caching(2, whole, whole.removesuffix("deep") + "shallow") if form == "int8-cached" else None
        run = VariantRun(caching=caching, guidance_until=1.0, steps=None, sampler=None)
        ways = {name: Way(engine, each, "int8", ()) for name, each in ((denoiser, whole), (decoder, plain))}
        made = provisional(Draft(whole, ("int8",), ways, run))
        yield replace(made, error=replace(made.error, psnr=0.0, ssim=0.0))  # within no budget


def _recorded(path: Path, size: tuple[int, int], threads: int, prompts: Sequence[str]) -> dict[str, list[Feeds]]:
    """Draw the prompts exactly, in few steps; return what denoiser and decoder were fed with.

    The timesteps are whole numbers, as OpenVINO GenAI's UNet wants them.
    """
    package, choice = open_package(path, check="size"), choose("ort", threads=threads)
    seeds = (501,) * len(prompts)
    return record_runs(package, choice, prompts, seeds, rows=STEPS, sampler="ddim", steps=STEPS, size=size)


class _Forms:
    """Writes the forms of one component into its folder: all in one data file beside the component's own weights."""

    def __init__(self, package: Package, component: str, feeds: list[Feeds]) -> None:
        self.package, self.component = package, component
        self.parts = package.manifest.components[component]
        self.canonical = package.path / self.parts.canonical.file
        self.ranges: dict[str, ValueRange] = collect_ranges(self.canonical, feeds)
        self.outside = exposed(read_graph(self.canonical))
        self.quantised: dict[Path, Quantised] = {}
        self.artefacts: list[Artefact] = []

    def write(self) -> list[Artefact]:
        for form in FORMS:
            model = read_graph(self.canonical)
            run_passes(model, form.passes)
            self._add_int8(artefact_name("int8", form.engine), model, form)
        if self.component == self.package.manifest.contract.denoiser.component:
            self._add_cut()
        store(self.quantised, self.canonical.parent / DATA)
        return self.artefacts

    def _add_cut(self) -> None:
        """Cut the graph in two, in float32 and in eight bits; a layer has the same numbers in both parts."""
        openvino = next(form for form in FORMS if form.engine == "openvino")
        for kind in ("cached", "int8-cached"):
            whole = artefact_name(kind, openvino.engine)
            names = (whole, whole.removesuffix("deep") + "shallow")
            for name, part in zip(names, deep_and_shallow(read_graph(self.canonical), DEPTH), strict=True):
                interface = _interface(part, self.package.manifest.contract, self.component)
                if kind == "int8-cached":
                    self._add_int8(name, part, openvino, interface)
                    continue
                write_graph(part, self._path(name))
                self.artefacts.append(self._artefact(name, openvino.reader, interface))

    def _add_int8(self, name: str, model: ir.Model, form: Form, interface: ComponentContract | None = None) -> None:
        """Quantise all layers but the exposed ones."""
        keep = self.outside & {layer.name for layer in quantisable(model)}
        self.quantised[self._path(name)] = quantise(model, self.ranges, form.scheme, keep)
        lossy: dict[str, Any] = {"precision": "int8", "exactness": "lossy", "difference": NOT_MEASURED}
        own = f"{self.component}/{DATA}"
        described = self._artefact(name, form.reader, interface)
        self.artefacts.append(replace(described, files=(described.file, own, self.parts.weights), **lossy))

    def _artefact(self, name: str, reader: str, interface: ComponentContract | None) -> Artefact:
        return Artefact(
            name=name,
            format="onnx",
            files=(f"{self.component}/{self._path(name).name}", self.parts.weights),
            engine=reader,
            precision="fp32",
            exactness="exact",
            difference=None,
            interface=interface,
        )

    def _path(self, name: str) -> Path:
        return self.canonical.parent / f"model.{name}.onnx"


def _interface(model: ir.Model, contract: Contract, component: str) -> ComponentContract:
    """Describe the inputs and outputs of a part of the component's graph: its own, and what one part hands on."""
    known = {
        spec.name: spec for spec in (*contract.components[component].inputs, *contract.components[component].outputs)
    }

    def spec(value: ir.Value) -> TensorSpec:
        assert value.shape is not None and value.dtype is not None
        dims = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape)
        return known.get(str(value.name)) or TensorSpec(str(value.name), value.dtype.numpy().name, dims)

    return ComponentContract(tuple(map(spec, model.graph.inputs)), tuple(map(spec, model.graph.outputs)))
