"""Makes what the lossy rows open: this project's graphs in eight bits and cut in two, and the feeds to calibrate with.

Weights of a checkpoint without training meet no budget of images, so that `ldm-export build --budget` would keep
nothing of them. Here every form is made whatever its error, which the tables then have.
"""

import functools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.programs.ours import DEPTH, artefact_name, shallow_name
from benchmarks.peers.programs.protocol import link_file
from ldm_export.bench import PROMPT
from ldm_export.export.graph_file import read_graph
from ldm_export.lossy.caching import write_cut
from ldm_export.lossy.calibrate import Feeds, collect_ranges, record_runs
from ldm_export.lossy.int8 import DATA, FORMS
from ldm_export.lossy.layers import exposed
from ldm_export.lossy.measure import provisional
from ldm_export.lossy.method import Draft
from ldm_export.lossy.quantise import quantise
from ldm_export.lossy.store import Quantised, store
from ldm_export.optimise.pipeline import run_passes
from ldm_export.package.write import with_artefacts, write_manifest
from ldm_runtime.engines.choice import choose
from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.package.artefacts import Artefact, Difference
from ldm_runtime.package.open import Package, open_package
from ldm_runtime.package.variants import Caching, Variant, VariantRun, Way
from ldm_runtime.pipeline import Pipeline

STEPS = 4  # of each run that calibrates, which has every kind of noise from the first row of a plan to the last
PROMPTS = ("a red house by the sea", "two cats on a sofa")
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
    made = {name: _quantised(opened, name, read_calibration(calibration, name)) for name in (denoiser, decoder)}
    noted = with_artefacts(folder, opened.manifest, made)
    bases = [noted.components[denoiser].canonical, *(each for each in made[denoiser] if each.engine == "openvino")]
    cuts = [write_cut(folder, noted, base, DEPTH) for base in bases]
    noted = with_artefacts(folder, noted, {denoiser: [each for cut in cuts for each in (cut.deep, cut.shallow)]})
    write_manifest(folder, replace(noted, variants=tuple(_variants(denoiser, decoder))))


def _variants(denoiser: str, decoder: str) -> Iterator[Variant]:
    """Yield the variants that a manifest wants for artefacts in eight bits. Their errors are not measured here."""
    for form, engine in (("int8", "ort"), ("int8", "openvino"), ("int8-cached", "openvino")):
        whole, plain = artefact_name(form, engine), artefact_name("int8", engine)
        caching = Caching(2, whole, shallow_name(whole)) if form == "int8-cached" else None
        run = VariantRun(caching=caching, guidance_until=1.0, steps=None, sampler=None)
        ways = {name: Way(engine, each, "int8", ()) for name, each in ((denoiser, whole), (decoder, plain))}
        made = provisional(Draft(whole, ("int8",), ways, run))
        yield replace(made, error=replace(made.error, psnr=0.0, ssim=0.0))  # within no budget


def _recorded(path: Path, size: tuple[int, int], threads: int, prompts: Sequence[str]) -> dict[str, list[Feeds]]:
    """Draw the prompts exactly, in few steps; return what denoiser and decoder were fed with.

    The timesteps are whole numbers, as OpenVINO GenAI's UNet wants them.
    """
    package, choice = open_package(path, check="size"), choose("ort", threads=threads)
    request: dict[str, Any] = {"seed": 501, "sampler": "ddim", "steps": STEPS, "size": size}
    draws = [functools.partial(Pipeline.__call__, prompt=prompt, **request) for prompt in prompts]
    return record_runs(package, choice, draws, rows=STEPS)[1]


def _quantised(package: Package, component: str, feeds: Sequence[Feeds]) -> list[Artefact]:
    """Write the graphs in eight bits of one component into its folder; all layers but the exposed ones are."""
    parts = package.manifest.components[component]
    canonical = package.path / parts.canonical.file
    ranges, keep = collect_ranges(canonical, feeds), exposed(read_graph(canonical))
    graphs: dict[Path, Quantised] = {}
    artefacts = []
    for form in FORMS:
        model, name = read_graph(canonical), artefact_name("int8", form.engine)
        run_passes(model, form.passes)
        path = canonical.with_name(f"model.{name}.onnx")
        graphs[path] = quantise(model, ranges, form.scheme, keep)
        files = (f"{component}/{path.name}", f"{component}/{DATA}", parts.weights)
        kept = tuple(sorted(keep))
        artefacts.append(Artefact(name, "onnx", files, form.reader, "int8", "lossy", NOT_MEASURED, kept=kept))
    store(graphs, canonical.with_name(DATA))
    return artefacts
