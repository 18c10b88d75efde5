"""The noise schedule that a model was trained with, checked against the schedulers of diffusers 0.39.

A schedule holds what belongs to the model; which solver walks it is chosen by the package's `defaults` or by the
user. `ldm_export.checkpoint.scheduler` reads both from a file of diffusers.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import numpy as np

from ldm_runtime.checks import shown, shown_integer
from ldm_runtime.errors import FormatError

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
TIMESTEP_SPACINGS = ("leading", "linspace", "trailing")
SMALLEST_BETA = 1e-8
SMALLEST_SIGNAL = 1e-30  # of alphas_cumprod before any rescaling; divisions by it stay finite


@dataclass(frozen=True)
class NoiseSchedule:
    """Field names are those of diffusers' scheduler configurations; construction checks each (FormatError).

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
                _refuse(name, f"is {shown(getattr(self, name))}; expected true or false")
        for name in ("beta_start", "beta_end"):
            beta = getattr(self, name)
            if isinstance(beta, bool) or not isinstance(beta, int | float) or not SMALLEST_BETA <= beta < 1.0:
                _refuse(name, f"is {shown(beta)}; expected a number from {SMALLEST_BETA:g} to less than 1")
            object.__setattr__(self, name, float(beta))
        if self.beta_start > self.beta_end:
            _refuse("beta_start", f"is {self.beta_start}, above beta_end {self.beta_end}")
        signal = float(np.prod(1.0 - self.betas()))
        if signal < SMALLEST_SIGNAL:
            _refuse(
                "num_train_timesteps",
                f"is {self.num_train_timesteps}, which to beta_end {self.beta_end} leave a signal of {signal:g}; "
                f"expected {SMALLEST_SIGNAL:g} or more: use fewer or smaller betas",
            )

    def betas(self) -> np.ndarray:
        """Return the betas, before any rescaling to zero terminal SNR: float64 (num_train_timesteps,)."""
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
        """Return the product of 1 - beta up to each timestep: float64 (num_train_timesteps,), decreasing.

        With rescale_betas_zero_snr the last is exactly 0 (Lin et al. 2023, arXiv:2305.08891, algorithm 1).
        """
        bars = np.cumprod(1.0 - self.betas())
        if not self.rescale_betas_zero_snr:
            return bars
        root = np.sqrt(bars)
        root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
        return root * root

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a manifest has them."""
        return asdict(self)


@dataclass(frozen=True)
class FlowSchedule:
    """The straight paths of rectified flow: x = (1 - s) * x0 + s * eps, and the model predicts eps - x0.

    The model is told s * num_train_timesteps. shift (of the sigmas, arXiv:2403.03206, equation 23) is 1 for none;
    shift_terminal, if not None, stretches them so that the last is that value. Names are those of diffusers.
    """

    num_train_timesteps: int
    shift: float
    shift_terminal: float | None

    prediction_type = "flow_prediction"

    def __post_init__(self) -> None:
        _check_integer("num_train_timesteps", self.num_train_timesteps, 2, 100_000)
        for name, low, high in (("shift", 1e-3, 1e3), ("shift_terminal", 0.0, 0.999)):
            value = getattr(self, name)
            if name == "shift_terminal" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                _refuse(name, f"is {shown(value)}, expected a number from {low:g} to {high:g}")
            object.__setattr__(self, name, float(value))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a manifest has them."""
        return asdict(self)


Schedule = NoiseSchedule | FlowSchedule


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        _refuse(name, f"is {shown(value)}; expected one of {', '.join(choices)}")


def _check_integer(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        _refuse(name, f"is {shown_integer(value)}; expected an integer from {low} to {high}")


def _refuse(name: str, what: str) -> NoReturn:
    raise FormatError(name, what, "schedule.invalid")
