"""Pseudo numerical methods (arXiv:2202.09778), checked against diffusers' PNDMScheduler."""

from itertools import pairwise

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.solvers.forms import Form, weighted_sum
from ldm_runtime.sampling.solvers.levels import integer_timesteps
from ldm_runtime.sampling.solvers.options import Options
from ldm_runtime.sampling.solvers.problem import Problem
from ldm_runtime.sampling.solvers.rows import Level, Rows, level_of_bar, noise_prediction

ADAMS_BASHFORTH = (
    (1.0,),
    (3.0 / 2.0, -1.0 / 2.0),
    (23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0),
    (55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0),
)  # equal steps; weights of the slopes, the latest first


class PndmOptions(Options):
    skip_prk_steps: bool = False


def solve_pndm(problem: Problem, options: PndmOptions) -> tuple[float, Rows]:
    """Take Adams-Bashforth steps on eps, begun by Runge-Kutta steps or by one step that is repeated."""
    schedule, steps = problem.schedule, problem.steps
    timesteps = integer_timesteps(schedule, problem.spacing, steps)
    stride = schedule.num_train_timesteps // steps
    if options.skip_prk_steps:
        rows = problem.rows(history=4)  # three outputs, the latest first; x where a step began
        repeated = [*timesteps[:2], *timesteps[1:]]  # the second timestep twice
        _plms(problem, rows, repeated[problem.start :], stride, outputs=0)
    else:
        if steps < 4 or problem.start > 0:
            raise InputError(
                f"sampler 'pndm': its Runge-Kutta start needs 4 steps or more, from the first one on; got {steps} from"
                f" step {problem.start + 1}; set skip_prk_steps=true",
                code="request.sampler",
            )
        rows = problem.rows(history=5)  # the same, and a Runge-Kutta sum
        _prk(problem, rows, timesteps[:4], stride // 2)
        _plms(problem, rows, timesteps[3:], stride, outputs=3)
    return 1.0, rows


def _prk(problem: Problem, rows: Rows, timesteps: list[float], half: int) -> None:
    """Write three Runge-Kutta steps of four rows, from the first of the timesteps to the last."""
    for t, t_next in pairwise(timesteps):
        middle = t_next + half
        ends = (t - half, middle, middle - half, t_next)  # where each row leaves x
        for evaluated, end, weight in zip((t, middle, middle, t_next), ends, (1 / 6, 1 / 3, 1 / 3, 1 / 6), strict=True):
            first = evaluated == t
            read = rows.read(_level(problem, evaluated))
            e1, e2, e3, saved, summed = read.history
            begun = read.x if first else saved
            summed = weight * read.output if first else summed + weight * read.output
            used = summed if weight == 1 / 6 and not first else read.output
            x = _transfer(problem, begun, used, t, end)
            past = [read.output, e1, e2] if first else [e1, e2, e3]
            rows.write(read, _level(problem, end), x, [*past, begun, summed], ends_step=evaluated == t_next)


def _plms(problem: Problem, rows: Rows, timesteps: list[float], stride: int, *, outputs: int) -> None:
    """Write Adams-Bashforth steps of up to order 4; without outputs to begin with, the second row repeats a step."""
    known = outputs
    for index, evaluated in enumerate(timesteps):
        read = rows.read(_level(problem, evaluated))
        e1, e2, e3, saved = read.history[:4]
        if outputs == 0 and index == 1:
            begun, t, end = saved, evaluated + stride, evaluated
            used, past = 0.5 * (read.output + e1), [e1, e2, e3]
        else:
            begun, t, end = read.x, evaluated, evaluated - stride
            known = min(known + 1, 4)
            weights = ADAMS_BASHFORTH[known - 1]
            used = weighted_sum(weights, (read.output, e1, e2, e3)[:known])
            past = [read.output, e1, e2]
        x = _transfer(problem, begun, used, t, end)
        is_repeated = outputs == 0 and index == 0 and len(timesteps) > 1
        rows.write(read, _level(problem, end), x, [*past, begun], ends_step=not is_repeated)


def _transfer(problem: Problem, x: Form, output: Form, t: float, end: float) -> Form:
    """Go from timestep t to `end` with the model output that stands for the whole way (equation 9)."""
    now, after = _level(problem, t), _level(problem, end)
    eps = noise_prediction(problem.schedule.prediction_type, now, x, output)
    divisor = now.alpha * (now.alpha * after.sigma + now.sigma * after.alpha)
    return after.alpha / now.alpha * x - (after.alpha**2 - now.alpha**2) / divisor * eps


def _level(problem: Problem, timestep: float) -> Level:
    """Return a trained level. Before the first timestep comes full signal, or the first timestep's once more."""
    return level_of_bar(timestep, problem.bar_before(int(timestep)))
