"""What a reference has to hold so that its verdicts prove something: each number and array that one depends on.

Its file comes with the package, from anybody. So a floor is one that a build can write, the sampling run is the one of
the facts beside it, and the arrays have the shapes that follow.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ldm_export.precision.table import EXACT, FLOOR_MARGIN, HIGHEST_PSNR
from ldm_runtime.checks import shown
from ldm_runtime.errors import InputError, PackageError
from ldm_runtime.package.manifest import Contract
from ldm_runtime.sampling.plan import compile_plan

if TYPE_CHECKING:
    from ldm_export.verify.reference_file import Case, Facts, Reference, Trajectory

HIGHEST_FLOOR = HIGHEST_PSNR - FLOOR_MARGIN  # dB
HIGHEST_SEED = 2**62  # what is larger is no number that every program reads
SAME_TIMESTEP = 1e-6  # relative: exp and cos differ in the last bits between machines


def check(reference: "Reference", path: Path) -> None:
    """Raise PackageError for a reference that proves nothing, contradicts itself or holds NaN."""
    prompts, trajectory = reference.prompts, reference.trajectory
    for ids in reference.tokens.values():
        if not prompts or ids.ndim != 2 or ids.dtype != np.int64 or len(ids) != len(prompts):
            raise _error(f"{path} is incomplete: it has not one row of tokens per prompt")
    _check_shapes(trajectory, reference.facts, path)
    _check_settings(trajectory, reference.facts, path)
    _check_plan(trajectory, reference.facts, path)
    _check_numbers("trajectory/latents", trajectory.latents, path)
    _check_numbers("trajectory/image", trajectory.image, path)
    for case in reference.cases:
        _check_case(case, path)


def require_complete(reference: "Reference", contract: Contract) -> None:
    """Raise PackageError unless there are cases of every component and tokens of every text encoder.

    Each case has every output that a run reads.
    """
    missing = set(contract.components) - {case.component for case in reference.cases}
    if missing:
        raise _error(f"the reference is incomplete: it has no case of {', '.join(sorted(missing))}")
    if set(reference.tokens) != {text.component for text in contract.text}:
        raise _error("the reference is incomplete: it has not the tokens of every text encoder")
    read = _read_outputs(contract)
    for case in reference.cases:
        tensors = contract.components.get(case.component)
        for output in () if tensors is None else tensors.outputs:
            if (case.component, output.name) in read and output.name not in case.outputs:
                raise _error(
                    f"the reference is incomplete: case {case.component}/{case.name} lacks the output {output.name}"
                )


def _read_outputs(contract: Contract) -> set[tuple[str, str | None]]:
    """Return (component, output) of all that a run reads."""
    codec = contract.codec
    pairs: set[tuple[str, str | None]] = {(half.component, half.output) for half in (codec.encoder, codec.decoder)}
    pairs |= {(text.component, text.output) for text in contract.text}
    pairs |= {(text.component, text.pooled) for text in contract.text}
    return pairs | {(contract.denoiser.component, contract.denoiser.output)}


def _check_shapes(run: "Trajectory", facts: "Facts", path: Path) -> None:
    """Check that there are latents for each timestep, and that they and the image have the run's size."""
    if run.latents.ndim != 4 or not len(run.latents) == len(run.timesteps) > 0:
        raise _error(f"{path} is incomplete: its sampling run has not latents for each of its timesteps")
    width, height = run.size
    factor = facts.latent.downsample
    expected = (3, height, width)
    if run.image.shape != expected:
        raise _error(
            f"{path} contradicts itself: its image has the shape {list(run.image.shape)}, but the size is "
            f"{width}x{height}"
        )
    shape = run.latents.shape
    if shape[1] != facts.latent.channels or (shape[3] * factor, shape[2] * factor) != run.size:
        raise _error(
            f"{path} contradicts itself: its latents have the shape {list(shape)}, but the size is {width}x{height},"
            f" and a latent has {facts.latent.channels} channels at 1/{factor} of it"
        )


def _check_settings(run: "Trajectory", facts: "Facts", path: Path) -> None:
    """Check the numbers of a run, which is one with the package's own defaults."""
    if not 0 <= run.seed <= HIGHEST_SEED:
        raise _error(f"{path}: its sampling run has the seed {run.seed}; expected 0 to {HIGHEST_SEED}")
    if run.guidance != facts.defaults.guidance:
        raise _error(
            f"{path} contradicts itself: its sampling run has guidance {float(run.guidance)}, its defaults have"
            f" {float(facts.defaults.guidance)}"
        )
    floors = (("latents", run.latents_floor, EXACT.latents_floor), ("image", run.image_floor, EXACT.image_floor))
    for name, floor, lowest in floors:
        if not lowest <= floor <= HIGHEST_FLOOR:
            raise _error(
                f"{path}: its sampling run has {name}_floor {float(floor)}; expected {lowest} to {HIGHEST_FLOOR} dB;"
                " build the package again"
            )


def _check_plan(run: "Trajectory", facts: "Facts", path: Path) -> None:
    """Check that the run has the evaluations of the plan that its facts make."""
    if run.steps > len(run.timesteps):  # before a plan of anybody's choice is made
        raise _error(
            f"{path} contradicts itself: its sampling run has latents of {len(run.timesteps)} evaluations, fewer than"
            f" its {run.steps} steps"
        )
    try:
        sampler = facts.defaults.parsed_sampler
        plan = compile_plan(facts.schedule, sampler, run.steps)
    except InputError as error:
        raise _error(f"{path}: its sampling run has no plan: {error}") from error
    if run.sampler != sampler.canonical:
        raise _error(
            f"{path} contradicts itself: its sampling run has the sampler {shown(run.sampler)}, its defaults have"
            f" {shown(sampler.canonical)}"
        )
    if len(plan.rows) != len(run.timesteps):
        raise _error(
            f"{path} contradicts itself: its sampling run has latents of {len(run.timesteps)} evaluations, but"
            f" {run.sampler} with {run.steps} steps makes {len(plan.rows)}"
        )
    for index, (timestep, row) in enumerate(zip(run.timesteps, plan.rows, strict=True)):
        if not math.isclose(timestep, row.timestep, rel_tol=SAME_TIMESTEP, abs_tol=SAME_TIMESTEP):
            raise _error(
                f"{path} contradicts itself: evaluation {index + 1} of its sampling run has the timestep"
                f" {float(timestep)}, in the plan it has {float(row.timestep)}"
            )


def _check_case(case: "Case", path: Path) -> None:
    if not case.inputs or not case.outputs:
        raise _error(f"{path}: case {case.component}/{case.name} has no inputs or no outputs")
    if not 0 < case.tolerance <= EXACT.relative_rms:
        raise _error(
            f"{path}: case {case.component}/{case.name} has the tolerance {float(case.tolerance)}; expected more than"
            f" 0 and at most {EXACT.relative_rms}; build the package again"
        )
    for name, array in case.outputs.items():
        _check_numbers(f"{case.component}/{case.name}/output/{name}", array, path)


def _check_numbers(key: str, array: np.ndarray, path: Path) -> None:
    """Check an array that is compared with: outputs are float32, in which the build compares."""
    if array.dtype != np.float32 or array.size == 0 or not np.isfinite(array).all():
        raise _error(f"{path}: {shown(key)} is empty, not float32, or holds NaN or infinity; build the package again")


def _error(text: str) -> PackageError:
    return PackageError(text, code="proof.invalid")
