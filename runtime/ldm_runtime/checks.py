"""Argument checks that several modules share, and how values are shown in sentences."""

import math
import operator
import os
import stat
from pathlib import Path
from typing import Any, TypeVar

from ldm_runtime.errors import InputError

T = TypeVar("T")


def check_integer(name: str, value: Any, low: int, high: int, code: str | None = None) -> int:
    """Return `value` as an int from low to high, or raise InputError; numpy's integers pass, bool and float do not.

    code: the error's, if it has a finer one.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not low <= number <= high:
        raise InputError(f"{name} is {shown(value)}; expected an integer from {low} to {high}", code=code)
    return number


def check_path(name: str, value: Any) -> Path:
    """Return `value` as a path that the file system can look up, existing or not, or raise InputError.

    Refused: values that are neither text nor a `PathLike` of text, NUL, lone surrogates, names that are too long,
    folders that may not be read.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise InputError(f"{name} is {shown(value)}; expected a path as text or a pathlib.Path", code="request.path")
    if not os.fspath(value):
        raise InputError(f"{name} is ''; expected a path", code="request.path")
    path = Path(value)
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            os.stat(path / ".")  # a folder that may not be entered
    except (FileNotFoundError, NotADirectoryError):
        return path
    except OSError as error:
        message = f"{name} is {shown(str(path))}, which cannot be looked up: {error.strerror}"
        raise InputError(message, code="request.path") from error
    except ValueError as error:  # NUL, or text that the file system's encoding lacks
        raise InputError(f"{name} is {shown(str(path))}, which is not a path: {error}", code="request.path") from error
    return path


def shown(value: Any) -> str:
    """Format a value for an error's sentence, cut if it is long."""
    try:
        text = " ".join(line.strip() for line in repr(value).splitlines())  # an array has several
    except ValueError:  # an integer of more digits than Python prints
        text = "an immense number"
    return text if len(text) <= 60 else text[:57] + "..."


def shown_integer(value: Any) -> str:
    """Format what should be an integer as `shown` does; one that may not fit into 64 bits is immense."""
    is_immense = isinstance(value, int) and abs(value) >= 10**18
    return "an immense number" if is_immense else shown(value)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its class if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def given(value: T | None) -> T:
    """Return a value that an earlier check has shown not to be None."""
    assert value is not None
    return value


def exact(value: float) -> str:
    """Format a number so that it reads back as the same number: 7.5, 3."""
    return repr(value).removesuffix(".0")


def rounded_down(value: float, digits: int) -> str:
    """Format a likeness with so many digits after the point: it promises no more than was measured."""
    return exact(math.floor(value * 10**digits) / 10**digits)
