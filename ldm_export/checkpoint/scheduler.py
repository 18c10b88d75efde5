"""diffusers' `scheduler_config.json`: read as a schedule and a sampler, or refused, key by key; and written.

What the file's class does with the file, with its defaults where the file is silent, is what the sampler does: the
tests run both. A setting that is not implemented is refused with its name and value, never approximated; a key that
the class does not take has no effect, as in diffusers (`ldm_export.configs.inert`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ldm_export.configs.inert import require_inert
from ldm_export.errors import ConfigError
from ldm_runtime.checks import shown
from ldm_runtime.errors import FormatError
from ldm_runtime.sampling.schedule import FlowSchedule, NoiseSchedule, Schedule
from ldm_runtime.sampling.solvers import SOLVERS, Sampler
from ldm_runtime.sampling.solvers.options import Choice, Kind, Options, Value, kinds_of, spell

Config = Mapping[str, Any]  # a file
Names = tuple[tuple[Any, Value], ...]  # (in the file, as the option)
Kinds = Mapping[str, Kind]  # a solver's options

# Defaults of a schedule's fields, those of the constructors, unless a class has its own.
_FIELDS: dict[type[Schedule], dict[str, Any]] = {
    NoiseSchedule: {
        "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
        "prediction_type": "epsilon", "timestep_spacing": None, "steps_offset": 0, "set_alpha_to_one": True,
        "rescale_betas_zero_snr": False,
    },
    FlowSchedule: {"num_train_timesteps": 1000, "shift": 1.0, "shift_terminal": None},
}  # fmt: skip

# A key of a class that is not implemented may only be off: None, False, or one of these.
_OFF: dict[str, tuple[Any, ...]] = {
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    "disable_corrector": ([],),
}

# Keys that do nothing in the classes that take them, and parameters of options that are off.
_HARMLESS = {
    "algorithm_type", "solver_type", "flow_shift", "time_shift_type", "clip_sample_range",
    "dynamic_thresholding_ratio", "sample_max_value", "timestep_scaling", "base_shift", "max_shift",
    "base_image_seq_len", "max_image_seq_len",
}  # fmt: skip


@dataclass(frozen=True)
class _Key:
    """A key that has the option's value.

    names: where the file differs from the option; of several names of one value the first is written.
    """

    key: str
    option: str
    names: Names = ()

    def read(self, config: Config, kinds: Kinds) -> dict[str, Value]:
        if self.key not in config:
            return {}
        value, kind = config[self.key], kinds[self.option]
        named = [option for name, option in self.names if _equal(name, value)]
        all_named = isinstance(kind, Choice) and {*kind.names} == {option for _, option in self.names}
        try:
            if all_named and not named:
                raise ValueError(" or ".join(spell(name) for name, _ in self.names))
            return {self.option: named[0] if named else kind.check(value)}
        except ValueError as error:
            raise _refusal(config, self.key, error) from None

    def write(self, options: Options) -> dict[str, Any]:
        value = getattr(options, self.option)
        if value == -math.inf:
            return {}  # no JSON number, and what the class takes without the key
        return {self.key: next((name for name, option in self.names if option == value), value)}


@dataclass(frozen=True)
class _Switch:
    """A key that gives the option one value where it is on."""

    key: str
    option: str
    value: str

    def read(self, config: Config, kinds: Kinds) -> dict[str, Value]:
        return {self.option: self.value} if _is_on(config, self.key) else {}

    def write(self, options: Options) -> dict[str, Any]:
        return {self.key: True} if getattr(options, self.option) == self.value else {}


@dataclass(frozen=True)
class _Parameter:
    """The key of a number that counts only where another key, a switch, is on; where it is off, `zero` is 0."""

    key: str  # the switch
    zero: str
    parameter: str
    option: str
    default: float  # the constructor's

    def read(self, config: Config, kinds: Kinds) -> dict[str, Value]:
        if not _is_on(config, self.key):
            return {}
        try:
            return {self.option: kinds[self.option].check(config.get(self.parameter, self.default))}
        except ValueError as error:
            raise _refusal(config, self.parameter, error) from None

    def write(self, options: Options) -> dict[str, Any]:
        on = getattr(options, self.zero) != 0.0
        return {self.key: True, self.parameter: getattr(options, self.option)} if on else {self.key: False}


def _is_on(config: Config, key: str) -> bool:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise _refusal(config, key, "true or false")
    return value is True


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _refusal(config: Config, key: str, expected: object) -> ConfigError:
    return ConfigError(f"scheduler: {config['_class_name']} has {key} = {shown(config[key])}, expected {expected}")


@dataclass(frozen=True)
class _Class:
    """A scheduler of diffusers: the solver, a row for each of its keys, defaults of its own that matter.

    off: keys that it takes and that are not implemented.
    """

    solver: str
    rows: tuple[_Key | _Switch | _Parameter, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    schedule: type[Schedule] = NoiseSchedule
    off: tuple[str, ...] = ()

    @property
    def kinds(self) -> Kinds:
        return kinds_of(SOLVERS[self.solver].options)

    @property
    def keys(self) -> set[str]:
        """The keys that count here, or would where they are not implemented."""
        parameters = {row.parameter for row in self.rows if isinstance(row, _Parameter)}
        return {*_FIELDS[self.schedule], *(row.key for row in self.rows), *parameters, *self.off}


def _taken_for(value: str, *others: str) -> Names:
    """Return the names of a value: its own, and those that the class takes for it."""
    return tuple((name, value) for name in (value, *others))


_SPREADS = (
    _Switch("use_karras_sigmas", "sigmas", "karras"),
    _Switch("use_exponential_sigmas", "sigmas", "exponential"),
    _Switch("use_beta_sigmas", "sigmas", "beta"),
)
_CLIP = _Parameter("clip_sample", "clip", "clip_sample_range", "clip", 1.0)
_THRESHOLD = (
    _Parameter("thresholding", "threshold", "dynamic_thresholding_ratio", "threshold", 0.995),
    _Parameter("thresholding", "threshold", "sample_max_value", "threshold_max", 1.0),
)
_ORDER = _Key("solver_order", "order")
_LOWER = _Key("lower_order_final", "lower_order_final")
_FINAL = _Key("final_sigmas_type", "final")
_LAMBDA_MIN = _Key("lambda_min_clipped", "lambda_min")
_ORIGINAL_STEPS = _Key("original_inference_steps", "original_steps")
_DPM = (
    *_SPREADS, *_THRESHOLD, _ORDER, _LOWER, _FINAL, _LAMBDA_MIN,
    _Key("algorithm_type", "algorithm", _taken_for("dpmsolver++", "deis")),
    _Key("solver_type", "solver_type", _taken_for("midpoint", "logrho", "bh1", "bh2")),
)  # fmt: skip

# Keys that are not implemented, and must be off. `_BOUNDS` are read by classes whose constructors do not take them:
# diffusers keeps the keys of a file that a class does not know in its config, and sigmas=karras looks there.
_BETAS = ("trained_betas",)
_BOUNDS = (*_BETAS, "sigma_min", "sigma_max")
_FLOW_SIGMAS = (*_BOUNDS, "use_flow_sigmas", "use_dynamic_shifting")

# Other defaults of the constructors than `_FIELDS`.
_NARROW = {"beta_start": 0.00085, "beta_end": 0.012}
_DISTILLED = {**_NARROW, "beta_schedule": "scaled_linear"}

_CLASSES: dict[str, _Class] = {
    "DDPMScheduler": _Class(
        "ddpm",
        (_CLIP, *_THRESHOLD, _Key("variance_type", "variance", _taken_for("fixed_small", "fixed_small_log"))),
        {"clip_sample": True},
        off=_BETAS,
    ),
    "DDIMScheduler": _Class("ddim", (_CLIP, *_THRESHOLD), {"clip_sample": True}, off=_BETAS),
    "PNDMScheduler": _Class(
        "pndm", (_Key("skip_prk_steps", "skip_prk_steps"),), {"set_alpha_to_one": False}, off=_BETAS
    ),
    "LMSDiscreteScheduler": _Class("lms", _SPREADS, off=_BOUNDS),
    "EulerDiscreteScheduler": _Class(
        "euler",
        (
            *_SPREADS, _FINAL, _Key("sigma_min", "sigma_min", ((None, 0.0),)),
            _Key("sigma_max", "sigma_max", ((None, 0.0),)),
        ),
        off=(*_BETAS, "interpolation_type", "timestep_type"),
    ),
    "EulerAncestralDiscreteScheduler": _Class("euler_ancestral", off=_BETAS),
    "HeunDiscreteScheduler": _Class("heun", (*_SPREADS, _CLIP), _NARROW, off=_BOUNDS),
    "KDPM2DiscreteScheduler": _Class("dpm2", _SPREADS, _NARROW, off=_BOUNDS),
    "KDPM2AncestralDiscreteScheduler": _Class("dpm2_ancestral", _SPREADS, _NARROW, off=_BOUNDS),
    "DPMSolverSDEScheduler": _Class("dpmpp_sde", _SPREADS, _NARROW, off=(*_BOUNDS, "noise_sampler_seed")),
    "DPMSolverMultistepScheduler": _Class(
        "dpmsolver",
        (*_DPM, _Switch("use_lu_lambdas", "sigmas", "lu"), _Key("euler_at_final", "euler_at_final")),
        off=(*_FLOW_SIGMAS, "variance_type"),
    ),
    "DPMSolverSinglestepScheduler": _Class("dpmsolver_singlestep", _DPM, off=(*_FLOW_SIGMAS, "variance_type")),
    "DEISMultistepScheduler": _Class("deis", (*_SPREADS, *_THRESHOLD, _ORDER, _LOWER), off=_FLOW_SIGMAS),
    "UniPCMultistepScheduler": _Class(
        "unipc",
        (
            *_SPREADS, *_THRESHOLD, _ORDER, _LOWER, _FINAL,
            _Key("solver_type", "solver_type", _taken_for("bh2", "midpoint", "heun", "logrho")),
            _Key("predict_x0", "predict", ((True, "x0"), (False, "eps"))),
        ),
        off=(*_FLOW_SIGMAS, "disable_corrector", "solver_p", "shift_terminal"),
    ),
    "SASolverScheduler": _Class(
        "sa_solver",
        (
            *_SPREADS, *_THRESHOLD, _LOWER, _LAMBDA_MIN, _Key("predictor_order", "order"),
            _Key("corrector_order", "corrector_order"),
            _Key("algorithm_type", "predict", (("data_prediction", "x0"), ("noise_prediction", "eps"))),
        ),
        off=(*_BOUNDS, "use_flow_sigmas", "tau_func", "variance_type"),
    ),
    "LCMScheduler": _Class(
        "lcm",
        (_CLIP, *_THRESHOLD, _ORIGINAL_STEPS, _Key("timestep_scaling", "timestep_scaling")),
        _DISTILLED,
        off=_BETAS,
    ),
    "TCDScheduler": _Class("tcd", (_ORIGINAL_STEPS,), _DISTILLED, off=(*_BETAS, "clip_sample", "thresholding")),
    "FlowMatchEulerDiscreteScheduler": _Class(
        "flow_euler",
        (*_SPREADS, _Key("stochastic_sampling", "stochastic")),
        schedule=FlowSchedule,
        off=("sigma_min", "sigma_max", "use_dynamic_shifting", "invert_sigmas"),
    ),
}  # fmt: skip
_CLASS_NAMES = {entry.solver: name for name, entry in _CLASSES.items()}
_ALL_KEYS = _HARMLESS.union(*(entry.keys for entry in _CLASSES.values()))


def read_scheduler_config(config: Config) -> tuple[Schedule, Sampler]:
    """Return the schedule and the sampler that the content of a `scheduler_config.json` stands for.

    Raises ConfigError, naming key and value, for another family of schedulers, for what changes the image and is
    not implemented, and for keys that no class takes but that may have been meant.
    """
    class_name = config.get("_class_name")
    if not isinstance(class_name, str) or class_name not in _CLASSES:
        known = ", ".join(sorted(_CLASSES))
        raise ConfigError(f"scheduler: _class_name {shown(class_name)} is not supported; expected one of {known}")
    entry = _CLASSES[class_name]
    effective = {**entry.defaults, **config}
    fields = _FIELDS[entry.schedule]
    for key in effective.keys() & set(entry.off):
        _require_off(class_name, key, effective[key])
    require_inert(config, ignored_options(config), entry.keys | _HARMLESS, f"scheduler: {class_name}")
    if entry.schedule is NoiseSchedule and not SOLVERS[entry.solver].zero_snr:
        effective.pop("rescale_betas_zero_snr", None)  # the class does not take it
    _check_one_spread(entry, effective)
    settings: dict[str, Value] = {}
    for row in entry.rows:
        settings |= row.read(effective, entry.kinds)
    try:
        schedule = entry.schedule(**{key: effective.get(key, default) for key, default in fields.items()})
    except FormatError as fault:
        raise ConfigError(f"scheduler: {class_name}: {fault}", code=fault.code) from None
    return schedule, Sampler(entry.solver, SOLVERS[entry.solver].options(**settings))


def ignored_options(config: Config) -> tuple[str, ...]:
    """Return the keys of a `scheduler_config.json` that no scheduler takes: diffusers ignores them."""
    return tuple(sorted(key for key in config.keys() - _ALL_KEYS if not key.startswith("_")))


def knows_steps_offset(class_name: str) -> bool:
    """Return whether diffusers' scheduler of this name has a `steps_offset`: all that are read here but flow's."""
    return class_name in _CLASSES and "steps_offset" in _FIELDS[_CLASSES[class_name].schedule]


def write_scheduler_config(schedule: Schedule, sampler: Sampler) -> dict[str, Any]:
    """Return a `scheduler_config.json` with which diffusers and optimum open the model, for that sampler.

    Options that diffusers takes at each step (eta, tau) or that no class has (sigmas=ays) are left out.
    """
    class_name = _CLASS_NAMES[sampler.name]
    config: dict[str, Any] = {"_class_name": class_name, **schedule.to_dict()}
    if isinstance(schedule, NoiseSchedule):
        config |= {"trained_betas": None, "clip_sample": False, "thresholding": False}
        if schedule.timestep_spacing is None:
            del config["timestep_spacing"]
    for row in _CLASSES[class_name].rows:
        config |= row.write(sampler.options)
    return config


def _check_one_spread(entry: _Class, config: Config) -> None:
    chosen = [row.key for row in entry.rows if isinstance(row, _Switch) and _is_on(config, row.key)]
    if len(chosen) > 1:
        raise ConfigError(f"scheduler: {' and '.join(chosen)} are both on; expected one of them at most")


def _require_off(class_name: str, key: str, value: Any) -> None:
    """Refuse, by name, a key that may change the image and is not implemented for this class."""
    allowed = (None, False, *_OFF.get(key, ()))
    if not any(_equal(value, other) for other in allowed):
        expected = " or ".join(map(repr, allowed))
        raise ConfigError(
            f"scheduler: {class_name} has {key} = {shown(value)}, which is not supported; expected {expected}"
        )
