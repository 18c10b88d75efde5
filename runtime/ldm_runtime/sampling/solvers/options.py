"""Typed options of solvers, and the text that sets them: `option=value,option=value`.

The options of a solver are a frozen dataclass. The annotation of a field says what it may be: a `Literal` of names, a
bool, or an int or a float `Annotated` with its `Range`.
"""

import dataclasses
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from ldm_runtime.checks import shown
from ldm_runtime.errors import InputError

Value = bool | int | float | str


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


@dataclass(frozen=True)
class Options:
    """The options of a solver that has none; those of the others derive from it. InputError for a wrong value."""

    def __post_init__(self) -> None:
        for name, kind in kinds_of(type(self)).items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, kind.check(value))
            except ValueError as error:
                raise InputError(f"{name} is {shown(value)}, expected {error}") from None

    @property
    def hook(self) -> Hook | None:
        """The hook of the loop that these options ask for."""
        return None


@dataclass(frozen=True)
class ClipOptions(Options):
    """The option of solvers that clip x0; 0 is off."""

    clip: Annotated[float, Range(0.0, 1e6)] = 0.0

    @property
    def hook(self) -> Hook | None:
        """The clipping, if it is on."""
        return Hook("clip", self.clip, 0.0) if self.clip > 0.0 else super().hook


@dataclass(frozen=True)
class ThresholdOptions(Options):
    """The options of solvers that threshold x0 dynamically; 0 is off."""

    threshold: Annotated[float, Range(0.0, 1.0)] = 0.0
    threshold_max: Annotated[float, Range(1.0, 1e6)] = 1.0

    @property
    def hook(self) -> Hook | None:
        """The thresholding, if it is on: before a clipping, as in diffusers."""
        return Hook("threshold", self.threshold_max, self.threshold) if self.threshold > 0.0 else super().hook


class Kind(Protocol):
    """The values that an option may have; `str()` of it names them for people."""

    def parse(self, text: str) -> Any:
        """Return the value that a text means, or, for one without meaning, what `check` refuses."""
        ...

    def check(self, value: Any) -> Value:
        """Return the value in its own type; ValueError says what was expected."""
        ...


@dataclass(frozen=True)
class Choice:
    """One of some names."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(self.names)

    def parse(self, text: str) -> str:
        return text

    def check(self, value: Any) -> str:
        if value not in self.names:
            raise ValueError(f"one of {self}")
        return str(value)


@dataclass(frozen=True)
class Bool:
    def __str__(self) -> str:
        return "true, false"

    def parse(self, text: str) -> bool | None:
        return {"true": True, "false": False}.get(text)

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError("true or false")
        return value


@dataclass(frozen=True)
class Integer:
    range: Range

    def __str__(self) -> str:
        return f"{self.range.low:g} to {self.range.high:g}"

    def parse(self, text: str) -> int | None:
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None

    def check(self, value: Any) -> int:
        if type(value) is not int or not self.range.low <= value <= self.range.high:
            raise ValueError(f"an integer from {self.range.low} to {self.range.high}")
        return value


@dataclass(frozen=True)
class Float:
    range: Range

    def __str__(self) -> str:
        return f"{self.range.low:g} to {self.range.high:g}"

    def parse(self, text: str) -> float | None:
        try:
            return float(text)
        except ValueError:
            return None

    def check(self, value: Any) -> float:
        if type(value) not in (int, float) or not self.range.low <= value <= self.range.high:
            raise ValueError(f"a number from {self.range.low:g} to {self.range.high:g}")
        return float(value)


def kinds_of(options: type[Options]) -> dict[str, Kind]:
    """Return the kind of each option, in the order of the fields."""
    hints = typing.get_type_hints(options, include_extras=True)
    return {field.name: _kind(hints[field.name]) for field in dataclasses.fields(options)}


def _kind(hint: Any) -> Kind:
    if hint is bool:
        return Bool()
    if typing.get_origin(hint) is Literal:
        return Choice(typing.get_args(hint))
    number, limits = typing.get_args(hint)
    return Integer(limits) if number is int else Float(limits)


def defaults_of(options: type[Options]) -> dict[str, Value]:
    """Return the default of each option, in the order of the fields."""
    return {name: getattr(options, name) for name in kinds_of(options)}


def changed_options(options: Options) -> dict[str, Value]:
    """Return the options that are not at their defaults, sorted by name."""
    defaults = sorted(defaults_of(type(options)).items())
    return {name: value for name, default in defaults if (value := getattr(options, name)) != default}


def read_options(sampler: str, text: str, kinds: dict[str, Kind]) -> dict[str, Value]:
    """Return the options that `text` ("order=3,sigmas=karras") sets; InputError names what is wrong."""
    values: dict[str, Value] = {}
    for part in text.split(",") if text else []:
        name, equals, value = part.partition("=")
        if equals == "" or name not in kinds:
            known = f"expected {', '.join(f'{known}=…' for known in kinds)}" if kinds else "it has none"
            raise InputError(f"sampler {sampler!r}: {part!r} is none of its options; {known}")
        if name in values:
            raise InputError(f"sampler {sampler!r}: option {name!r} is given twice")
        try:
            values[name] = kinds[name].check(kinds[name].parse(value))
        except ValueError as error:
            raise InputError(f"sampler {sampler!r}: {name} is {value!r}, expected {error}") from None
    return values


def spell(value: Value | None) -> str:
    """Spell a value as any language can: numbers as %.17g."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.17g}" if isinstance(value, float) else str(value)


def shortest(value: Value) -> str:
    """Spell a value as people do, so that it reads as the same value."""
    return repr(value) if isinstance(value, float) else spell(value)
