"""What an image takes with one configuration: its parts, its load and its memory, in a process of its own."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldm_export.bench import PROMPT, inpainted_image
from ldm_export.process.isolate import run_isolated
from ldm_export.tune.candidates import EXACT, Candidate
from ldm_export.tune.race import Timing
from ldm_runtime.engines.choice import choice_of
from ldm_runtime.package.open import Package, open_package
from ldm_runtime.package.variants import Variant
from ldm_runtime.pipeline import Pipeline

SECONDS = 1.0  # of evaluations that are measured at least, where the run has so many; a short run is drawn again
TEXT, DENOISER, DECODER = "text", "denoiser", "decoder"


@dataclass(frozen=True)
class _Evaluations:
    """Some or all of the denoiser's evaluations in a run, in order. seconds: of each, on average."""

    text_seconds: float
    seconds: float
    taken: int
    total: int
    latents: np.ndarray


def parts_of(package: Package) -> dict[str, tuple[str, ...]]:
    """Return the parts of a model that are timed -> their components."""
    contract = package.manifest.contract
    return {
        TEXT: tuple(text.component for text in contract.text),
        DENOISER: (contract.denoiser.component,),
        DECODER: (contract.codec.decoder.component,),
    }


def variant_of(package: Package, name: str) -> Variant | None:
    """Return a variant by its name; None for EXACT."""
    return None if name == EXACT else next(each for each in package.manifest.variants if each.name == name)


def measure(path: Path, size: tuple[int, int], candidate: Candidate) -> Timing:
    """Draw with a candidate in a fresh process. Raises LdmError where it does not run on this machine.

    Of a long run only some evaluations are drawn, and the image's time is that of all.
    """
    outcome = run_isolated(drawn, path, size, candidate)
    return Timing(**outcome.value, peak_bytes=outcome.peak_bytes)


def drawn(path: Path, size: tuple[int, int], candidate: Candidate) -> dict[str, Any]:
    """Measure the fields of a Timing but its memory, which the caller sees from outside."""
    started = time.perf_counter()
    package = open_package(path, check="size")  # the caller has hashed it, and sees to it that nothing changes
    variant = variant_of(package, candidate.variant)
    with Pipeline(package, choice_of(candidate.engines, candidate.threads), variant=variant) as pipe:
        loaded = time.perf_counter() - started
        options = {"size": size, "seed": 0, **inpainted_image(pipe.contract, size)}
        first = _evaluations(pipe, options, 1, most=1)  # the first evaluation may still allocate and compile
        pipe.decode_array(first.latents)
        images: list[dict[str, float]] = []
        while not images or sum(sum(each.values()) for each in images) < SECONDS:
            images.append(_image(pipe, options, variant))
        names = pipe.info["engines"]
    parts = min(images, key=lambda each: sum(each.values()))
    usual = parts[DENOISER] / first.total
    engines = {component: names[component] for part in parts_of(package).values() for component in part}
    return {"parts": parts, "load_seconds": loaded + max(0.0, first.seconds - usual), "engines": engines}


def _image(pipe: Pipeline, options: dict[str, Any], variant: Variant | None) -> dict[str, float]:
    """Return the seconds of an image by part."""
    cycle = 1 if variant is None or variant.run.caching is None else variant.run.caching.interval
    drawn = _evaluations(pipe, options, cycle)
    seconds, until = drawn.seconds, 1.0 if variant is None else variant.run.guidance_until
    if drawn.taken < drawn.total and until < 1.0:
        without = _evaluations(pipe, {**options, "guidance": 1.0}, cycle)
        seconds = until * seconds + (1.0 - until) * without.seconds
    started = time.perf_counter()
    pipe.decode_array(drawn.latents)
    decoded = time.perf_counter() - started
    return {TEXT: drawn.text_seconds, DENOISER: seconds * drawn.total, DECODER: decoded}


def _evaluations(pipe: Pipeline, options: dict[str, Any], cycle: int, most: int | None = None) -> _Evaluations:
    """Evaluate a run's denoiser until SECONDS have passed, two cycles at least and whole ones.

    Steps would not do: those of some samplers differ, as those of pseudo linear multistep, whose second is two rows.
    cycle: of evaluations that differ from one another. most: not more than so many.
    """
    started = time.perf_counter()
    run = pipe.sample(PROMPT, **options)
    embedded = ended = time.perf_counter()
    total, taken, latents = len(run.request.plan.rows), 0, np.empty(0)
    for step in run.evaluations():
        ended, taken, latents = time.perf_counter(), taken + 1, step.latents
        is_enough = taken % cycle == 0 and taken >= 2 * cycle and ended - embedded >= SECONDS
        if is_enough or taken == most:
            run.cancel()
            break
    return _Evaluations(embedded - started, (ended - embedded) / taken, taken, total, latents)
