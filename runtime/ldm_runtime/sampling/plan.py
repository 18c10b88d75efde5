"""Compile (schedule, sampler, steps) to a sampling plan: a table of float64 numbers that one loop runs.

Every sampler here is linear in the latent, the model outputs and the noise, with coefficients that do not
depend on the data. A row of the plan is one model evaluation; its matrix maps
    [x, history…, model output, noise…]  ->  [x, history…]
What is not linear, clipping the predicted image x0, is a hook of the loop: such a plan's matrices read the
clipped x0 too, as a column after the model output. The samplers are in `ldm_runtime.sampling.solvers`; each is
checked step by step against the scheduler of that name in diffusers 0.39, as `from_config` sets it up.
"""

import contextlib
import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from ldm_runtime.checks import check_integer
from ldm_runtime.errors import InputError
from ldm_runtime.sampling.schedule import NoiseSchedule, Schedule
from ldm_runtime.sampling.solvers import SOLVERS, Sampler
from ldm_runtime.sampling.solvers.options import Hook, spell
from ldm_runtime.sampling.solvers.problem import Problem
from ldm_runtime.sampling.solvers.rows import PlanRow, Rows

__all__ = ["MAX_INTERVAL", "Hook", "Plan", "PlanRow", "check_sampler", "check_steps", "compile_plan"]

MAX_INTERVAL = 100  # rows that read what was kept at one


@dataclass(frozen=True)
class Plan:
    """All a sampling loop needs. It starts from x = initial_scale * noise, history = zeros.

    A plan that starts late, for image to image, starts from `noised` latents instead.

    caching: rows from one evaluation whose deep features are made anew, and kept, to the next (DeepCache, Ma et al.
    2023, arXiv:2312.00858); None: all are whole. It counts rows, not steps: of a sampler with two evaluations in a
    step each is a row, and one that goes back to more noise goes on counting. The first row of a plan is always whole,
    that of a late start too.
    """

    sampler: Sampler
    steps: int  # as asked for; rows, the model evaluations, may be more
    start: int  # steps that are left out at the beginning
    history: int
    initial_scale: float
    hook: Hook | None
    rows: tuple[PlanRow, ...]
    identity: str  # SHA-256 (hex) of the inputs: schedule, sampler, steps, start, and caching where it is
    caching: int | None = None

    def is_whole(self, row: int) -> bool:
        """Return whether the denoiser makes its deep features anew at a row."""
        return self.caching is None or row % self.caching == 0

    @property
    def taken(self) -> int:
        """The number of sampling steps from `start` on. Each is one or more rows."""
        return self.steps - self.start

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain values for JSON. `tests/golden/README.md` describes each one."""
        return {
            "sampler": self.sampler.canonical,
            "steps": self.steps,
            "start": self.start,
            "identity": self.identity,
            "history": self.history,
            "initial_scale": self.initial_scale,
            "hook": None if self.hook is None else asdict(self.hook),
            **({} if self.caching is None else {"caching": self.caching}),
            "rows": [
                {
                    "timestep": row.timestep,
                    "input_scale": row.input_scale,
                    "levels": [row.alpha, row.sigma, row.alpha_next, row.sigma_next],
                    "data": [row.data_x, row.data_output],
                    "matrix": row.matrix.tolist(),
                    "noise_rows": list(row.noise_rows),
                    "ends_step": row.ends_step,
                }
                for row in self.rows
            ],
        }

    def describe(self) -> str:
        """Return a table for people: one line per row, with the matrix row by row."""
        start = f"x = {self.initial_scale:.9g} * noise" if self.start == 0 else f"from step {self.start + 1}"
        lines = [f"{self.sampler.canonical}, {self.steps} steps, {start}, plan {self.identity[:16]}"]
        if self.caching is not None:
            lines.append(f"deep features are made at every row that {self.caching} divides, and kept until the next")
        lines.append(" row   timestep  in scale sigma/alpha     -> next  matrix")
        for index, row in enumerate(self.rows):
            matrix = " | ".join(" ".join(f"{value:+.6e}" for value in line) for line in row.matrix)
            noise = f"  noise of row {', '.join(map(str, row.noise_rows))}" if row.noise_rows else ""
            ratio, ratio_next = _ratio(row.alpha, row.sigma), _ratio(row.alpha_next, row.sigma_next)
            level = f"{row.input_scale:>9.6f} {ratio:>11.6f} {ratio_next:>11.6f}"
            lines.append(f"{index:>4} {row.timestep:>10.4f} {level}  {matrix}{noise}")
        return "\n".join(lines)


def check_sampler(schedule: Schedule, sampler: Sampler) -> None:
    """Raise InputError if the sampler cannot walk the schedule."""
    solver = sampler.solver
    if schedule.prediction_type not in solver.predictions:
        able = ", ".join(name for name, other in SOLVERS.items() if schedule.prediction_type in other.predictions)
        raise InputError(
            f"sampler {sampler.name!r} does not take models with {schedule.prediction_type!r} prediction, only with"
            f" {' or '.join(solver.predictions)}; use one of {able}",
            code="request.sampler",
        )
    if isinstance(schedule, NoiseSchedule) and schedule.rescale_betas_zero_snr and not solver.zero_snr:
        able = ", ".join(name for name, other in SOLVERS.items() if other.zero_snr)
        raise InputError(
            f"sampler {sampler.name!r} does not take a schedule with zero terminal SNR (rescale_betas_zero_snr); use"
            f" one of {able}",
            code="request.sampler",
        )


def compile_plan(schedule: Schedule, sampler: Sampler, steps: int, start: int = 0, caching: int | None = None) -> Plan:
    """Compile the plan of `steps` steps, from step `start` (counted from 0) on. caching: as in `Plan`.

    Raises InputError for what the sampler or the schedule cannot do.
    """
    check_sampler(schedule, sampler)
    number = check_integer("steps", steps, 1, schedule.num_train_timesteps)
    begin = check_integer("start", start, 0, number - 1)
    interval = None if caching is None else check_integer("caching", caching, 1, MAX_INTERVAL)
    initial_scale, rows = _solve(Problem, schedule, sampler, number, begin)
    return Plan(
        sampler=sampler,
        steps=number,
        start=begin,
        history=rows.history,
        initial_scale=initial_scale,
        hook=sampler.options.hook,
        rows=tuple(rows.rows),
        identity=_identity(schedule, sampler, number, begin, interval),
        caching=interval,
    )


def check_steps(schedule: Schedule, sampler: Sampler, steps: int) -> None:
    """Raise InputError for steps that no plan of a sampler has on a schedule, in a fraction of a plan's time.

    Noise levels and options are checked as `compile_plan` does, but no row after the first one is made.
    """
    check_sampler(schedule, sampler)
    with contextlib.suppress(_Begun):
        _solve(_Beginning, schedule, sampler, steps, 0)


class _Begun(Exception):
    """The first row of a plan is made."""


class _FirstRow(Rows):
    """Rows that end with the first one."""

    def write(self, *arguments: Any, **options: Any) -> None:
        super().write(*arguments, **options)
        raise _Begun


class _Beginning(Problem):
    """A plan to begin."""

    def rows(self, history: int = 0) -> Rows:
        return _FirstRow(self.model.prediction_type, history, hooked=self.hooked)


def _solve(kind: type[Problem], schedule: Schedule, sampler: Sampler, steps: int, start: int) -> tuple[float, Rows]:
    """Return the initial scale and the rows of a plan."""
    spacing = sampler.solver.spacing or "linspace"
    if sampler.solver.spacing is not None and isinstance(schedule, NoiseSchedule):
        spacing = schedule.timestep_spacing or spacing
    problem = kind(schedule, spacing, steps, start, hooked=sampler.options.hook is not None)
    try:
        return sampler.solver.solve(problem, sampler.options)
    except (ZeroDivisionError, OverflowError):
        raise InputError(
            f"sampler {sampler.canonical!r} cannot be computed for {steps} steps of this schedule: noise levels"
            " meet, or the last one is 0 where it divides; use fewer steps or other options of it",
            code="request.sampler",
        ) from None


def _ratio(alpha: float, sigma: float) -> float:
    return sigma / alpha if alpha > 0.0 else float("inf")


def _identity(schedule: Schedule, sampler: Sampler, steps: int, start: int, caching: int | None) -> str:
    """Hash the inputs (SHA-256) as lines `name=value` sorted by name, numbers as %.17g, as any language can."""
    inputs = {**schedule.to_dict(), "sampler": sampler.canonical, "start": start, "steps": steps}
    inputs |= {} if caching is None else {"caching": caching}
    lines = [f"{name}={spell(value)}\n" for name, value in sorted(inputs.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
