"""Checks of single options: arrays, shares, seeds. Each raises InputError for a value that is not usable."""

import dataclasses
import math
import operator
import secrets
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from ldm_runtime.checks import check_integer, shown
from ldm_runtime.errors import InputError
from ldm_runtime.noise.philox import batch_seeds
from ldm_runtime.sampling.plan import Plan, compile_plan
from ldm_runtime.sampling.schedule import Schedule
from ldm_runtime.sampling.solvers import Sampler

MAX_WINDOW = 1000  # rows that Picard iteration evaluates at once


def check_shape(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return `value` as an array of real numbers of `shape` (None: any size), if possible without a copy.

    Raises InputError.

    What comes back may be a view of immense size: check that before `float_copy`.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(
            f"{name} is a masked array; fill what is masked first, expected plain numbers", code="request.array"
        )
    try:
        array = np.asarray(value)
    except Exception as error:  # a ragged list, or whatever an object's own __array__ raises
        raise InputError(f"{name} is not an array: {error}", code="request.array") from None
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} has dtype {array.dtype}; expected numbers, float32", code="request.array")
    fits = len(array.shape) == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(f"{name} has shape {array.shape}; expected ({wanted})", code="request.array")
    return array


def float_copy(name: str, array: np.ndarray) -> np.ndarray:
    """Return a contiguous float32 copy; raise InputError if a number is not finite."""
    with np.errstate(over="ignore"):
        copy = np.array(array, dtype=np.float32, order="C")
    if not np.isfinite(copy).all():
        raise InputError(f"{name} holds NaN or infinity; expected finite float32 numbers", code="request.array")
    return copy


def compile_run(
    schedule: Schedule, sampler: Sampler, steps: Any, strength: float | None, caching: int | None = None
) -> Plan:
    """Compile the plan of a run; with a strength, that of image to image. caching: as in `Plan`. Raises InputError."""
    options = None if strength is None else sampler.options.reaching(check_share("strength", strength))
    if options is not None:
        return compile_plan(schedule, dataclasses.replace(sampler, options=options), steps, caching=caching)
    return compile_plan(schedule, sampler, steps, first_step(steps, strength), caching)


def first_step(steps: Any, strength: float | None) -> int:
    """Return the first of the steps that an image to image run takes, which are int(steps * strength), as in diffusers.

    None is a run from noise. Raises InputError for a strength that leaves none, or that is not from 0 to 1.
    """
    if strength is None:
        return 0
    check_share("strength", strength)
    try:
        steps = operator.index(steps)
        taken = min(int(steps * strength), steps)
    except (TypeError, OverflowError):
        return 0  # refused with the plan
    if steps > 0 and taken < 1:
        raise InputError(
            f"strength {strength:g} of {steps} steps leaves none; use a strength of at least {1 / steps:g}"
        )
    return steps - taken


def check_share(name: str, value: Any) -> float:
    number = _real(value)
    if not 0.0 <= number <= 1.0:
        raise InputError(f"{name} is {shown(value)}; expected a number from 0 to 1")
    return number


def _real(value: Any) -> float:
    """Return a real number as a float, infinite if it is too large; NaN for anything else."""
    try:
        return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return math.inf


def check_pair(name: str, value: Any, what: str) -> tuple[Any, Any]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) != 2:
        raise InputError(f"{name} is {shown(value)}; expected {what}")
    return value[0], value[1]


def check_interval(value: Any) -> tuple[float, float]:
    ends = check_pair("guidance_interval", value, "two numbers from 0 to 1, such as (0.2, 0.8)")
    low, high = (check_share("an end of guidance_interval", end) for end in ends)
    if not low < high:
        raise InputError(f"guidance_interval is {shown(value)}; expected its start below its end")
    return low, high


def check_seeds(seed: Any, batch: int) -> tuple[int, ...]:
    """Return a seed for each image: counted up from one seed, the list itself, or random ones for None."""
    if isinstance(seed, Sequence) and not isinstance(seed, str | bytes):
        if len(seed) != batch:
            raise InputError(
                f"seed has {len(seed)} numbers for {batch} images; give one for each, or one to count from"
            )
        return tuple(check_integer("seed", one, 0, 2**64 - 1) for one in seed)
    return batch_seeds(secrets.randbits(32) if seed is None else seed, batch)


def check_variation(value: Any) -> tuple[int, float] | None:
    if value is None:
        return None
    seed, strength = check_pair("variation", value, "(seed, strength), such as (7, 0.2)")
    return check_integer("the seed of variation", seed, 0, 2**64 - 1), check_share(
        "the strength of variation", strength
    )


def check_picard(value: Any) -> tuple[int, float] | None:
    if value is None:
        return None
    window, tolerance = check_pair("picard", value, "(window, tolerance), such as (8, 0.01)")
    return check_integer("the window of picard", window, 2, MAX_WINDOW), check_share(
        "the tolerance of picard", tolerance
    )


def check_guidance(value: Any) -> float:
    number = _real(value)
    if not 0.0 <= number < math.inf:
        raise InputError(f"guidance is {shown(value)}; expected a finite number of 0 or more (1 or less: no guidance)")
    return number


def check_name(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} is {shown(value)}; expected a name")
    return value


def check_choice(what: str, value: Any, choices: Sequence[str]) -> str:
    if check_name(what, value) not in choices:
        raise InputError(f"{what} is {shown(value)}; expected {' or '.join(choices)}")
    return str(value)
