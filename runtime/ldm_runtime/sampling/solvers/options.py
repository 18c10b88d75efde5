"""The options of solvers, and the text that names a sampler: `solver`, or `solver:option=value,option=value`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ldm_runtime.errors import InputError

Value = bool | int | float | str


class Option(Protocol):
    """One option of a solver: a default, and what else it may be."""

    @property
    def default(self) -> Value: ...

    def read(self, text: str) -> Value:
        """The value that a text means; ValueError with what was expected."""
        ...


@dataclass(frozen=True)
class Choice:
    """One of some words; the first is the default."""

    words: tuple[str, ...]

    @property
    def default(self) -> str:
        return self.words[0]

    def read(self, text: str) -> str:
        if text not in self.words:
            raise ValueError(f"one of {', '.join(self.words)}")
        return text


@dataclass(frozen=True)
class Flag:
    default: bool

    def read(self, text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError("true or false")
        return text == "true"


@dataclass(frozen=True)
class Whole:
    default: int
    low: int
    high: int

    def read(self, text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and self.low <= int(text) <= self.high):
            raise ValueError(f"a whole number from {self.low} to {self.high}")
        return int(text)


@dataclass(frozen=True)
class Number:
    default: float
    low: float
    high: float

    def read(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not self.low <= value <= self.high:
            raise ValueError(f"a number from {self.low:g} to {self.high:g}")
        return value


@dataclass(frozen=True)
class Steps:
    """Steps of a plan, counted from 0: "none", "all", or numbers joined by "+"."""

    default: str = "none"

    def read(self, text: str) -> str:
        numbers = text.split("+")
        if text not in ("none", "all") and not all(n.isascii() and n.isdecimal() and len(n) < 7 for n in numbers):
            raise ValueError("none, all, or numbers of steps joined by '+'")
        return text


def read_options(sampler: str, text: str, options: Mapping[str, Option]) -> dict[str, Value]:
    """The options that `text` ("order=3,sigmas=karras") sets. InputError names what is wrong."""
    values: dict[str, Value] = {}
    for part in text.split(",") if text else []:
        name, equals, value = part.partition("=")
        if equals == "" or name not in options:
            known = f"expected {', '.join(f'{known}=…' for known in options)}" if options else "it has none"
            raise InputError(f"sampler {sampler!r}: {part!r} is none of its options; {known}")
        if name in values:
            raise InputError(f"sampler {sampler!r}: option {name!r} is given twice")
        try:
            values[name] = options[name].read(value)
        except ValueError as error:
            raise InputError(f"sampler {sampler!r}: {name} is {value!r}, expected {error}") from None
    return values


def spell(value: Value | None) -> str:
    """A value as any language can write it: numbers as %.17g."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.17g}" if isinstance(value, float) else str(value)


def shortest(value: Value) -> str:
    """A value as people write it, which reads as the same value."""
    return repr(value) if isinstance(value, float) else spell(value)
