"""The error of a lossy way to draw: its runs beside exact ones from the same noise, over prompts that are held out."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from ldm_export.lossy.calibrate import Feeds, record_runs
from ldm_export.lossy.method import Draft
from ldm_export.lossy.prompts import CALIBRATION_SEED, HELD_OUT_SEED, Prompts, digest, seeds
from ldm_export.verify import metrics, reference_file, variant_file
from ldm_export.verify.gate import proving_engines
from ldm_export.verify.images import to_bytes
from ldm_export.verify.inpainting_probe import probe_task
from ldm_export.verify.run_size import is_large, reference_size
from ldm_export.verify.variant_run import draw_reference, evaluate_ways, versions_of, worst_captured
from ldm_runtime.engines.units import cpu_units
from ldm_runtime.package import safetensors
from ldm_runtime.package.artefacts import Difference
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.open import Package
from ldm_runtime.package.variants import MeasuredError, MeasuredPrompts, Variant
from ldm_runtime.pipeline import Pipeline

# Prompts that are drawn; of a large denoiser fewer.
MEASURED, MEASURED_LARGE = 12, 8
CALIBRATED, CALIBRATED_LARGE = 8, 4


@dataclass(frozen=True)
class Setting:
    """What is drawn: prompts with a seed each, and the steps and (width, height) of all."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    size: tuple[int, int]


@dataclass(frozen=True)
class Runs:
    """Runs of one setting. latents: of each (evaluations, C, h, w); images: uint8 (N, H, W, 3); seconds: of each."""

    latents: tuple[np.ndarray, ...]
    images: np.ndarray
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class RunError:
    """How far runs are from exact ones: see `MeasuredError`."""

    latents: tuple[float, ...]
    psnr: float | None
    ssim: float
    worst: int


_Run = tuple[np.ndarray, np.ndarray, float]  # one of `Runs`: latents, image, seconds


def setting_of(folder: Path, manifest: Manifest, prompts: Sequence[str], first_seed: int) -> Setting:
    """Return the package's own steps and size, for a large denoiser at most those of its reference."""
    contract = manifest.contract
    weights = denoiser_weights(folder, manifest)
    steps, size = contract.defaults.steps, (contract.image.width, contract.image.height)
    if is_large(weights):
        most, size = reference_size(contract, weights)
        steps = min(steps, most)
    return Setting(tuple(prompts), seeds(first_seed, len(prompts)), steps, size)


def held_out_setting(folder: Path, manifest: Manifest, prompts: Prompts) -> Setting:
    """Return the setting of what a budget is about."""
    count = MEASURED_LARGE if is_large(denoiser_weights(folder, manifest)) else MEASURED
    return setting_of(folder, manifest, prompts.held_out[:count], HELD_OUT_SEED)


def calibration_setting(folder: Path, manifest: Manifest, prompts: Prompts) -> Setting:
    """Return the setting that calibrates, and that is searched with."""
    count = CALIBRATED_LARGE if is_large(denoiser_weights(folder, manifest)) else CALIBRATED
    return setting_of(folder, manifest, prompts.calibration[:count], CALIBRATION_SEED)


def denoiser_weights(folder: Path, manifest: Manifest) -> int:
    """Count the weights of the denoiser, by the header of its file."""
    component = manifest.components[manifest.contract.denoiser.component]
    return safetensors.read_header(folder / component.weights).weights


def draw(folder: Path, manifest: Manifest, setting: Setting, variant: Variant | None = None) -> Runs:
    """Draw each prompt by the package's defaults, alone; `variant`: one of the manifest's, None is exact.

    The seconds are those of a run, without the time in which engines are opened.

    Raises:
        LdmError: the package cannot be drawn with here.
        NonFiniteError: NaN or infinity came out of a component.
    """
    with Pipeline(Package(folder, manifest, "", "size"), proving_engines(), variant=variant) as pipe:
        return draw_with(pipe, setting)


def draw_recorded(folder: Path, manifest: Manifest, setting: Setting) -> tuple[Runs, dict[str, list[Feeds]]]:
    """Draw exactly as `draw` does; return besides what denoiser and decoder were fed with, as of `record_runs`."""
    drawn, feeds = record_runs(Package(folder, manifest, "", "size"), proving_engines(), _draws(setting))
    return _together(drawn), feeds


def draw_with(pipe: Pipeline, setting: Setting) -> Runs:
    """Draw as `draw` does, with an open pipeline, by its variant if it has one."""
    return _together([draw_run(pipe) for draw_run in _draws(setting)])


def _draws(setting: Setting) -> list[Callable[[Pipeline], _Run]]:
    """Return what draws each run of a setting with a pipeline."""
    pairs = zip(setting.prompts, setting.seeds, strict=True)
    return [functools.partial(_draw_run, setting=setting, prompt=prompt, seed=seed) for prompt, seed in pairs]


def _draw_run(pipe: Pipeline, *, setting: Setting, prompt: str, seed: int) -> _Run:
    started = time.monotonic()
    steps = setting.steps if pipe.variant is None or pipe.variant.run.steps is None else None
    task = probe_task(pipe.contract, setting.size)
    states = list(pipe.sample(prompt, seed=seed, size=setting.size, steps=steps, **task).evaluations())
    image = states[-1].decode()
    seconds = time.monotonic() - started
    return np.concatenate([state.latents for state in states]), to_bytes(image[0]), seconds


def _together(drawn: Sequence[_Run]) -> Runs:
    latents, images, seconds = zip(*drawn, strict=True)
    return Runs(latents, np.stack(images), seconds)


def compare_runs(exact: Runs, lossy: Runs) -> RunError:
    """Compare runs of one setting. Where they have other numbers of evaluations, their last latents are compared."""
    drifts = [_drift(*pair) for pair in zip(exact.latents, lossy.latents, strict=True)]
    psnrs = [metrics.psnr(*pair, peak=255) for pair in zip(lossy.images, exact.images, strict=True)]
    ssims = [
        metrics.ssim(mine.transpose(2, 0, 1), theirs.transpose(2, 0, 1), 255)
        for mine, theirs in zip(lossy.images, exact.images, strict=True)
    ]
    least = min(psnrs)
    return RunError(
        latents=tuple(float(each) for each in np.max(drifts, axis=0)),
        psnr=None if math.isinf(least) else least,
        ssim=min(ssims),
        worst=psnrs.index(least),
    )


def _drift(exact: np.ndarray, lossy: np.ndarray) -> list[float]:
    """Return the relative RMS after each evaluation."""
    if exact.shape != lossy.shape:
        exact, lossy = exact[-1:], lossy[-1:]
    return [metrics.relative_rms(*pair) for pair in zip(lossy, exact, strict=True)]


def provisional(draft: Draft) -> Variant:
    """Return a draft as a variant that can be drawn with, without its error."""
    nothing = MeasuredError(
        components={name: Difference(0.0, 0.0) for name in draft.ways},
        latents=(0.0,),
        psnr=None,
        ssim=1.0,
        worst=0,
        prompts=MeasuredPrompts("0" * 64, 1),
        seeds=(0, 0),
        steps=1,
        sampler="none",
        guidance=0.0,
        size=(1, 1),
        units=(),
        versions={},
    )
    return Variant(draft.name, draft.methods, dict(draft.ways), draft.run, nothing, time=1.0, bytes=0)


def measure_variant(folder: Path, manifest: Manifest, draft: Draft, setting: Setting, exact: Runs) -> Variant:
    """Draw and evaluate as a draft says, and return the variant with its error and its time beside the exact runs'.

    What it makes of the reference's cases and sampling run is written for the gate (`verify.variant_file`).
    exact: runs of the same setting.

    Raises:
        LdmError: as `draw`.
        VerificationError: NaN or infinity comes out of one of its ways.
    """
    made = provisional(draft)
    package = Package(folder, replace(manifest, variants=(*manifest.variants, made)), "", "size")
    reference = reference_file.read(folder / reference_file.FILE)
    with Pipeline(package, proving_engines(), variant=made) as pipe:
        lossy = draw_with(pipe, setting)
        cases = evaluate_ways(pipe, made, reference)
        image = draw_reference(pipe, made, reference.trajectory)
    measured = replace(
        made,
        error=_error(manifest, made, setting, compare_runs(exact, lossy), worst_captured(cases, reference)),
        time=median(lossy.seconds) / median(exact.seconds),
        bytes=_own_bytes(manifest, made),
    )
    variant_file.write(folder / variant_file.file_of(made.name), measured, cases, image)
    return measured


def _error(
    manifest: Manifest, variant: Variant, setting: Setting, found: RunError, components: dict[str, Difference]
) -> MeasuredError:
    run, defaults = variant.run, manifest.contract.defaults
    return MeasuredError(
        components=components,
        latents=found.latents,
        psnr=found.psnr,
        ssim=found.ssim,
        worst=found.worst,
        prompts=MeasuredPrompts(digest(setting.prompts, setting.seeds), len(setting.prompts)),
        seeds=(setting.seeds[0], setting.seeds[-1]),
        steps=setting.steps if run.steps is None else run.steps,
        sampler=defaults.sampler if run.sampler is None else run.sampler,
        guidance=defaults.guidance,
        size=setting.size,
        units=tuple(sorted(cpu_units())),
        versions=versions_of(variant),
    )


def _own_bytes(manifest: Manifest, variant: Variant) -> int:
    """Return the size of the files that no exact artefact has."""
    own: set[str] = set()
    exact: set[str] = set()
    for name, component in manifest.components.items():
        used = variant.artefacts_of(name, manifest.contract.denoiser.component)
        for artefact in component.artefacts:
            if artefact.exactness == "exact":
                exact.update(artefact.files)
            elif artefact.name in used:
                own.update(artefact.files)
    return sum(manifest.files[file].size for file in own - exact)
