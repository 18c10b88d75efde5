"""What several modules ask of an argument."""

import operator
from typing import Any, TypeVar

from ldm_runtime.errors import InputError

T = TypeVar("T")


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int from low to high, or InputError. Integers of numpy count, bool and float do not."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not low <= number <= high:
        raise InputError(f"{name} is {shown(value)}; expected a whole number from {low} to {high}")
    return number


def shown(value: Any) -> str:
    """A value for an error's sentence, never a long one."""
    try:
        text = " ".join(line.strip() for line in repr(value).splitlines())  # an array has several
    except ValueError:  # an integer of more digits than Python prints
        text = "an immense number"
    return text if len(text) <= 60 else text[:57] + "..."


def given(value: T | None) -> T:
    """A value that an earlier check has shown to be there."""
    assert value is not None
    return value
