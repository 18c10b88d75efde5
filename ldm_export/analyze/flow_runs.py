"""Runs of a model's probability flow by the runtime: from noise to latents by a deterministic sampler."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ldm_export.analyze.subject import Subject
from ldm_runtime.engines.choice import choose
from ldm_runtime.errors import InputError
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.open import Package
from ldm_runtime.pipeline import Pipeline
from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.sampling.schedule import NoiseSchedule
from ldm_runtime.sampling.solvers import read_sampler


def flow_pipeline(subject: Subject) -> Pipeline:
    """Return a pipeline on the subject's engines, whose steps begin at the last timestep however few they are.

    It belongs to the subject's own: do not close it.
    """
    package = subject.pipe.package
    contract = package.manifest.contract
    if isinstance(contract.schedule, NoiseSchedule):
        contract = replace(contract, schedule=replace(contract.schedule, timestep_spacing="trailing"))
    manifest = replace(package.manifest, contract=contract)
    same = Package(package.path, manifest, package.identity, "size")
    return Pipeline(same, choose("auto"), engines=subject.pipe.engines)


def euler_of(contract: Contract) -> str:
    """Return the sampler that follows the flow by Euler's method in the scaling of `flow_path`."""
    return "ddim" if isinstance(contract.schedule, NoiseSchedule) else "flow_euler"


def plain_guidance(contract: Contract) -> float:
    """Return the guidance scale of the model's own flow: 1, but for a model that reads the scale as an input."""
    return contract.defaults.guidance if contract.embeds_guidance else 1.0


def is_deterministic(contract: Contract, sampler: str) -> bool:
    """Return whether a sampler reads no noise but the first, so that it follows the flow."""
    try:
        plan = compile_plan(contract.schedule, read_sampler(sampler), 4)
    except InputError:
        return False
    return not any(row.noise_rows for row in plan.rows)


def even_steps(contract: Contract, wanted: Sequence[int]) -> list[int]:
    """Return numbers of steps near those wanted that divide the training steps, rising: DDIM's are then even."""
    total = contract.schedule.num_train_timesteps
    divisors = [count for count in range(1, total + 1) if total % count == 0]
    return sorted({min(divisors, key=lambda divisor: abs(math.log(divisor / count))) for count in wanted})


def flow_times(contract: Contract, steps: int) -> np.ndarray:
    """Return the times of a path's points, (steps + 1,)."""
    rows = compile_plan(contract.schedule, read_sampler(euler_of(contract)), steps).rows
    first = rows[0].sigma / (rows[0].alpha + rows[0].sigma)
    return np.array([first, *(row.sigma_next / (row.alpha_next + row.sigma_next) for row in rows)])


def follow(pipe: Pipeline, prompts: Sequence[str], noise: np.ndarray, steps: int, guidance: float) -> np.ndarray:
    """Follow the flow from unit noise (B, C, h, w): points of paths (B, steps + 1, D), latents last."""
    points: list[np.ndarray] = []
    sampler = euler_of(pipe.contract)
    for step in pipe.sample(
        list(prompts), latents=noise, steps=steps, guidance=guidance, sampler=sampler, seed=0
    ).evaluations():
        row = step.row
        if not points:
            points.append(step.before / np.float32(row.alpha + row.sigma))
        points.append(step.latents / np.float32(row.alpha_next + row.sigma_next))
    return np.stack(points, axis=1).reshape(len(noise), len(points), -1)


def result(
    pipe: Pipeline, prompts: Sequence[str], noise: np.ndarray, steps: int, sampler: str, guidance: float
) -> np.ndarray:
    """Return the latents (B, C, h, w) that a sampler draws in so many steps."""
    *_, last = pipe.sample(list(prompts), latents=noise, steps=steps, guidance=guidance, sampler=sampler, seed=0)
    return last.latents
