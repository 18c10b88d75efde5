"""The oracle of the sampling plans: diffusers' schedulers, as shipped (float32) and run in float64."""

import copy
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import diffusers.schedulers as schedulers
import numpy as np
import torch
from diffusers import DDIMScheduler

from ldm_runtime.sampling.plan import Plan
from ldm_runtime.sampling.schedule import NoiseSchedule
from ldm_runtime.sampling.solvers import Sampler, read_sampler

Noise = Callable[[int], torch.Tensor]  # of a row of the plan

SIGMAS = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "beta": "use_beta_sigmas"}
AYS = [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]

CLASSES: dict[str, str] = {
    "ddpm": "DDPMScheduler",
    "ddim": "DDIMScheduler",
    "pndm": "PNDMScheduler",
    "lms": "LMSDiscreteScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpm2": "KDPM2DiscreteScheduler",
    "dpm2_ancestral": "KDPM2AncestralDiscreteScheduler",
    "dpmpp_sde": "DPMSolverSDEScheduler",
    "dpmsolver": "DPMSolverMultistepScheduler",
    "dpmsolver_singlestep": "DPMSolverSinglestepScheduler",
    "deis": "DEISMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "sa_solver": "SASolverScheduler",
    "lcm": "LCMScheduler",
    "tcd": "TCDScheduler",
    "flow_euler": "FlowMatchEulerDiscreteScheduler",
}


def configured(sampler: Sampler) -> dict[str, Any]:
    """A sampler's options as diffusers' configuration of its class."""
    config: dict[str, Any] = {}
    for name, value in vars(sampler.options).items():
        if name == "sigmas":
            config |= {key: value == kind for kind, key in SIGMAS.items()}
            if sampler.name == "dpmsolver":
                config["use_lu_lambdas"] = value == "lu"
        elif name == "final":
            config["final_sigmas_type"] = value
        elif name in ("sigma_min", "sigma_max"):
            config[name] = value or None
        elif name == "order":
            config["predictor_order" if sampler.name == "sa_solver" else "solver_order"] = value
        elif name == "algorithm":
            config["algorithm_type"] = value
        elif name == "variance":
            config["variance_type"] = value
        elif name == "original_steps":
            config["original_inference_steps"] = value
        elif name == "predict" and sampler.name == "unipc":
            config["predict_x0"] = value == "x0"
        elif name == "predict":
            config["algorithm_type"] = "data_prediction" if value == "x0" else "noise_prediction"
        elif name == "tau":
            config["tau_func"] = lambda t, value=value: value if 200 <= t <= 800 else 0
        elif name == "lambda_min":
            config["lambda_min_clipped"] = value
        elif name == "clip":
            config |= {"clip_sample": value > 0.0, "clip_sample_range": value or 1.0}
        elif name == "threshold":
            config |= {"thresholding": value > 0.0, "dynamic_thresholding_ratio": value or 0.995}
        elif name == "threshold_max":
            config["sample_max_value"] = value
        elif name not in ("eta", "reach"):
            config[name] = value  # the same name
    return config


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
    def linspace(start: float, stop: float, num: int, dtype: Any = None, **more: Any) -> np.ndarray:
        grid = np.linspace(start, stop, num, **more)
        return grid if dtype is not np.float64 else grid.astype(np.float32).astype(np.float64)


@cache
def module_of(name: str) -> Any:
    return importlib.import_module(getattr(schedulers, CLASSES[name]).__module__)


@contextmanager
def float64() -> Iterator[None]:
    """Inside, all scheduler modules compute in float64."""
    modules = {module_of(name) for name in CLASSES}
    before = [
        (module, {key: getattr(module, key) for key in ("torch", "np") if hasattr(module, key)}) for module in modules
    ]
    torch.set_default_dtype(torch.float64)
    try:
        for module, kept in before:
            if "torch" in kept:
                module.torch = Float64Torch()
            if "np" in kept:
                module.np = Float64Numpy()
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        for module, kept in before:
            for key, value in kept.items():
                setattr(module, key, value)


def config_of(schedule: NoiseSchedule) -> dict[str, Any]:
    """The schedule as the configuration of a DDIMScheduler, which the other classes are made from."""
    config = {"_class_name": "DDIMScheduler", **schedule.to_dict(), "clip_sample": False}
    if schedule.timestep_spacing is None:
        del config["timestep_spacing"]
    return config


def open_scheduler(schedule: NoiseSchedule, text: str, steps: int) -> Any:
    """diffusers' scheduler of that sampler over the schedule's own configuration, ready for `steps` steps."""
    sampler = read_sampler(text)
    # `set_timesteps` replaces all that a run changes.
    scheduler = copy.copy(_constructed(schedule, sampler, torch.get_default_dtype()))
    if vars(sampler.options).get("sigmas") == "ays":
        scheduler.set_timesteps(timesteps=AYS)
    elif reach := vars(sampler.options).get("reach", 0.0):
        scheduler.set_timesteps(steps, strength=reach)
    else:
        scheduler.set_timesteps(steps)
    return scheduler


@functools.lru_cache(maxsize=8)
def _constructed(schedule: NoiseSchedule, sampler: Sampler, dtype: torch.dtype) -> Any:
    """Construct once for all numbers of steps: reading its configuration takes longer than a short run."""
    cls = getattr(schedulers, CLASSES[sampler.name])
    with few_steps_at_first(cls):
        return _construct(cls, schedule, configured(sampler))


@contextmanager
def few_steps_at_first(cls: Any) -> Iterator[None]:
    """Let schedulers that tabulate all 1000 training steps when they are made, in 0.2 s, tabulate ten.

    `set_timesteps` replaces them by those of the run.
    """
    set_timesteps = cls.set_timesteps
    with mock.patch.object(cls, "set_timesteps", lambda scheduler, *_: set_timesteps(scheduler, 10)):
        yield


def _construct(cls: Any, schedule: NoiseSchedule, config: dict[str, Any]) -> Any:
    if "tau_func" in config:  # a function is no part of a configuration file
        known = inspect.signature(cls.__init__).parameters
        source = {key: value for key, value in config_of(schedule).items() if key in known}
        return cls(**{**source, **config})
    return cls.from_config(DDIMScheduler.from_config(config_of(schedule)).config, **config)


def open_flow(config: dict[str, Any], steps: int) -> Any:
    scheduler = schedulers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, **config)
    scheduler.set_timesteps(steps)
    return scheduler


@dataclass
class Path:
    """A Brownian path in s of which each row's piece is that row's noise: what the tree of torchsde gives."""

    noise: Noise
    row: int = 0
    last: tuple[float, float] | None = None

    def __call__(self, start: torch.Tensor, stop: torch.Tensor) -> torch.Tensor:
        start, stop = float(start), float(stop)
        if self.row % 2 == 0:
            self.last = (start, stop)
            return self.noise(self.row)
        begun, middle = self.last
        assert begun == start
        first = self.noise(self.row - 1) * (begun - middle) ** 0.5
        return (first + self.noise(self.row) * (middle - stop) ** 0.5) / (begun - stop) ** 0.5


@dataclass(frozen=True)
class Taken:
    """One row of a scheduler: the timestep, what the model was given, and x after it."""

    timestep: float
    scaled: torch.Tensor
    after: torch.Tensor


def run(
    scheduler: Any, text: str, x: torch.Tensor, model: Callable[[torch.Tensor, float], torch.Tensor], noise: Noise
) -> Iterator[Taken]:
    """Run a scheduler from x on around a model: (scaled latents, timestep) -> output."""
    yield from _walk(scheduler, text, 0, x, lambda row, scaled, timestep: model(scaled, timestep), noise)


def walk(
    scheduler: Any, text: str, start: int, x: torch.Tensor, outputs: Callable[[int], torch.Tensor], noise: Noise
) -> Iterator[Taken]:
    """Run a scheduler from x on, with these model outputs and this noise for each row."""
    yield from _walk(scheduler, text, start, x, lambda row, scaled, timestep: outputs(row), noise)


def _walk(
    scheduler: Any,
    text: str,
    start: int,
    x: torch.Tensor,
    model: Callable[[int, torch.Tensor, float], torch.Tensor],
    noise: Noise,
) -> Iterator[Taken]:
    sampler = read_sampler(text)
    module = module_of(sampler.name)
    before = getattr(module, "randn_tensor", None)
    first = start * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    path = Path(noise)
    if sampler.name == "dpmpp_sde":
        scheduler.noise_sampler = path
    extra = {name: value for name, value in vars(sampler.options).items() if name == "eta"}
    try:
        for row, timestep in enumerate(scheduler.timesteps[first:]):
            if before is not None:
                module.randn_tensor = lambda *args, row=row, **kwargs: noise(row)
            path.row = row
            scaled = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
            output = model(row, scaled, float(timestep))
            x = scheduler.step(output, timestep, x, **extra).prev_sample
            yield Taken(float(timestep), scaled, x)
    finally:
        if before is not None:
            module.randn_tensor = before


def coefficient_error(plan: Plan, make_scheduler: Callable[[], Any], text: str) -> float:
    """Largest difference of any latent's coefficients from the scheduler's, relative to the latent's largest.

    Timesteps count as far as the model is told them, in thousandths.
    """
    count = len(plan.rows)
    size = 1 + 2 * count
    with float64():
        scheduler = make_scheduler()
        units = torch.eye(size).reshape(size, 1, size, 1, 1)
        taken = list(
            walk(
                scheduler,
                text,
                plan.start,
                units[0],
                lambda row: units[min(1 + row, size - 1)],
                lambda row: units[min(1 + count + row, size - 1)],
            )
        )
        scale = float(scheduler.init_noise_sigma) if hasattr(scheduler, "init_noise_sigma") else 1.0
    if len(taken) == count + 1 and taken[-1].timestep == -1:
        taken.pop()  # 61, 103, … steps trailing: a row too many
    if len(taken) != count:
        return np.inf
    errors = [abs(scale / plan.initial_scale - 1.0)] if plan.start == 0 else []
    basis = np.eye(size)
    state = [basis[0], *([np.zeros(size)] * plan.history)]
    for index, (row, theirs) in enumerate(zip(plan.rows, taken, strict=True)):
        errors.append(abs(theirs.timestep - row.timestep) * 1e-3)
        errors.append(_relative(state[0] * row.input_scale, theirs.scaled))
        columns = [*state, basis[1 + index], *(basis[1 + count + stream] for stream in row.noise_rows)]
        state = [sum(c * column for c, column in zip(line, columns, strict=True)) for line in row.matrix]
        errors.append(_relative(state[0], theirs.after))
    return max(errors)


def _relative(ours: np.ndarray, theirs: torch.Tensor) -> float:
    expected = theirs.numpy().reshape(-1)
    return float(np.abs(ours - expected).max() / max(np.abs(expected).max(), 1e-30))
