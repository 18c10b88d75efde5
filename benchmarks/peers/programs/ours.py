"""This project's runtime as one of the peers: with one of its engines, on a package, exactly or in a lossy form."""

import time
from pathlib import Path

import numpy as np

from benchmarks.peers.programs.protocol import (
    Answer,
    Evaluate,
    NotMeasured,
    Request,
    measure_components,
    measure_image,
    read_inputs,
    run,
)
from ldm_runtime.engines.choice import EngineChoice, artefact_for, artefact_named, choose, open_way, readable_by
from ldm_runtime.engines.engine import Engine
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.errors import EngineUnavailable
from ldm_runtime.package.artefacts import Artefact, Precision
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.open import MANIFEST, Package, open_package
from ldm_runtime.package.variants import Way
from ldm_runtime.pipeline import Pipeline

DEPTH = 1  # residual blocks of the last up block that the shallow denoiser computes


def open_unet(request: Request) -> Answer:
    begun = time.perf_counter()
    package = _package(request)
    denoiser = package.manifest.contract.denoiser.component
    _engine(request, package, denoiser)
    loaded = time.perf_counter() - begun
    return {"load_seconds": loaded, "file_bytes": _file_bytes(package, [_artefact(request, package, denoiser)])}


def components(request: Request) -> Answer:
    given = read_inputs(request)
    package = _package(request)
    contract = package.manifest.contract
    outputs = _outputs(contract)

    chosen = [name for name in package.manifest.components if name in request.components]
    engines = {name: _engine(request, package, name) for name in chosen}

    def evaluation(component: str, engine: Engine) -> Evaluate:
        feeds = {spec.name: given[f"{component}.{spec.name}"] for spec in engine.inputs}
        return lambda: engine.run(feeds)[outputs[component]]

    evaluations = {name: evaluation(name, engine) for name, engine in engines.items()}
    denoiser = contract.denoiser.component
    if request.form.endswith("cached") and denoiser in engines:
        evaluations[f"{denoiser}_shallow"] = _shallow(request, package, engines[denoiser], given)
    return measure_components(request, evaluations)


def image(request: Request) -> Answer:
    latents = read_inputs(request)["latents"]
    package = _package(request)
    begun = time.perf_counter()
    contract = package.manifest.contract
    used = [*(text.component for text in contract.text), contract.denoiser.component, contract.codec.decoder.component]
    engines = {name: _engine(request, package, name) for name in used}
    pipe = Pipeline(package, _choice(request), engines=engines)
    loaded = time.perf_counter() - begun

    def draw(ends: list[float]) -> np.ndarray:
        sampling = pipe.sample(
            request.prompt,
            latents=latents,
            sampler="ddim",
            steps=request.steps,
            guidance=request.guidance,
            size=request.size,
        )
        for step in sampling:
            last = step
            ends.append(time.perf_counter())
        return np.asarray(last.images()[0])

    return {**measure_image(request, loaded, draw), "file_bytes": _all_bytes(request, package)}


def _outputs(contract: Contract) -> dict[str, str]:
    """Return the output that each component's role names."""
    denoiser, halves = contract.denoiser, (contract.codec.encoder, contract.codec.decoder)
    outputs = {text.component: text.output for text in contract.text}
    return outputs | {denoiser.component: denoiser.output} | {half.component: half.output for half in halves}


def _package(request: Request) -> Package:
    """Open the package. Raises NotMeasured where the engine is not there or the package was not built for it."""
    if request.engine not in ENGINES:
        raise NotMeasured(f"this version of the runtime has no engine {request.engine}")
    missing = ENGINES[request.engine].missing()
    if missing is not None:
        raise NotMeasured(missing)
    package = open_package(Path(request.model), check="size")
    for name in package.manifest.components:
        if not readable_by(ENGINES[request.engine], package, name):
            raise NotMeasured(f"the package has no graph of {name} for the engine {request.engine}")
    return package


def _choice(request: Request) -> EngineChoice:
    return choose(request.engine, threads=request.threads)


def _artefact(request: Request, package: Package, component: str) -> Artefact:
    """Return what runs of a component: the form that is asked for, or the engine's best where it has none of it."""
    artefacts = {each.name: each for each in package.manifest.components[component].artefacts}
    for form in (request.form, request.form.removesuffix("-cached")):  # caching is about the denoiser alone
        if artefact_name(form, request.engine) in artefacts:
            return artefacts[artefact_name(form, request.engine)]
    return artefact_for(request.engine, package, component)


def artefact_name(form: str, engine: str) -> str:
    """Return the name that `benchmarks.peers.lossy` gives an artefact in this form; "": it has none."""
    kept = "int8" if engine == "ort" else f"int8-{engine}"
    return {"": "", "int8": kept, "cached": f"deep-{DEPTH}", "int8-cached": f"{kept}-deep-{DEPTH}"}[form]


def shallow_name(deep: str) -> str:
    """Return the name of the graph that reads what the one of a name keeps."""
    return deep.replace("deep", "shallow")


def _engine(request: Request, package: Package, component: str, artefact: Artefact | None = None) -> Engine:
    """Open a component as it is asked for. Raises NotMeasured where this machine cannot compute so."""
    chosen = _artefact(request, package, component) if artefact is None else artefact
    # What is in eight bits says so itself; bfloat16 is what the rest is computed in.
    precision: Precision = "bf16" if request.precision.endswith("bf16") else chosen.precision
    try:
        return open_way(_choice(request), package, component, Way(request.engine, chosen.name, precision, ())).engine
    except EngineUnavailable as error:
        raise NotMeasured(str(error)) from error


def _shallow(request: Request, package: Package, deep: Engine, given: dict[str, np.ndarray]) -> Evaluate:
    """Open the graph that reads what the deep one keeps, with what that keeps of the inputs of all peers."""
    component = package.manifest.contract.denoiser.component
    output = package.manifest.contract.denoiser.output
    whole = _artefact(request, package, component)
    engine = _engine(request, package, component, artefact_named(package, component, shallow_name(whole.name)))
    feeds = {spec.name: given[key] for spec in engine.inputs if (key := f"{component}.{spec.name}") in given}
    kept = [spec.name for spec in engine.inputs if spec.name not in feeds]
    made = deep.run({spec.name: given[f"{component}.{spec.name}"] for spec in deep.inputs})
    feeds |= {name: made[name] for name in kept}
    return lambda: engine.run(feeds)[output]


def _all_bytes(request: Request, package: Package) -> int:
    """Add up the files of all components, the tokenizer and the manifest."""
    files = package.manifest.files
    folders = tuple(f"{text.tokenizer.file.rpartition('/')[0]}/" for text in package.manifest.contract.text)
    tokenizer = sum(entry.size for name, entry in files.items() if name.startswith(folders))
    manifest = (package.path / MANIFEST).stat().st_size
    artefacts = [_artefact(request, package, name) for name in package.manifest.components]
    return _file_bytes(package, artefacts) + tokenizer + manifest


def _file_bytes(package: Package, artefacts: list[Artefact]) -> int:
    """Add up the graphs and their weights, each file once."""
    files = {file for artefact in artefacts for file in artefact.files}
    return sum(package.manifest.files[file].size for file in files)


if __name__ == "__main__":
    run({"open": open_unet, "components": components, "image": image}, ("numpy", "onnxruntime", "openvino"))
