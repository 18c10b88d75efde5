"""A whole sampling run of a package against the reference's: the drift of the latents, and the image at the end."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ldm_export.errors import VerificationError
from ldm_export.precision.table import EMULATED_FACTOR, EXACT, PRECISIONS, RECORDED_FACTOR, Tolerance
from ldm_export.verify import metrics
from ldm_export.verify.images import side_by_side, to_bytes
from ldm_export.verify.inpainting_probe import probe_task
from ldm_export.verify.page import Figure
from ldm_export.verify.reference_file import Trajectory, settings
from ldm_export.verify.report import StepResult, TrajectoryResult, finite_or_none
from ldm_runtime.engines.choice import EngineChoice, artefact_for
from ldm_runtime.errors import LdmError
from ldm_runtime.package.artefacts import Artefact
from ldm_runtime.package.open import Package
from ldm_runtime.pipeline import Pipeline


def lossy_tolerance(artefact: Artefact) -> Tolerance | None:
    """Return the tolerance of a lossy artefact: that of its precision, and no more than was recorded of it allows.

    None: the reference's own holds.
    """
    row = PRECISIONS[artefact.precision].tolerance
    if artefact.exactness == "exact" or row is None or artefact.difference is None:
        return None
    factor = RECORDED_FACTOR if artefact.requires is None else EMULATED_FACTOR
    recorded = max(EXACT.relative_rms, factor * artefact.difference.relative_rms)
    return replace(row, relative_rms=min(row.relative_rms, recorded))


def compare_run(package: Package, choice: EngineChoice, expected: Trajectory) -> tuple[TrajectoryResult, list[Figure]]:
    """Sample as a user does, with the package's own defaults, from the same seed."""
    drift: list[StepResult] = []
    image: np.ndarray | None = None
    problem: str | None = None
    try:
        with Pipeline(package, choice) as pipe:
            last = None
            run = pipe.sample(
                expected.prompt,
                negative=expected.negative,
                steps=expected.steps,
                seed=expected.seed,
                size=expected.size,
                **probe_task(pipe.contract, expected.size),
            )
            for last in run.evaluations():  # the reference has the latents after each
                drift.append(_step(last.evaluations - 1, last.latents, expected, last.timestep))
            if last is not None:
                image = last.decode()
            expected = _with_floors(package, pipe.info["engines"], expected)  # an encoder is opened only when it runs
    except LdmError as error:
        problem = str(error)
    shape = (1, *expected.image.shape)  # (1, 3, H, W)
    if problem is None and (image is None or image.shape != shape):
        problem = f"the image is {None if image is None else image.shape}, expected {shape}"
    if problem is not None or image is None:
        return _judge(expected, drift, None, problem), []
    return _judge(expected, drift, image[0], None), side_by_side(to_bytes(expected.image), to_bytes(image[0]))


def _with_floors(package: Package, engines: Mapping[str, str], expected: Trajectory) -> Trajectory:
    """Lower the floors where a component is lossy; `engines`: component -> what runs it."""
    lossy = [lossy_tolerance(artefact_for(engine, package, name)) for name, engine in engines.items()]
    floors = [(each.latents_floor, each.image_floor) for each in lossy if each is not None]
    if not floors:
        return expected
    latents, image = (min(values) for values in zip(*floors, strict=True))
    return replace(
        expected,
        latents_floor=min(expected.latents_floor, latents),
        image_floor=min(expected.image_floor, image),
    )


def _step(index: int, latents: np.ndarray, expected: Trajectory, timestep: float) -> StepResult:
    if index >= len(expected.latents) or latents.shape[1:] != expected.latents.shape[1:] or len(latents) != 1:
        raise VerificationError(
            f"step {index + 1} has latents of shape {latents.shape}, expected {len(expected.latents)} steps of "
            f"{(1, *expected.latents.shape[1:])}"
        )
    if not np.isfinite(latents).all():
        raise VerificationError(f"the latents hold NaN or infinity after step {index + 1}")
    reference = expected.latents[index : index + 1]
    relative_rms, psnr = metrics.difference(latents, reference).relative_rms, metrics.lowest_psnr(latents, reference)
    return StepResult(index, timestep, finite_or_none(relative_rms), finite_or_none(psnr))


def _judge(
    expected: Trajectory, drift: list[StepResult], image: np.ndarray | None, problem: str | None
) -> TrajectoryResult:
    """Judge latents at or above their floor after every step, and the image (3, H, W) at or above its own."""
    decibels = ssim = levels = None
    passed = problem is None and len(drift) == len(expected.latents)
    passed = passed and all(step.holds(expected.latents_floor) for step in drift)
    if image is not None:
        decibels = metrics.psnr(image, expected.image)
        passed = passed and decibels >= expected.image_floor
        measured, reference = to_bytes(image), to_bytes(expected.image)
        ssim = metrics.ssim(measured.transpose(2, 0, 1), reference.transpose(2, 0, 1), 255)
        levels = int(metrics.max_abs(measured, reference))
    return TrajectoryResult(
        **settings(expected),
        drift=tuple(drift),
        image_psnr=None if decibels is None else finite_or_none(decibels),
        image_ssim=ssim,
        image_max_levels=levels,
        problem=problem,
        passed=passed,
    )
