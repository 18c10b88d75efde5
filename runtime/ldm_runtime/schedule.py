"""The noise schedule that a model was trained with, checked against the schedulers of diffusers 0.39.

A `NoiseSchedule` holds what belongs to the model; which solver walks it is chosen by the package's `defaults`
or by the user, never by the schedule. A diffusers `scheduler_config.json` is honoured or refused, key by key.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ldm_runtime.errors import ConfigError

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
TIMESTEP_SPACINGS = ("leading", "linspace", "trailing")
SMALLEST_BETA = 1e-8
SMALLEST_SIGNAL = 1e-30  # of alphas_cumprod before any rescaling; divisions by it stay finite


@dataclass(frozen=True)
class NoiseSchedule:
    """Field names are those of diffusers' scheduler configurations; construction checks each (ConfigError).

    timestep_spacing None means "each sampler's own" (ddim: leading, the others: linspace). That is what
    diffusers does with a configuration that does not name one; those of Stable Diffusion 1.x and 2.x do not.
    """

    num_train_timesteps: int
    beta_start: float
    beta_end: float
    beta_schedule: str
    prediction_type: str
    timestep_spacing: str | None
    steps_offset: int
    set_alpha_to_one: bool
    rescale_betas_zero_snr: bool

    def __post_init__(self) -> None:
        _check_integer("num_train_timesteps", self.num_train_timesteps, 2, 100_000)
        _check_integer("steps_offset", self.steps_offset, 0, self.num_train_timesteps - 1)
        _check_choice("beta_schedule", self.beta_schedule, BETA_SCHEDULES)
        _check_choice("prediction_type", self.prediction_type, PREDICTION_TYPES)
        if self.timestep_spacing is not None:
            _check_choice("timestep_spacing", self.timestep_spacing, TIMESTEP_SPACINGS)
        for name in ("set_alpha_to_one", "rescale_betas_zero_snr"):
            if type(getattr(self, name)) is not bool:
                raise ConfigError(f"schedule: {name} is {getattr(self, name)!r}, expected true or false")
        for name in ("beta_start", "beta_end"):
            beta = getattr(self, name)
            if isinstance(beta, bool) or not isinstance(beta, int | float) or not SMALLEST_BETA <= beta < 1.0:
                raise ConfigError(f"schedule: {name} is {beta!r}, expected a number from {SMALLEST_BETA:g} to 1")
            object.__setattr__(self, name, float(beta))
        if self.beta_start > self.beta_end:
            raise ConfigError(f"schedule: beta_start {self.beta_start} is above beta_end {self.beta_end}")
        signal = float(np.prod(1.0 - self.betas()))
        if signal < SMALLEST_SIGNAL:
            raise ConfigError(
                f"schedule: num_train_timesteps {self.num_train_timesteps} to beta_end {self.beta_end} leave"
                f" a signal of {signal:.3g}, expected {SMALLEST_SIGNAL:g} or more; use fewer or smaller betas"
            )

    def betas(self) -> np.ndarray:
        """float64 (num_train_timesteps,), before any rescaling to zero terminal SNR."""
        count = self.num_train_timesteps
        if self.beta_schedule == "squaredcos_cap_v2":
            bars = [math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)]
            return np.array([min(1.0 - bars[i + 1] / bars[i], 0.999) for i in range(count)])
        index = np.arange(count, dtype=np.float64)
        if self.beta_schedule == "linear":
            return self.beta_start + index * ((self.beta_end - self.beta_start) / (count - 1))
        start, end = math.sqrt(self.beta_start), math.sqrt(self.beta_end)
        root = start + index * ((end - start) / (count - 1))
        return root * root

    def alphas_cumprod(self) -> np.ndarray:
        """Product of 1 - beta up to each timestep: float64 (num_train_timesteps,), decreasing.

        With rescale_betas_zero_snr the last is exactly 0 (Lin et al. 2023, arXiv:2305.08891, algorithm 1).
        """
        bars = np.cumprod(1.0 - self.betas())
        if not self.rescale_betas_zero_snr:
            return bars
        root = np.sqrt(bars)
        root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
        return root * root

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a manifest; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NoiseSchedule":
        """Exactly the fields of the class, each with its type; anything else is a ConfigError."""
        names = {field.name for field in fields(cls)}
        if missing := sorted(names - values.keys()):
            raise ConfigError(f"schedule: missing {', '.join(missing)}")
        if unknown := sorted(values.keys() - names):
            raise ConfigError(f"schedule: unknown {', '.join(unknown)}; expected {', '.join(sorted(names))}")
        return cls(**values)

    def to_scheduler_config(self) -> dict[str, Any]:
        """The `scheduler_config.json` of a DDIMScheduler, with which diffusers and optimum open the model."""
        config: dict[str, Any] = {"_class_name": "DDIMScheduler", **self.to_dict()}
        config |= {"trained_betas": None, "clip_sample": False, "thresholding": False}
        if self.timestep_spacing is None:
            del config["timestep_spacing"]
        return config

    @classmethod
    def from_scheduler_config(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
        """Read the content of a diffusers `scheduler_config.json`.

        The class named there says which defaults apply; its solver settings (solver_order, skip_prk_steps, …)
        are not part of the schedule. ConfigError, naming key and value, for what changes the image and is not
        implemented: another family of schedulers, clipping, thresholding, trained betas, learned variance,
        other sigma spacings, keys never heard of.
        """
        class_name = config.get("_class_name")
        if not isinstance(class_name, str) or class_name not in _CLASSES:
            known = ", ".join(sorted(_CLASSES))
            raise ConfigError(f"scheduler: _class_name {class_name!r} is not supported; expected one of {known}")
        effective = {**_CLASSES[class_name], **config}
        for key, value in effective.items():
            _check_key(class_name, key, value)
        if missing := [key for key in _REQUIRED if effective.get(key) is None]:
            raise ConfigError(f"scheduler: {class_name} lacks {', '.join(missing)}; the noise schedule is not guessed")
        return cls(**{key: effective.get(key, default) for key, default in _FIELDS.items()})


def default_sampler(config: Mapping[str, Any]) -> str:
    """The sampler to put into a package's `defaults` for a diffusers scheduler configuration.

    DDIM, Euler, Euler ancestral and DPM-Solver++ 2M (plain, Karras) are answered by name. For any other
    solver the answer is "dpmpp_2m", which walks the same schedule but is *not* the solver that the file
    names: the default sampler is a choice of the package, readable in its manifest.
    """
    class_name = config.get("_class_name")
    if class_name in _EXACT_SAMPLERS:
        return _EXACT_SAMPLERS[class_name]
    if class_name == "DPMSolverMultistepScheduler" and config.get("use_karras_sigmas") is True:
        return "dpmpp_2m_karras"
    return "dpmpp_2m"


_REQUIRED = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")

# What a field is when the file is silent: the default of DDIMScheduler, as `DDIMScheduler.from_config` gives.
_FIELDS: dict[str, Any] = {
    "num_train_timesteps": None,
    "beta_start": None,
    "beta_end": None,
    "beta_schedule": None,
    "prediction_type": "epsilon",
    "timestep_spacing": None,
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "rescale_betas_zero_snr": False,
}

# The classes whose schedule is a NoiseSchedule, with defaults that we do not implement and so must see.
_CLASSES: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"clip_sample": True},
    "DDPMScheduler": {"clip_sample": True},
    "DEISMultistepScheduler": {},
    "DPMSolverMultistepScheduler": {},
    "DPMSolverSDEScheduler": {},
    "DPMSolverSinglestepScheduler": {},
    "EulerAncestralDiscreteScheduler": {},
    "EulerDiscreteScheduler": {},
    "HeunDiscreteScheduler": {},
    "KDPM2AncestralDiscreteScheduler": {},
    "KDPM2DiscreteScheduler": {},
    "LMSDiscreteScheduler": {},
    "PNDMScheduler": {},
    "UniPCMultistepScheduler": {},
}

_EXACT_SAMPLERS = {
    "DDIMScheduler": "ddim",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
}

# Keys that change the result and are not implemented: only these values may stand there.
_ONLY: dict[str, tuple[Any, ...]] = {
    "trained_betas": (None,),
    "clip_sample": (False,),
    "thresholding": (False,),
    "use_karras_sigmas": (False, None),
    "use_exponential_sigmas": (False, None),
    "use_beta_sigmas": (False, None),
    "use_lu_lambdas": (False,),
    "use_flow_sigmas": (False,),
    "use_dynamic_shifting": (False,),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "final_sigmas_type": ("zero",),
    "sigma_min": (None,),
    "sigma_max": (None,),
    "shift_terminal": (None,),
    "lambda_min_clipped": (-math.inf,),
    "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
}

# Settings of the solver that the file names, and parameters of options that `_ONLY` keeps off.
_SOLVER_KEYS = {
    "skip_prk_steps", "solver_order", "algorithm_type", "solver_type", "lower_order_final", "euler_at_final",
    "predict_x0", "disable_corrector", "solver_p", "noise_sampler_seed", "flow_shift", "time_shift_type",
    "clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value",
}  # fmt: skip


def _check_key(class_name: str, key: str, value: Any) -> None:
    """Refuse, by name, a key of a scheduler configuration that changes the image and is not implemented."""
    if key in _FIELDS or key in _SOLVER_KEYS or key.startswith("_"):
        return
    if key == "use_karras_sigmas" and class_name == "DPMSolverMultistepScheduler":
        return  # a sampler of ours, see default_sampler
    allowed = _ONLY.get(key, (None, False))  # an unknown key that is off has no effect
    if not any(type(value) is type(other) and value == other for other in allowed):
        known = "is not supported" if key in _ONLY else "is not known here"
        expected = " or ".join(map(repr, allowed))
        raise ConfigError(f"scheduler: {class_name} has {key} = {value!r}, which {known}; expected {expected}")


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"schedule: {name} {value!r} is not supported; expected one of {', '.join(choices)}")


def _check_integer(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"schedule: {name} is {value!r}, expected a whole number from {low} to {high}")
