"""This project's runtime as one of the peers: with one of its engines, on a package."""

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import ldm_runtime
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
from ldm_runtime.engines.choice import artefact_for, choose, open_engine, readable_by
from ldm_runtime.engines.engine import Engine
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.open import MANIFEST, Package, open_package


def open_unet(request: Request) -> Answer:
    begun = time.perf_counter()
    package = _package(request)
    denoiser = package.manifest.contract.denoiser.component
    _engine(request, package, denoiser)
    loaded = time.perf_counter() - begun
    return {"load_seconds": loaded, "file_bytes": _file_bytes(package, request.engine, [denoiser])}


def components(request: Request) -> Answer:
    given = read_inputs(request)
    package = _package(request)
    outputs = _outputs(package.manifest.contract)

    def evaluation(component: str) -> Evaluate:
        engine = _engine(request, package, component)
        feeds = {spec.name: given[f"{component}.{spec.name}"] for spec in engine.inputs}
        return lambda: engine.run(feeds)[outputs[component]]

    return measure_components(request, {name: evaluation(name) for name in package.manifest.components})


def image(request: Request) -> Answer:
    latents = read_inputs(request)["latents"]
    package = _package(request)
    begun = time.perf_counter()
    pipe = ldm_runtime.load(package.path, engine=request.engine, threads=request.threads)
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

    return {**measure_image(request, loaded, draw), "file_bytes": _all_bytes(package, request.engine)}


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


def _engine(request: Request, package: Package, component: str) -> Engine:
    return open_engine(choose(request.engine, threads=request.threads), package, component).engine


def _all_bytes(package: Package, engine: str) -> int:
    """Add up the files of all components, the tokenizer and the manifest."""
    files = package.manifest.files
    folders = tuple(f"{text.tokenizer.file.rpartition('/')[0]}/" for text in package.manifest.contract.text)
    tokenizer = sum(entry.size for name, entry in files.items() if name.startswith(folders))
    manifest = (package.path / MANIFEST).stat().st_size
    return _file_bytes(package, engine, package.manifest.components) + tokenizer + manifest


def _file_bytes(package: Package, engine: str, components: Iterable[str]) -> int:
    """Add up the graphs that the engine reads and their weights, each file once."""
    files = {file for name in components for file in artefact_for(engine, package, name).files}
    return sum(package.manifest.files[file].size for file in files)


if __name__ == "__main__":
    run({"open": open_unet, "components": components, "image": image}, ("numpy", "onnxruntime", "openvino"))
