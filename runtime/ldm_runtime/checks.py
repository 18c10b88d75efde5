"""What several modules ask of an argument."""

import operator
import os
import stat
from pathlib import Path
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


def check_path(name: str, value: Any) -> Path:
    """`value` as a path that the file system can look up, whether something is there or not, or InputError.

    Refused are what is no text and no `PathLike` of one, NUL, lone surrogates, names too long, and what may not be
    looked into.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise InputError(f"{name} is {shown(value)}; expected a path as text or a pathlib.Path")
    path = Path(value)
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            os.stat(path / ".")  # a folder that may not be entered
    except (FileNotFoundError, NotADirectoryError):
        return path
    except OSError as error:
        raise InputError(f"{name} is {shown(str(path))}, which cannot be looked up: {error.strerror}") from error
    except ValueError as error:  # NUL, or text that the file system's encoding lacks
        raise InputError(f"{name} is {shown(str(path))}, which is no path: {error}") from error
    return path


def shown(value: Any) -> str:
    """A value for an error's sentence, never a long one."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = "an immense number"
    return text if len(text) <= 60 else text[:57] + "..."


def given(value: T | None) -> T:
    """A value that an earlier check has shown to be there."""
    assert value is not None
    return value
