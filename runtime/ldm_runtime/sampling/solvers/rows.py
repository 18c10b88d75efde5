"""Rows of a sampling plan, and how a solver makes them out of linear forms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.solvers.forms import NOTHING, Form, Symbol


@dataclass(frozen=True)
class Level:
    """A noise level: x = alpha * x0 + sigma * eps. timestep: what the model is told there."""

    timestep: float
    alpha: float
    sigma: float

    @property
    def ratio(self) -> float:
        """sigma / alpha; infinite without signal."""
        return self.sigma / self.alpha if self.alpha > 0.0 else math.inf

    @property
    def log_snr(self) -> float:
        """ln(alpha / sigma), the lambda of DPM-Solver; infinite without noise."""
        return -math.log(self.ratio) if self.sigma > 0.0 else math.inf


def level_of_ratio(timestep: float, ratio: float) -> Level:
    """Return the variance-preserving level with sigma / alpha = ratio."""
    alpha = 1.0 / math.sqrt(ratio * ratio + 1.0)
    return Level(timestep, alpha, ratio * alpha)


def level_of_bar(timestep: float, bar: float) -> Level:
    """Return the variance-preserving level with alphas_cumprod = bar."""
    return Level(timestep, math.sqrt(bar), math.sqrt(1.0 - bar))


@dataclass(frozen=True)
class PlanRow:
    """One model evaluation; alpha, sigma: the noise level at `timestep`; _next: after the row."""

    timestep: float
    input_scale: float  # the model sees input_scale * x
    alpha: float
    sigma: float
    alpha_next: float
    sigma_next: float
    data_x: float  # the predicted image is x0 = data_x * x + data_output * output
    data_output: float
    matrix: np.ndarray  # float64 (1 + history, 1 + history + 1 + len(noise_rows)), with a hook one column more
    noise_rows: tuple[int, ...]  # plan rows whose noise stream is read, one per noise column
    ends_step: bool  # whether x is now where the sampling step leads; False: the step has more evaluations


@dataclass(frozen=True)
class Reading:
    """What a row reads, as linear forms. x0: clipped, where the plan has a hook; eps: of the raw output."""

    level: Level
    scale: float
    x: Form
    history: tuple[Form, ...]
    output: Form
    x0: Form
    eps: Form
    data: tuple[float, float]
    hooked: bool

    @property
    def eps_of_x0(self) -> Form:
        """eps; with a hook, that of the clipped x0."""
        return (self.scale * self.x - self.level.alpha * self.x0) / self.level.sigma if self.hooked else self.eps


class Rows:
    """The rows of a plan in the making: `read` at a noise level, compute with forms, `write`.

    The state is x and `history` more tensors, zeros at the start. scale: the model sees scale * x, the
    variance-preserving latent. hooked: x0 comes clipped from the loop, as a column of its own.
    """

    def __init__(self, prediction_type: str, history: int = 0, *, hooked: bool = False) -> None:
        self.prediction_type = prediction_type
        self.history = history
        self.hooked = hooked
        self.rows: list[PlanRow] = []

    def read(self, level: Level, scale: float = 1.0) -> Reading:
        if level.alpha == 0.0 and self.prediction_type == "epsilon":
            raise InputError(
                "this sampler cannot start at zero signal with epsilon prediction (alpha is 0); use another sampler,"
                " or a schedule without rescale_betas_zero_snr",
                code="request.sampler",
            )
        x, output = Form({("x", 0): 1.0}), Form({("output", 0): 1.0})
        history = tuple(Form({("history", slot): 1.0}) for slot in range(self.history))
        a, b = data_weights(self.prediction_type, level, scale)
        x0 = Form({("clipped", 0): 1.0}) if self.hooked else a * x + b * output
        eps = noise_prediction(self.prediction_type, level, scale * x, output)
        return Reading(level, scale, x, history, output, x0, eps, (a, b), self.hooked)

    def noise(self, rows_ago: int = 0) -> Form:
        """Return the symbol of unit-variance noise: of the row being made, or of a row before it."""
        return Form({("noise", len(self.rows) - rows_ago): 1.0})

    def write(
        self, reading: Reading, after: Level, x: Form, history: Sequence[Form] = (), *, ends_step: bool = True
    ) -> None:
        """Add the row that leaves x and the history; history slots that are not given become zeros.

        ends_step: False for an evaluation inside of a sampling step.
        """
        lines = [x, *history, *([NOTHING] * (self.history - len(history)))]
        streams = sorted({index for line in lines for name, index in line.weights if name == "noise"})
        columns: list[Symbol] = [("x", 0), *(("history", slot) for slot in range(self.history)), ("output", 0)]
        columns += [("clipped", 0)] * self.hooked + [("noise", stream) for stream in streams]
        matrix = np.array([[line.weights.get(column, 0.0) for column in columns] for line in lines])
        level = reading.level
        if not np.isfinite(matrix).all():
            raise InputError(
                f"this sampler cannot take the step from timestep {level.timestep:g} (alpha {level.alpha:.3g}, sigma"
                f" {level.sigma:.3g}) to alpha {after.alpha:.3g}, sigma {after.sigma:.3g}: it would divide by zero;"
                " use other options of it, or another sampler",
                code="request.sampler",
            )
        self.rows.append(
            PlanRow(
                timestep=level.timestep,
                input_scale=reading.scale,
                alpha=level.alpha,
                sigma=level.sigma,
                alpha_next=after.alpha,
                sigma_next=after.sigma,
                data_x=reading.data[0],
                data_output=reading.data[1],
                matrix=matrix,
                noise_rows=tuple(streams),
                ends_step=ends_step,
            )
        )


def noise_prediction(prediction_type: str, level: Level, latent: Form, output: Form) -> Form:
    """Return eps of latent = alpha * x0 + sigma * eps, from the model's output there."""
    if prediction_type == "epsilon":
        return output
    if prediction_type == "v_prediction":
        return level.alpha * output + level.sigma * latent
    if prediction_type == "flow_prediction":
        return latent + level.alpha * output
    return (latent - level.alpha * output) / level.sigma


def data_weights(prediction_type: str, level: Level, scale: float) -> tuple[float, float]:
    """Return (a, b) of x0 = a * x + b * model output, where scale * x is alpha * x0 + sigma * eps."""
    alpha, sigma = level.alpha, level.sigma
    if prediction_type == "epsilon":
        return scale / alpha, -sigma / alpha
    if prediction_type == "v_prediction":
        return alpha * scale, -sigma
    if prediction_type == "flow_prediction":
        return scale, -sigma  # the output is eps - x0, and alpha is 1 - sigma
    return 0.0, 1.0  # sample
