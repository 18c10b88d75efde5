"""Samplers, schedules and options whose plans are compared with diffusers' schedulers."""

import dataclasses
import itertools
from typing import Any

import pytest

from ldm_runtime.sampling.plan import Plan
from ldm_runtime.sampling.schedule import FlowSchedule, NoiseSchedule
from ldm_runtime.sampling.solvers import SOLVERS, read_sampler
from tests.runtime.sampling import diffusers_schedulers as oracle
from tests.runtime.sampling.compiled import compiled

SD15 = NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon", None, 1, False, False)
SHORT = dataclasses.replace(SD15, num_train_timesteps=100, beta_end=0.1)
STEPS = (1, 2, 3, 4, 10)
SLOW = pytest.mark.slow
# Every solver, and of what options make of one: PLMS, and sigma schedules by each way to choose levels.
DIFFUSION = [
    *(name for name in SOLVERS if name != "flow_euler"),
    "plms", "euler_karras", "dpm2_karras", "dpmpp_2m_sde_karras",
]  # fmt: skip
QUICK_FIRST = [name if name in SOLVERS else pytest.param(name, marks=SLOW) for name in DIFFUSION]
FLOW = FlowSchedule(1000, 3.0, None)
CHANGES = {
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "steps_offset": 2,
    "set_alpha_to_one": True,
    "rescale_betas_zero_snr": True,
    "beta_end": 0.0121,
    "beta_schedule": "linear",
    "num_train_timesteps": 999,
}

# Of tests that open schedulers of diffusers.
OF_DIFFUSERS = [
    pytest.mark.usefixtures("quiet"),
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),  # numpy 2, inside diffusers
    pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning"),
]


def accepted(text: str, schedule: NoiseSchedule) -> bool:
    """Whether the sampler takes such a model at all, and has something to compare with."""
    solver = read_sampler(text).solver
    if schedule.prediction_type not in solver.predictions or (schedule.rescale_betas_zero_snr and not solver.zero_snr):
        return False
    divides = read_sampler(text).name in ("ddim", "ddpm", "lcm", "tcd") and schedule.prediction_type == "epsilon"
    return not (divides and schedule.rescale_betas_zero_snr)  # infinities there, which we refuse


def coefficient_error(
    schedule: Any, text: str, steps: int, start: int = 0, *, plan: Plan | None = None, against: str | None = None
) -> float:
    """See the oracle's: of this sampler's plan, or of `plan`, from its scheduler, or from that of `against`."""
    plan = compiled(schedule, text, steps, start) if plan is None else plan
    other = text if against is None else against
    return oracle.coefficient_error(plan, lambda: oracle.open_scheduler(schedule, other, steps), other)


def variants() -> list[str]:
    """Every option of every solver, alone and where it meets others."""
    texts = ["ddpm:variance=fixed_large", "ddim:eta=0.7", "ddim:eta=1", "euler:final=sigma_min"]
    texts += ["euler:sigmas=karras,sigma_min=0.1,sigma_max=10", "euler:sigmas=beta,sigma_max=9"]
    texts += ["lcm:original_steps=100", "lcm:timestep_scaling=5", "tcd:eta=0.3", "tcd:eta=1", "tcd:original_steps=25"]
    texts += ["lcm:reach=1", "lcm:original_steps=90,reach=0.667"]
    spreads = ("karras", "exponential", "beta")
    for solver in ("lms", "euler", "heun", "dpm2", "dpm2_ancestral", "dpmpp_sde"):
        texts += [f"{solver}:sigmas={kind}" for kind in spreads]
    for order, final in itertools.product((1, 2, 3), ("zero", "sigma_min")):
        for algorithm, kind in itertools.product(
            ("dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"), ("midpoint", "heun")
        ):
            if final == "zero" and not algorithm.endswith("++"):
                continue
            options = f"order={order},algorithm={algorithm},solver_type={kind},final={final}"
            if (algorithm, order) != ("sde-dpmsolver", 3):
                texts.append(f"dpmsolver:{options}")
            if algorithm != "sde-dpmsolver":
                texts += [f"dpmsolver_singlestep:{options}", f"dpmsolver_singlestep:{options},lower_order_final=true"]
        for kind, predict in itertools.product(("bh1", "bh2"), ("x0", "eps")):
            if final == "zero" and predict == "eps":
                continue
            options = f"order={order},solver_type={kind},predict={predict},final={final}"
            texts.append(f"unipc:{options}")
            if final != "zero":
                texts.append(f"unipc:{options},lower_order_final=false")
    for order in (1, 2, 3):
        for kind in spreads:
            texts += [f"{solver}:order={order},sigmas={kind}" for solver in ("deis", "unipc", "sa_solver")]
            texts += [f"dpmsolver:order={order},sigmas={kind}", f"dpmsolver_singlestep:order={order},sigmas={kind}"]
            texts.append(f"unipc:order={order},sigmas={kind},final=sigma_min")
        texts += [f"deis:order={order}", f"deis:order={order},lower_order_final=false"]
        texts.append(f"dpmsolver:order={order},final=sigma_min,lower_order_final=false")
        texts.append(f"dpmsolver:order={order},final=sigma_min,euler_at_final=true")
        for corrector, predict in itertools.product((1, 2, 3, 4), ("x0", "eps")):
            options = f"order={order},corrector_order={corrector},predict={predict}"
            texts += [f"sa_solver:{options}", f"sa_solver:{options},tau=0.5,lower_order_final=false"]
    texts += ["dpmsolver:sigmas=lu", "dpmsolver:lambda_min=-2", "dpmsolver_singlestep:lambda_min=-2"]
    return [*texts, "sa_solver:lambda_min=-2", "sa_solver:order=4,corrector_order=4", "unipc:order=4"]
