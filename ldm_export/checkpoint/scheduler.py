"""diffusers' `scheduler_config.json`: read as a schedule and a sampler, or refused, key by key; and written.

What the file's class does with the file, with its defaults where the file is silent, is what the sampler does: the
tests run both. A setting that is not implemented is refused with its name and value, never approximated.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ldm_runtime.checks import shown
from ldm_runtime.errors import ConfigError
from ldm_runtime.sampling.schedule import FlowSchedule, NoiseSchedule, Schedule
from ldm_runtime.sampling.solvers import SOLVERS, Sampler
from ldm_runtime.sampling.solvers.options import Value

Settings = dict[str, Value]  # options of a sampler
Reader = Callable[[Any, Mapping[str, Any]], Settings]  # (value, the whole file) -> options, or ValueError: expected …

# What a field of a schedule is when the file is silent, unless its class says otherwise: the constructors' defaults.
_FIELDS: dict[type[Schedule], dict[str, Any]] = {
    NoiseSchedule: {
        "num_train_timesteps": 1000,
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "prediction_type": "epsilon",
        "timestep_spacing": None,
        "steps_offset": 0,
        "set_alpha_to_one": True,
        "rescale_betas_zero_snr": False,
    },
    FlowSchedule: {"num_train_timesteps": 1000, "shift": 1.0, "shift_terminal": None},
}

# Keys that change the result where a class has them, and are not implemented there: only these values may stand.
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
    "solver_p": (None,),
    "tau_func": (None,),
    "noise_sampler_seed": (None,),
    "invert_sigmas": (False,),
    "stochastic_sampling": (False,),
}

# Settings that do nothing in a class that does not have them, and parameters of options that are off.
_HARMLESS = {
    "skip_prk_steps", "solver_order", "algorithm_type", "solver_type", "lower_order_final", "euler_at_final",
    "predict_x0", "disable_corrector", "flow_shift", "time_shift_type", "clip_sample_range",
    "dynamic_thresholding_ratio", "sample_max_value", "original_inference_steps", "timestep_scaling",
    "predictor_order", "corrector_order", "steps_offset", "base_shift", "max_shift", "base_image_seq_len",
    "max_image_seq_len",
}  # fmt: skip


@dataclass(frozen=True)
class _Class:
    """A scheduler of diffusers: the solver, how each of its keys is read, defaults of its own that matter."""

    solver: str
    keys: Mapping[str, Reader] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    schedule: type[Schedule] = NoiseSchedule


def read_scheduler_config(config: Mapping[str, Any]) -> tuple[Schedule, Sampler]:
    """The schedule and the sampler that the content of a `scheduler_config.json` stands for.

    Raises ConfigError, naming key and value, for another family of schedulers, for what changes the image and is
    not implemented, and for keys never heard of.
    """
    class_name = config.get("_class_name")
    if not isinstance(class_name, str) or class_name not in _CLASSES:
        known = ", ".join(sorted(_CLASSES))
        raise ConfigError(f"scheduler: _class_name {shown(class_name)} is not supported; expected one of {known}")
    entry = _CLASSES[class_name]
    fields = _FIELDS[entry.schedule]
    effective = {**entry.defaults, **config}
    settings: Settings = {}
    _check_one_spread(effective)
    for key, value in effective.items():
        if key in entry.keys:
            settings |= _read_key(entry, class_name, key, value, effective)
        elif key not in fields:
            _check_foreign(class_name, key, value)
    values = {key: effective.get(key, default) for key, default in fields.items()}
    return entry.schedule(**values), Sampler.of(entry.solver, settings)


def knows_steps_offset(class_name: str) -> bool:
    """Whether diffusers' scheduler of this name has a `steps_offset`: all that are read here but flow's."""
    return class_name in _CLASSES and "steps_offset" in _FIELDS[_CLASSES[class_name].schedule]


def write_scheduler_config(schedule: Schedule, sampler: Sampler) -> dict[str, Any]:
    """A `scheduler_config.json` with which diffusers and optimum open the model, for that sampler where they have it.

    Options that diffusers takes at each step instead of from the file (eta, tau) are left out; so is the sampler
    "ipndm", whose class has no noise schedule: DDIM is written for it.
    """
    if isinstance(schedule, FlowSchedule):
        config = {"_class_name": "FlowMatchEulerDiscreteScheduler", **schedule.to_dict()}
        return config | {"stochastic_sampling": sampler.options["stochastic"]} | _sigma_keys(sampler)
    names = {entry.solver: name for name, entry in _CLASSES.items()}
    class_name = names.get(sampler.name, "DDIMScheduler")
    config = {"_class_name": class_name, **schedule.to_dict(), "trained_betas": None}
    config |= {"clip_sample": False, "thresholding": False}
    if schedule.timestep_spacing is None:
        del config["timestep_spacing"]
    if class_name == "DDIMScheduler" and sampler.name != "ddim":
        return config
    renamed = _RENAMED | ({"order": "predictor_order"} if sampler.name == "sa_solver" else {})
    for name, value in sampler.options.items():
        if name == "clip" and value:
            config |= {"clip_sample": True, "clip_sample_range": value}
        elif name == "threshold" and value:
            config |= {"thresholding": True, "dynamic_thresholding_ratio": value}
        elif name in ("sigma_min", "sigma_max"):
            config[name] = value or None
        elif name == "predict":
            noise = {"predict_x0": value == "x0"}
            kinds = {"algorithm_type": "data_prediction" if value == "x0" else "noise_prediction"}
            config |= noise if sampler.name == "unipc" else kinds
        elif name == "corrector_off":
            config["disable_corrector"] = _step_numbers(str(value), schedule.num_train_timesteps)
        elif name == "lambda_min":
            if value != -math.inf:  # no JSON number; the default of the class
                config["lambda_min_clipped"] = value
        elif name not in ("clip", "threshold", "sigmas", "eta", "tau"):
            config[renamed.get(name, name)] = value
    return config | _sigma_keys(sampler)


_RENAMED = {
    "order": "solver_order",
    "algorithm": "algorithm_type",
    "variance": "variance_type",
    "original_steps": "original_inference_steps",
    "final": "final_sigmas_type",
    "threshold_max": "sample_max_value",
}


def _step_numbers(text: str, most: int) -> list[int]:
    if text in ("none", "all"):
        return list(range(most)) if text == "all" else []
    return [int(number) for number in text.split("+")]


def _sigma_keys(sampler: Sampler) -> dict[str, Any]:
    chosen = sampler.options.get("sigmas", "default")
    keys = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "beta": "use_beta_sigmas"}
    keys |= {"lu": "use_lu_lambdas"}
    return {keys[str(chosen)]: True} if chosen in keys else {}


# --- how keys are read ---


def _same(option: str, words: Mapping[str, str] | None = None) -> Reader:
    """The option has the key's value; words: what the class takes one value for."""

    def read(value: Any, config: Mapping[str, Any]) -> Settings:
        return {option: (words or {}).get(value, value) if isinstance(value, str) else value}

    return read


def _sigmas(kind: str) -> Reader:
    return lambda value, config: {"sigmas": kind} if value else {}


def _optional(option: str) -> Reader:
    return lambda value, config: {} if value is None else {option: value}


def _clip(value: Any, config: Mapping[str, Any]) -> Settings:
    return {"clip": config.get("clip_sample_range", 1.0)} if value else {}


def _threshold(value: Any, config: Mapping[str, Any]) -> Settings:
    if not value:
        return {}
    ratio, most = config.get("dynamic_thresholding_ratio", 0.995), config.get("sample_max_value", 1.0)
    return {"threshold": ratio, "threshold_max": most}


def _predict(value: Any, config: Mapping[str, Any]) -> Settings:
    if not isinstance(value, bool | str):
        raise ValueError("true or false, or data_prediction or noise_prediction")
    return {"predict": {True: "x0", False: "eps", "data_prediction": "x0", "noise_prediction": "eps"}.get(value, value)}


def _steps(value: Any, config: Mapping[str, Any]) -> Settings:
    if not isinstance(value, list) or not all(type(step) is int and step >= 0 for step in value):
        raise ValueError("a list of steps, counted from 0")
    most = config.get("num_train_timesteps")
    if type(most) is int and 0 < most <= len(value) and set(value) >= set(range(most)):
        return {"corrector_off": "all"}
    return {"corrector_off": "+".join(map(str, value)) or "none"}


_K: dict[str, Reader] = {
    "use_karras_sigmas": _sigmas("karras"),
    "use_exponential_sigmas": _sigmas("exponential"),
    "use_beta_sigmas": _sigmas("beta"),
}
_THRESHOLD: dict[str, Reader] = {"thresholding": _threshold}
_CLIP: dict[str, Reader] = {"clip_sample": _clip}
_MIDPOINT = _same("solver_type", {"logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"})
_DPM: dict[str, Reader] = {
    **_K,
    **_THRESHOLD,
    "solver_order": _same("order"),
    "algorithm_type": _same("algorithm", {"deis": "dpmsolver++"}),
    "solver_type": _MIDPOINT,
    "lower_order_final": _same("lower_order_final"),
    "final_sigmas_type": _same("final"),
    "lambda_min_clipped": _same("lambda_min"),
}

# Other defaults of the constructors than `_FIELDS`.
_NARROW = {"beta_start": 0.00085, "beta_end": 0.012}
_DISTILLED = {**_NARROW, "beta_schedule": "scaled_linear"}

_CLASSES: dict[str, _Class] = {
    "DDPMScheduler": _Class(
        "ddpm",
        {**_CLIP, **_THRESHOLD, "variance_type": _same("variance", {"fixed_small_log": "fixed_small"})},
        {"clip_sample": True},
    ),
    "DDIMScheduler": _Class("ddim", {**_CLIP, **_THRESHOLD}, {"clip_sample": True}),
    "PNDMScheduler": _Class("pndm", {"skip_prk_steps": _same("skip_prk_steps")}, {"set_alpha_to_one": False}),
    "LMSDiscreteScheduler": _Class("lms", _K),
    "EulerDiscreteScheduler": _Class(
        "euler",
        {
            **_K,
            "final_sigmas_type": _same("final"),
            "sigma_min": _optional("sigma_min"),
            "sigma_max": _optional("sigma_max"),
        },
    ),
    "EulerAncestralDiscreteScheduler": _Class("euler_ancestral"),
    "HeunDiscreteScheduler": _Class("heun", {**_K, **_CLIP}, _NARROW),
    "KDPM2DiscreteScheduler": _Class("dpm2", _K, _NARROW),
    "KDPM2AncestralDiscreteScheduler": _Class("dpm2_ancestral", _K, _NARROW),
    "DPMSolverSDEScheduler": _Class("dpmpp_sde", _K, _NARROW),
    "DPMSolverMultistepScheduler": _Class(
        "dpmsolver", {**_DPM, "use_lu_lambdas": _sigmas("lu"), "euler_at_final": _same("euler_at_final")}
    ),
    "DPMSolverSinglestepScheduler": _Class("dpmsolver_singlestep", _DPM),
    "DEISMultistepScheduler": _Class(
        "deis",
        {**_K, **_THRESHOLD, "solver_order": _same("order"), "lower_order_final": _same("lower_order_final")},
    ),
    "UniPCMultistepScheduler": _Class(
        "unipc",
        {
            **_K,
            **_THRESHOLD,
            "solver_order": _same("order"),
            "solver_type": _same("solver_type", {"midpoint": "bh2", "heun": "bh2", "logrho": "bh2"}),
            "predict_x0": _predict,
            "lower_order_final": _same("lower_order_final"),
            "disable_corrector": _steps,
            "final_sigmas_type": _same("final"),
        },
    ),
    "SASolverScheduler": _Class(
        "sa_solver",
        {
            **_K,
            **_THRESHOLD,
            "predictor_order": _same("order"),
            "corrector_order": _same("corrector_order"),
            "algorithm_type": _predict,
            "lower_order_final": _same("lower_order_final"),
            "lambda_min_clipped": _same("lambda_min"),
        },
    ),
    "LCMScheduler": _Class(
        "lcm",
        {
            **_CLIP,
            **_THRESHOLD,
            "original_inference_steps": _same("original_steps"),
            "timestep_scaling": _same("timestep_scaling"),
        },
        _DISTILLED,
    ),
    "TCDScheduler": _Class("tcd", {"original_inference_steps": _same("original_steps")}, _DISTILLED),
    "FlowMatchEulerDiscreteScheduler": _Class(
        "flow_euler", {**_K, "stochastic_sampling": _same("stochastic")}, schedule=FlowSchedule
    ),
}


def _read_key(entry: _Class, class_name: str, key: str, value: Any, config: Mapping[str, Any]) -> Settings:
    """The options that a key sets, each checked by its kind."""
    checked: Settings = {}
    try:
        for name, setting in entry.keys[key](value, config).items():
            checked[name] = SOLVERS[entry.solver].options[name].read(_text(setting))
    except ValueError as error:
        raise ConfigError(f"scheduler: {class_name} has {key} = {shown(value)}, expected {error}") from None
    return checked


def _check_one_spread(config: Mapping[str, Any]) -> None:
    chosen = [key for key in (*_K, "use_lu_lambdas") if config.get(key)]
    if len(chosen) > 1:
        raise ConfigError(f"scheduler: {' and '.join(chosen)} are both on; expected one of them at most")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, int | float) else str(value)


def _check_foreign(class_name: str, key: str, value: Any) -> None:
    """Refuse, by name, a key that may change the image and is not implemented for this class."""
    if key in _HARMLESS or key.startswith("_"):
        return
    allowed = _ONLY.get(key, (None, False))  # an unknown key that is off has no effect
    if not any(type(value) is type(other) and value == other for other in allowed):
        known = "is not supported" if key in _ONLY else "is not known here"
        expected = " or ".join(map(repr, allowed))
        name = key if len(key) <= 60 else key[:57] + "..."
        raise ConfigError(f"scheduler: {class_name} has {name} = {shown(value)}, which {known}; expected {expected}")
