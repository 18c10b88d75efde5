"""Strict JSON (RFC 8259): no key twice, no NaN, no half characters; values as dataclasses with exactly their fields."""

import collections
import dataclasses
import functools
import json
import math
import re
import types
import typing
from typing import Any, Literal, TypeAlias, TypeVar

from ldm_runtime.checks import shown
from ldm_runtime.errors import FormatError

T = TypeVar("T")
JSON = Any  # str | int | float | bool | None | list | dict, nested
# A JSON path: its beginning, or a path and the field (".") or key ("[") below it. Only an error makes a text of it.
Where: TypeAlias = "str | tuple[Where, Literal['.', '['], str | int]"

# Metadata of a dataclass's field: the key is left out of a file where the field has its default.
OPTIONAL = {"optional": True}

_NESTING = (dict, list)
MAX_DEPTH = 64  # lists and objects within one another; ours have 8, and what walks a value calls itself that often
_SURROGATE = re.compile("[\ud800-\udfff]")
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)  # or a string, which may hold some
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


# How a complaint of the parser begins -> what it is called here, and in the C++ runtime.
_SYNTAX = {
    "Expecting property name": "expected a key in double quotes",
    "Expecting ':'": "expected ':'",
    "Expecting ','": "expected ','",
    "Expecting value": "expected a value",
    "Extra data": "extra data",
    "Invalid control character": "control character in a string",
    "Invalid \\": "unknown escape in a string",
    "Unterminated string": "unterminated string",
}


def decode(content: bytes, where: str) -> str:
    """Decode the bytes of a file; FormatError unless they are UTF-8 without a byte order mark."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(where, f"is not UTF-8 at byte {error.start}", "json.encoding") from None
    if text.startswith("\ufeff"):
        raise FormatError(where, "begins with a byte order mark; expected plain UTF-8", "json.encoding")
    return text


def parse(text: str, where: str, *, infinity: bool = False) -> JSON:
    """Parse `text`; `where` names the file in messages. `infinity` lets Infinity and -Infinity pass.

    Raises:
        FormatError: not JSON, a key given twice in one object, a number that is not finite or has thousands of
            digits, half a character (a lone surrogate), or nested too deeply.
    """
    constant = _infinity if infinity else _refuse_constant
    number = float if infinity else _finite
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=constant, parse_float=number)
        _require_shallow(value)
        if _SURROGATE.search(text) or (_SURROGATE_ESCAPE.search(text) and _has_surrogates(value)):
            raise _Refused("it has half of a character (a lone surrogate)", "json.surrogate")
        return value
    except json.JSONDecodeError as error:
        raise _syntax_error(error, where) from None
    except RecursionError:
        raise _too_deep(where) from None
    except _Refused as refused:
        reason, code = refused.args
        raise FormatError(where, f"is not acceptable JSON: {reason}", code) from None
    except ValueError:  # Python reads integers of up to 4,300 digits
        reason = "it has an integer of thousands of digits"
        raise FormatError(where, f"is not acceptable JSON: {reason}", "json.number") from None


class _Refused(Exception):
    """A reason and its code, raised where the file's name is not known."""


def read(kind: type[T], value: JSON, where: str) -> T:
    """Make a `kind` of parsed JSON or TOML, checking every type on the way; `where` is the path so far.

    `kind` is a dataclass (its fields are exactly the object's keys), `tuple[X, ...]`, a fixed tuple,
    `dict[str, X]`, a `Literal`, `int`, `float` (an integer is one too), `str`, `bool` or `Any`; or a union of
    dataclasses, or of scalars and one tuple, and perhaps None.

    Raises:
        FormatError: the first mismatch, with its path.
    """
    result: T = _read(kind, value, where)
    return result


def plain(value: Any) -> JSON:
    """Return dataclasses, nested in one another, as what `read` reads."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        given = {field.name: getattr(value, field.name) for field in fields}
        silent = {field.name for field in fields if is_optional(field) and given[field.name] == field.default}
        return {name: plain(each) for name, each in given.items() if name not in silent}
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def is_optional(field: "dataclasses.Field[Any]") -> bool:
    """Return whether a field is one of `OPTIONAL`."""
    return OPTIONAL.items() <= field.metadata.items()


def described(kind: Any) -> str:
    """Name what `read` expects for a kind, for an error's sentence."""
    if typing.get_origin(kind) is typing.Literal:
        return f"one of {', '.join(typing.get_args(kind))}"
    if kind in _SCALARS:
        return _SCALARS[kind]
    return "a list" if typing.get_origin(kind) is tuple else "an object"


def _require_shallow(value: JSON) -> None:
    level, depth = [value] if type(value) in _NESTING else [], 0
    while level := [
        item for each in level for item in (each.values() if type(each) is dict else each) if type(item) in _NESTING
    ]:
        depth += 1
        if depth >= MAX_DEPTH:
            raise RecursionError


def _syntax_error(error: json.JSONDecodeError, where: str) -> FormatError:
    """Say what a complaint of the parser says, in the C++ runtime's words. What nests too deeply is found first."""
    if _depth(error.doc[: error.pos]) > MAX_DEPTH:
        return _too_deep(where)
    if error.msg.startswith("Illegal trailing comma"):  # Python 3.13 and newer: at the comma, not at what follows
        msg = "Expecting property name" if "object" in error.msg else "Expecting value"
        behind = error.pos + 1 + len(error.doc[error.pos + 1 :]) - len(error.doc[error.pos + 1 :].lstrip(" \t\n\r"))
        error = json.JSONDecodeError(msg, error.doc, behind)
    reason = next((ours for theirs, ours in _SYNTAX.items() if error.msg.startswith(theirs)), error.msg)
    place = f"line {error.lineno}, column {error.colno}"
    return FormatError(where, f"is not valid JSON at {place} ({reason})", "json.syntax")


def _too_deep(where: str) -> FormatError:
    return FormatError(where, f"nests its JSON too deeply; expected at most {MAX_DEPTH} levels", "json.depth")


def _depth(start: str) -> int:
    """Return how many lists and objects are open at once, at most, in what begins a text."""
    level = deepest = 0
    for bracket in _BRACKET.findall(start):
        level += 1 if bracket in ("[", "{") else -1 if bracket in ("]", "}") else 0
        deepest = max(deepest, level)
    return deepest


def _items(value: JSON) -> typing.Iterable[JSON]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _has_surrogates(value: JSON) -> bool:
    if isinstance(value, str):
        return _SURROGATE.search(value) is not None
    keys = value if isinstance(value, dict) else ()
    return any(map(_has_surrogates, keys)) or any(map(_has_surrogates, _items(value)))


def _finite(text: str) -> float:
    number = float(text)
    if abs(number) == float("inf"):
        raise _Refused(f"{shown(text)} is too large for a float64", "json.number")
    return number


def _object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice, _ = collections.Counter(key for key, _ in pairs).most_common(1)[0]
        raise _Refused(f"the key {shown(twice)} is given twice in one object", "json.duplicate-key")
    return result


def _infinity(name: str) -> JSON:
    return _refuse_constant(name) if name == "NaN" else float(name)


def _refuse_constant(name: str) -> JSON:
    raise _Refused(f"{name} is not a JSON number", "json.number")


def _read(kind: Any, value: JSON, where: Where) -> Any:
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin is tuple:
        return _read_tuple(arguments, value, where)
    if origin is dict:
        _expect(isinstance(value, dict), "an object", value, where)
        return {key: _read(arguments[1], item, (where, "[", key)) for key, item in value.items()}
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            _expect(False, described(kind), value, where)
        return value
    if kind is Any:
        return value
    return _read_scalar(kind, value, where)


def _read_dataclass(kind: Any, value: JSON, where: Where) -> Any:
    _expect(isinstance(value, dict), "an object", value, where)
    hints = _fields(kind)
    names = list(hints)
    unknown = sorted(set(value) - set(names))
    if unknown:
        what = f"has the unknown key {shown(unknown[0])}; known here: {', '.join(names)}"
        raise FormatError(_spelt(where), what, "json.unknown-key")
    missing = [name for name in names if name not in value and name not in _optional(kind)]
    if missing:
        raise FormatError(_spelt(where), f"lacks the key {missing[0]!r}", "json.missing-key")
    values = {name: _read(hints[name], value[name], (where, ".", name)) for name in names if name in value}
    try:
        return kind(**values)
    except FormatError as error:  # a dataclass that checks itself, without knowing where it stands
        raise FormatError(f"{_spelt(where)}.{error.where}", error.what, error.code) from None


@functools.cache  # a manifest has one kind of object hundreds of times
def _fields(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


@functools.cache
def _optional(kind: Any) -> frozenset[str]:
    return frozenset(field.name for field in dataclasses.fields(kind) if is_optional(field))


def _read_tuple(arguments: tuple[Any, ...], value: JSON, where: Where) -> tuple[Any, ...]:
    _expect(isinstance(value, list | tuple), "a list", value, where)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_read(arguments[0], item, (where, "[", index)) for index, item in enumerate(value))
    _expect(len(value) == len(arguments), f"a list of {len(arguments)} items", value, where)
    return tuple(
        _read(kind, item, (where, "[", i)) for i, (kind, item) in enumerate(zip(arguments, value, strict=True))
    )


def _read_union(arguments: tuple[Any, ...], value: JSON, where: Where) -> Any:
    if value is None and type(None) in arguments:
        return None
    kinds = [kind for kind in arguments if kind is not type(None)]
    if len(kinds) == 1:
        return _read(kinds[0], value, where)
    if all(dataclasses.is_dataclass(kind) for kind in kinds):
        # told apart by their keys: the one that shares most with the object names what is wrong with it
        keys = set(value) if isinstance(value, dict) else set()
        return _read_dataclass(max(kinds, key=lambda kind: len(keys & set(_fields(kind)))), value, where)
    # int | str, int | tuple[int, ...]: told apart by their JSON type
    for kind in kinds:
        if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
            return _read_tuple(typing.get_args(kind), value, where)
        if type(value) is kind:
            return value
    _expect(False, " or ".join(map(described, kinds)), value, where)


_SCALARS: dict[Any, str] = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def _read_scalar(kind: Any, value: JSON, where: Where) -> Any:
    if kind is float:
        _expect(type(value) in (int, float), described(float), value, where)
        try:
            number = float(value)
        except OverflowError:
            raise FormatError(_spelt(where), "is too large for a float64", "json.number") from None
        _expect(math.isfinite(number), "a finite number", value, where)  # 1e999 parses as infinity
        return number
    _expect(type(value) is kind, described(kind), value, where)
    return value


def _spelt(where: Where) -> str:
    if isinstance(where, str):
        return where
    parent, kind, name = where
    return f"{_spelt(parent)}.{name}" if kind == "." else f"{_spelt(parent)}[{shown(name)}]"


def _expect(condition: bool, expected: str, value: JSON, where: Where) -> None:
    if not condition:
        raise FormatError(_spelt(where), f"must be {expected}; got {spelt(value)}", "json.type")


def spelt(value: JSON) -> str:
    """Spell a value for an error's sentence as JSON, cut if it is long."""
    text = json.dumps(value, default=str)  # TOML has dates too
    return text if len(text) <= 60 else text[:57] + "..."
