"""The oracle of the sampling plans: diffusers' schedulers, as shipped (float32) and run in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    scheduling_ddim,
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_euler_discrete,
)

from ldm_runtime.schedule import NoiseSchedule

CLASSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
}
MODULES = (
    scheduling_ddim,
    scheduling_euler_discrete,
    scheduling_euler_ancestral_discrete,
    scheduling_dpmsolver_multistep,
)


class Float64Torch:
    """torch whose float32 is float64: what these modules compute with it is float64 throughout."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


class Float64Numpy:
    """numpy whose float32 is float64; timesteps made by linspace keep their rounding to float32."""

    float32 = np.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def linspace(start: float, stop: float, count: int, dtype: Any = None) -> np.ndarray:
        grid = np.linspace(start, stop, count)
        return grid if dtype is None else grid.astype(np.float32).astype(np.float64)


def run_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test ends, the four scheduler modules compute in float64."""
    for module in MODULES:
        monkeypatch.setattr(module, "torch", Float64Torch())
        monkeypatch.setattr(module, "np", Float64Numpy())


def open_scheduler(schedule: NoiseSchedule, sampler: str, steps: int) -> Any:
    """diffusers' scheduler of that name over the schedule's own configuration, ready for `steps` steps."""
    cls, options = CLASSES[sampler]
    source = DDIMScheduler.from_config(schedule.to_scheduler_config())
    scheduler = cls.from_config(source.config, **options)
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    return scheduler


def initial_scale(scheduler: Any) -> float:
    return float(scheduler.init_noise_sigma)


def take_step(
    monkeypatch: pytest.MonkeyPatch,
    scheduler: Any,
    row: int,
    x: torch.Tensor,
    output: torch.Tensor,
    noise: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One row: (the model's input for x, x after it), with `noise` where the scheduler draws its own."""
    monkeypatch.setattr(scheduling_euler_ancestral_discrete, "randn_tensor", lambda *args, **kwargs: noise)
    timestep = scheduler.timesteps[row]
    scaled = scheduler.scale_model_input(x, timestep)
    return scaled, scheduler.step(output, timestep, x).prev_sample


def previous_x0(scheduler: Any) -> torch.Tensor:
    """What DPM-Solver++ remembers after a step."""
    return scheduler.model_outputs[-1]
