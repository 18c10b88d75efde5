"""Typed options of solvers, and the text that sets them: `option=value,option=value`.

The annotation of an option is its kind: a `Literal` of names, a bool, or an int or a float `Annotated` with its
`Range`.
"""

import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn

from ldm_runtime.checks import shown
from ldm_runtime.errors import InputError

Value = bool | int | float | str
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf)", re.ASCII)


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value of a number."""

    low: float
    high: float


@dataclass(frozen=True)
class Hook:
    """The change that the loop makes to the predicted image x0 of every row, before the matrix reads it.

    "clip": to [-limit, limit]. "threshold": dynamic thresholding (arXiv:2205.11487): each image is clipped to its
    own quantile `ratio` of |x0|, kept between 1 and limit, and divided by it.
    """

    kind: str
    limit: float
    ratio: float


@typing.dataclass_transform(frozen_default=True, kw_only_default=True)
class Options:
    """The options of a solver that has none, and the base of the others: values, checked on construction (InputError).

    Type checkers and readers may take it for a frozen dataclass. `dataclass` itself would compile code for each class,
    which costs a start that uses one solver of eighteen 10 ms.
    """

    def __init__(self, **values: Any) -> None:
        kinds = kinds_of(type(self))
        if unknown := values.keys() - kinds.keys():
            raise TypeError(f"{type(self).__name__} has no option {', '.join(sorted(unknown))}")
        for name, kind in kinds.items():
            value = values.get(name, getattr(type(self), name))
            try:
                vars(self)[name] = kind.check(value)
            except ValueError as error:
                raise InputError(f"{name} is {shown(value)}, expected {error}", code="request.sampler") from None

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed; make another")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed; make another")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    @property
    def hook(self) -> Hook | None:
        """The hook of the loop that these options ask for."""
        return None

    def reaching(self, strength: float) -> "Options | None":
        """Return the options with which a run of all its steps changes an image by `strength` (0 to 1).

        None where a strength leaves out steps at the beginning instead.
        """
        return None


class ClipOptions(Options):
    """The option of solvers that clip x0; 0 is off."""

    clip: Annotated[float, Range(0.0, 1e6)] = 0.0

    @property
    def hook(self) -> Hook | None:
        """The clipping, if it is on."""
        return Hook("clip", self.clip, 0.0) if self.clip > 0.0 else super().hook


class ThresholdOptions(Options):
    """The options of solvers that threshold x0 dynamically; 0 is off."""

    threshold: Annotated[float, Range(0.0, 1.0)] = 0.0
    threshold_max: Annotated[float, Range(1.0, 1e6)] = 1.0

    @property
    def hook(self) -> Hook | None:
        """The thresholding, if it is on: before a clipping, as in diffusers."""
        return Hook("threshold", self.threshold_max, self.threshold) if self.threshold > 0.0 else super().hook


class Choice:
    """One of some names."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __str__(self) -> str:
        return ", ".join(self.names)

    def parse(self, text: str) -> str:
        """Return the value that a text means."""
        return text

    def check(self, value: Any) -> str:
        """Return the value; raise ValueError with what was expected."""
        if value not in self.names:
            raise ValueError(f"one of {self}")
        return str(value)


class Bool:
    """True or false."""

    def __str__(self) -> str:
        return "true, false"

    def parse(self, text: str) -> bool | None:
        """Return the value that a text means, or None."""
        return {"true": True, "false": False}.get(text)

    def check(self, value: Any) -> bool:
        """Return the value; raise ValueError with what was expected."""
        if not isinstance(value, bool):
            raise ValueError("true or false")
        return value


class Integer:
    """An integer in a range."""

    def __init__(self, limits: Range) -> None:
        self.limits = limits

    def __str__(self) -> str:
        return f"{self.limits.low:g} to {self.limits.high:g}"

    def parse(self, text: str) -> int | None:
        """Return the value that a text means, or None."""
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None

    def check(self, value: Any) -> int:
        """Return the value; raise ValueError with what was expected."""
        if type(value) is not int or not self.limits.low <= value <= self.limits.high:
            raise ValueError(f"an integer from {self.limits.low} to {self.limits.high}")
        return value


class Float:
    """A number in a range."""

    def __init__(self, limits: Range) -> None:
        self.limits = limits

    def __str__(self) -> str:
        return f"{self.limits.low:g} to {self.limits.high:g}"

    def parse(self, text: str) -> float | None:
        """Return the value that a text means, or None: a number as every language spells it, or inf."""
        return float(text) if _NUMBER.fullmatch(text) else None

    def check(self, value: Any) -> float:
        """Return the value as a float; raise ValueError with what was expected."""
        if type(value) not in (int, float) or not self.limits.low <= value <= self.limits.high:
            raise ValueError(f"a number from {self.limits.low:g} to {self.limits.high:g}")
        return float(value)


Kind = Choice | Bool | Integer | Float  # of an option; `str()` of it names its values for people


_kinds: dict[type[Options], Mapping[str, Kind]] = {}  # read when they are asked for first, not at the start


def kinds_of(options: type[Options]) -> Mapping[str, Kind]:
    """Return the kind of each option, those of bases first."""
    if options not in _kinds:
        hints = typing.get_type_hints(options, include_extras=True)
        _kinds[options] = {name: _kind(hint) for name, hint in hints.items()}
    return _kinds[options]


def _kind(hint: Any) -> Kind:
    if hint is bool:
        return Bool()
    if typing.get_origin(hint) is Literal:
        return Choice(typing.get_args(hint))
    number, limits = typing.get_args(hint)
    return Integer(limits) if number is int else Float(limits)


def defaults_of(options: type[Options]) -> dict[str, Value]:
    """Return the default of each option, those of bases first."""
    return {name: getattr(options, name) for name in kinds_of(options)}


def changed_options(options: Options) -> dict[str, Value]:
    """Return the options that are not at their defaults, sorted by name."""
    defaults = sorted(defaults_of(type(options)).items())
    return {name: value for name, default in defaults if (value := getattr(options, name)) != default}


def read_options(sampler: str, text: str, kinds: Mapping[str, Kind]) -> dict[str, Value]:
    """Return the options that `text` ("order=3,sigmas=karras") sets; InputError names what is wrong."""
    values: dict[str, Value] = {}
    for part in text.split(",") if text else []:
        name, equals, value = part.partition("=")
        if equals == "" or name not in kinds:
            known = f"expected {', '.join(f'{known}=…' for known in kinds)}" if kinds else "it has none"
            raise InputError(
                f"sampler {shown(sampler)}: {shown(part)} is none of its options; {known}", code="request.sampler"
            )
        if name in values:
            raise InputError(f"sampler {shown(sampler)}: option {name!r} is given twice", code="request.sampler")
        try:
            values[name] = kinds[name].check(kinds[name].parse(value))
        except ValueError as error:
            raise InputError(
                f"sampler {shown(sampler)}: {name} is {shown(value)}, expected {error}", code="request.sampler"
            ) from None
    return values


def spell(value: Value | None) -> str:
    """Spell a value as any language can: numbers as %.17g."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.17g}" if isinstance(value, float) else str(value)


def shortest(value: Value) -> str:
    """Spell a value in the shortest way that reads back as the same value."""
    return repr(value) if isinstance(value, float) else spell(value)
