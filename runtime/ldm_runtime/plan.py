"""Compile (schedule, sampler, steps) to a sampling plan: a table of float64 numbers that one loop runs.

Every sampler here is linear in the latent, the model outputs and the noise, with coefficients that do not
depend on the data. A row of the plan is one model evaluation; its matrix maps
    [x, history…, model output, noise…]  ->  [x, history…]
Sources: DDIM, Song et al. 2020 (arXiv:2010.02502), eta 0; Euler and Euler ancestral, Karras et al. 2022
(arXiv:2206.00364) and k-diffusion; DPM-Solver++ 2M, Lu et al. 2022 (arXiv:2211.01095). Each is checked step
by step against the scheduler of that name in diffusers 0.39, with the settings that `from_config` gives it.

Where diffusers leaves the trained timesteps by accident we do not follow: leading with an offset and as many
steps as training had ends above the last one (refused); trailing makes one row too many, at timestep -1, for
61, 103, … of 1000 steps (left out).
"""

import hashlib
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ldm_runtime.errors import InputError
from ldm_runtime.schedule import NoiseSchedule

KARRAS_RHO = 7.0
SMALLEST_ALPHA_CUMPROD = 2.0**-24  # stands for 0 where a sampler divides by alpha, as in diffusers


@dataclass(frozen=True)
class PlanRow:
    """One model evaluation; alpha, sigma: the noise level at `timestep`; _next: after the row."""

    timestep: float
    input_scale: float  # the model sees input_scale * x
    alpha: float
    sigma: float
    alpha_next: float
    sigma_next: float
    matrix: np.ndarray  # float64 (1 + history, 1 + history + 1 + len(noise_rows))
    noise_rows: tuple[int, ...]  # plan rows whose noise stream is read, one per noise column


@dataclass(frozen=True)
class Plan:
    """All a sampling loop needs. The loop starts from x = initial_scale * noise, history = zeros."""

    sampler: str
    steps: int
    history: int
    initial_scale: float
    rows: tuple[PlanRow, ...]
    identity: str  # SHA-256 (hex) of the inputs: schedule, sampler, steps

    def describe(self) -> str:
        """A table for people: one line per row, with the matrix row by row."""
        start = f"x = {self.initial_scale:.9g} * noise"
        lines = [f"{self.sampler}, {self.steps} steps, {start}, plan {self.identity[:16]}"]
        lines.append(" row   timestep  in scale sigma/alpha     -> next  matrix")
        for index, row in enumerate(self.rows):
            matrix = " | ".join(" ".join(f"{value:+.6e}" for value in line) for line in row.matrix)
            noise = f"  noise of row {', '.join(map(str, row.noise_rows))}" if row.noise_rows else ""
            ratio, ratio_next = _ratio(row.alpha, row.sigma), _ratio(row.alpha_next, row.sigma_next)
            level = f"{row.input_scale:>9.6f} {ratio:>11.6f} {ratio_next:>11.6f}"
            lines.append(f"{index:>4} {row.timestep:>10.4f} {level}  {matrix}{noise}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Sampler:
    """One line of the table `SAMPLERS`.

    solve: (schedule, spacing, steps) -> (initial_scale, rows). history: state tensors beside x.
    spacing: used when the schedule names none.
    """

    solve: Callable[[NoiseSchedule, str, int], tuple[float, list[PlanRow]]]
    history: int
    spacing: str
    summary: str


def compile_plan(schedule: NoiseSchedule, sampler: str, steps: int) -> Plan:
    """The plan of `steps` model evaluations; InputError for what the sampler or the schedule cannot do."""
    if not isinstance(sampler, str) or sampler not in SAMPLERS:
        raise InputError(f"sampler {sampler!r} is not known; expected one of {', '.join(SAMPLERS)}")
    try:
        number = 0 if isinstance(steps, bool) else operator.index(steps)
    except TypeError:
        number = 0
    most = schedule.num_train_timesteps
    if not 1 <= number <= most:
        raise InputError(f"steps {steps!r} is not usable: expected a whole number from 1 to {most}")
    entry = SAMPLERS[sampler]
    spacing = entry.spacing if schedule.timestep_spacing is None else schedule.timestep_spacing
    initial_scale, rows = entry.solve(schedule, spacing, number)
    identity = _identity(schedule, sampler, number)
    return Plan(sampler, number, entry.history, initial_scale, tuple(rows), identity)


# --- the samplers ---


def solve_ddim(schedule: NoiseSchedule, spacing: str, steps: int) -> tuple[float, list[PlanRow]]:
    """DDIM with eta 0. After t comes t - (training steps // steps), whatever the next row's timestep is."""
    alphas_cumprod = schedule.alphas_cumprod()
    last = 1.0 if schedule.set_alpha_to_one else float(alphas_cumprod[0])
    stride = schedule.num_train_timesteps // steps
    rows = []
    for t in _timesteps(schedule, spacing, steps):
        t = round(t)
        _check_trained(schedule, spacing, steps, t)
        bar = float(alphas_cumprod[t])
        bar_next = float(alphas_cumprod[t - stride]) if t >= stride else last
        alpha, sigma = math.sqrt(bar), math.sqrt(1.0 - bar)
        alpha_next, sigma_next = math.sqrt(bar_next), math.sqrt(1.0 - bar_next)
        if alpha == 0.0 and schedule.prediction_type == "epsilon":
            raise InputError(
                "sampler 'ddim' cannot start at zero signal with epsilon prediction (alpha is 0);"
                " use another sampler, or a schedule without rescale_betas_zero_snr"
            )
        # x' = alpha' x0 + sigma' eps, with eps = (x - alpha x0) / sigma
        keep = sigma_next / sigma
        matrix = _first_order(schedule, alpha, sigma, 1.0, keep, alpha_next - alpha * keep)
        rows.append(PlanRow(float(t), 1.0, alpha, sigma, alpha_next, sigma_next, matrix, ()))
    return 1.0, rows


def solve_euler(schedule: NoiseSchedule, spacing: str, steps: int) -> tuple[float, list[PlanRow]]:
    """Euler's method on the probability-flow ODE, in the scaling x = x0 + s * eps."""
    timesteps, ratios = _euler_grid(schedule, spacing, steps)
    rows = []
    for i, t in enumerate(timesteps):
        s, s_next = ratios[i], ratios[i + 1]
        # x' = x + (x - x0) / s * (s' - s)
        keep = s_next / s
        alpha, sigma = _alpha_sigma(s)
        matrix = _first_order(schedule, alpha, sigma, alpha, keep, 1.0 - keep)
        rows.append(PlanRow(t, alpha, alpha, sigma, *_alpha_sigma(s_next), matrix, ()))
    return _euler_initial_scale(spacing, ratios), rows


def solve_euler_ancestral(schedule: NoiseSchedule, spacing: str, steps: int) -> tuple[float, list[PlanRow]]:
    """Euler to a lower noise level than the next one, then fresh noise up to it; the last row adds none."""
    timesteps, ratios = _euler_grid(schedule, spacing, steps)
    rows = []
    for i, t in enumerate(timesteps):
        s, s_next = ratios[i], ratios[i + 1]
        up = s_next * math.sqrt((s - s_next) * (s + s_next)) / s
        down = s_next * s_next / s  # = sqrt(s'^2 - up^2)
        keep = down / s
        alpha, sigma = _alpha_sigma(s)
        matrix = _first_order(schedule, alpha, sigma, alpha, keep, 1.0 - keep)
        noise_rows: tuple[int, ...] = ()
        if s_next > 0.0:
            matrix = np.append(matrix, [[up]], axis=1)
            noise_rows = (i,)
        rows.append(PlanRow(t, alpha, alpha, sigma, *_alpha_sigma(s_next), matrix, noise_rows))
    return _euler_initial_scale(spacing, ratios), rows


def solve_dpmpp_2m(schedule: NoiseSchedule, spacing: str, steps: int) -> tuple[float, list[PlanRow]]:
    """DPM-Solver++ 2M (multistep, midpoint), first order on the first and the last row, down to s = 0."""
    training_ratios = _training_ratios(schedule)
    timesteps = _timesteps(schedule, spacing, steps, interior=True)
    for t in timesteps:
        _check_trained(schedule, spacing, steps, t)
    ratios = [training_ratios[round(t)] for t in timesteps]
    return 1.0, _dpmpp_2m_rows(schedule, timesteps, [*ratios, 0.0])


def solve_dpmpp_2m_karras(schedule: NoiseSchedule, spacing: str, steps: int) -> tuple[float, list[PlanRow]]:
    """DPM-Solver++ 2M on the sigmas of Karras et al. between the schedule's extremes; spacing has no part."""
    training_ratios = _training_ratios(schedule)
    low = training_ratios[0] ** (1.0 / KARRAS_RHO)
    high = training_ratios[-1] ** (1.0 / KARRAS_RHO)
    ratios = [(high + ramp * (low - high)) ** KARRAS_RHO for ramp in _linspace(0.0, 1.0, steps)]
    timesteps = [_nearest_timestep(schedule, ratio, training_ratios) for ratio in ratios]
    return 1.0, _dpmpp_2m_rows(schedule, timesteps, [*ratios, 0.0])


SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler(solve_ddim, 0, "leading", "DDIM, deterministic"),
    "euler": Sampler(solve_euler, 0, "linspace", "Euler, deterministic"),
    "euler_ancestral": Sampler(solve_euler_ancestral, 0, "linspace", "Euler with fresh noise at every step"),
    "dpmpp_2m": Sampler(solve_dpmpp_2m, 1, "linspace", "DPM-Solver++ 2M, second order"),
    "dpmpp_2m_karras": Sampler(solve_dpmpp_2m_karras, 1, "linspace", "DPM-Solver++ 2M on Karras sigmas"),
}


# --- their parts ---


def _dpmpp_2m_rows(schedule: NoiseSchedule, timesteps: list[float], ratios: list[float]) -> list[PlanRow]:
    """Rows with one history tensor, the x0 of the row before. ratios: sigma/alpha per row, then a final 0."""
    _check_falling(timesteps, ratios)
    rows = []
    for i, t in enumerate(timesteps):
        s, s_next = ratios[i], ratios[i + 1]
        alpha, sigma = _alpha_sigma(s)
        alpha_next, sigma_next = _alpha_sigma(s_next)
        gain = alpha_next * (1.0 - s_next / s)  # alpha' (1 - e^-h), h = ln(s / s')
        blend = 0.0  # weight of (x0 - previous x0): 1 / (2 r), r = ln(previous s / s) / h
        if 0 < i < len(timesteps) - 1:
            blend = 0.5 * math.log(s / s_next) / math.log(ratios[i - 1] / s)
        x0_x, x0_m = _data_prediction(schedule.prediction_type, alpha, sigma, 1.0)
        now = gain * (1.0 + blend)
        matrix = np.array(
            [
                [sigma_next / sigma + now * x0_x, 0.0 - gain * blend, now * x0_m],
                [x0_x, 0.0, x0_m],
            ]
        )
        rows.append(PlanRow(t, 1.0, alpha, sigma, alpha_next, sigma_next, matrix, ()))
    return rows


def _first_order(
    schedule: NoiseSchedule, alpha: float, sigma: float, input_scale: float, keep: float, gain: float
) -> np.ndarray:
    """Matrix (1, 2) of x' = keep * x + gain * x0."""
    x0_x, x0_m = _data_prediction(schedule.prediction_type, alpha, sigma, input_scale)
    return np.array([[keep + gain * x0_x, gain * x0_m]])


def _data_prediction(prediction_type: str, alpha: float, sigma: float, input_scale: float) -> tuple[float, float]:
    """(a, b) of x0 = a * x + b * model output; input_scale * x is the variance-preserving latent."""
    if prediction_type == "epsilon":
        return input_scale / alpha, -sigma / alpha
    if prediction_type == "v_prediction":
        return alpha * input_scale, -sigma
    return 0.0, 1.0  # sample


def _alpha_sigma(ratio: float) -> tuple[float, float]:
    """(alpha, sigma) with sigma / alpha = ratio and alpha^2 + sigma^2 = 1."""
    alpha = 1.0 / math.sqrt(ratio * ratio + 1.0)
    return alpha, ratio * alpha


def _ratio(alpha: float, sigma: float) -> float:
    return sigma / alpha if alpha > 0.0 else math.inf


def _training_ratios(schedule: NoiseSchedule) -> list[float]:
    """sigma / alpha at every training timestep, increasing; finite under zero terminal SNR too."""
    bars = schedule.alphas_cumprod()
    if schedule.rescale_betas_zero_snr:
        bars[-1] = SMALLEST_ALPHA_CUMPROD
    return [math.sqrt((1.0 - bar) / bar) for bar in bars.tolist()]


def _linspace(start: float, stop: float, count: int) -> list[float]:
    if count == 1:
        return [start]
    step = (stop - start) / (count - 1)
    return [start + i * step for i in range(count - 1)] + [stop]


def _timesteps(schedule: NoiseSchedule, spacing: str, steps: int, *, interior: bool = False) -> list[float]:
    """Whole timesteps, high to low (table 2 of arXiv:2305.08891, rounding as in diffusers: half to even).

    interior: as DPM-Solver counts, steps + 1 points of which the lowest is left out.
    """
    count = schedule.num_train_timesteps
    points = steps + 1 if interior else steps
    if spacing == "linspace":
        grid = [float(round(t)) for t in _linspace(0.0, count - 1.0, points)]
        return grid[::-1][:steps]
    if spacing == "leading":
        stride = count // points
        return [float(i * stride + schedule.steps_offset) for i in reversed(range(points))][:steps]
    # trailing; the increment is taken from the first two points, as arange does, which decides ties
    increment = (count - count / steps) - count
    return [float(round(count + i * increment) - 1) for i in range(steps)]


def _euler_grid(schedule: NoiseSchedule, spacing: str, steps: int) -> tuple[list[float], list[float]]:
    """(timesteps, sigma/alpha per row and a final 0); linspace timesteps are fractional, float32 values."""
    if spacing == "linspace":
        grid = _linspace(0.0, schedule.num_train_timesteps - 1.0, steps)[::-1]
        timesteps = [float(np.float32(t)) for t in grid]
    else:
        timesteps = _timesteps(schedule, spacing, steps)
    training_ratios = _training_ratios(schedule)
    ratios = []
    for t in timesteps:
        _check_trained(schedule, spacing, steps, t)
        low = min(int(t), len(training_ratios) - 2)
        ratios.append(training_ratios[low] + (t - low) * (training_ratios[low + 1] - training_ratios[low]))
    ratios.append(0.0)
    _check_falling(timesteps, ratios)
    return timesteps, ratios


def _euler_initial_scale(spacing: str, ratios: list[float]) -> float:
    """Standard deviation of the first x; sigma alone for spacings that start at the last timestep."""
    return math.sqrt(ratios[0] * ratios[0] + 1.0) if spacing == "leading" else ratios[0]


def _nearest_timestep(schedule: NoiseSchedule, ratio: float, training_ratios: list[float]) -> float:
    """The timestep of a noise level, interpolated in ln(sigma/alpha); the cosine schedule rounds down."""
    low = len(training_ratios) - 1
    while low > 0 and training_ratios[low] > ratio:
        low -= 1
    low = min(low, len(training_ratios) - 2)
    log_low, log_high = math.log(training_ratios[low]), math.log(training_ratios[low + 1])
    weight = (math.log(ratio) - log_low) / (log_high - log_low)
    t = low + min(max(weight, 0.0), 1.0)
    return float(math.floor(t) if schedule.beta_schedule == "squaredcos_cap_v2" else round(t))


def _check_trained(schedule: NoiseSchedule, spacing: str, steps: int, timestep: float) -> None:
    last = schedule.num_train_timesteps - 1
    if not 0 <= timestep <= last:
        raise InputError(
            f"{steps} steps with timestep_spacing {spacing!r} and steps_offset {schedule.steps_offset}"
            f" reach timestep {timestep:g}, but the model was trained on 0 to {last}; use fewer steps"
        )


def _check_falling(timesteps: list[float], ratios: list[float]) -> None:
    for i, t in enumerate(timesteps):
        if not ratios[i + 1] < ratios[i]:
            raise InputError(
                f"{len(timesteps)} steps are too many for this sampler and schedule: the noise does not fall"
                f" after row {i} (timestep {t:g}); use fewer steps or another timestep_spacing"
            )


def _identity(schedule: NoiseSchedule, sampler: str, steps: int) -> str:
    """SHA-256 of the inputs as lines `name=value` sorted by name, numbers as %.17g, as any language can."""
    inputs = {**schedule.to_dict(), "sampler": sampler, "steps": steps}
    lines = [f"{name}={_spell(value)}\n" for name, value in sorted(inputs.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _spell(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.17g}" if isinstance(value, float) else str(value)
