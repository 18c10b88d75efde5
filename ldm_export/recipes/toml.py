"""TOML read strictly to frozen dataclasses: everything that is wrong with a file is one error that lists it.

Unknown and missing keys, wrong types and broken rules are all collected, each with its dotted key and what was got.
"""

import dataclasses
import math
import os
import re
import stat
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ldm_export.errors import ConfigError
from ldm_runtime.checks import shown
from ldm_runtime.errors import LdmError

T = TypeVar("T")

MAX_FILE_BYTES = 2**16  # the largest recipe that we ship has 4 KB
MAX_ITEMS = 1024  # of a list or of a table with free keys
MAX_TEXT = 4096  # characters of a text or path
MAX_TOLD = 20  # faults that one error lists
_LARGEST = 2**63  # TOML's integers have 64 bits; Python's parser reads longer ones
# tomllib takes time in the square of a dotted key's parts, and keeps them all.
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""")

COMPUTED = {"computed": True}  # metadata of a field that no file may give
_FAULTY = object()


@dataclass(frozen=True)
class Rule:
    """What must hold of the values of some dotted keys, and the sentence that says so (or makes it of the values)."""

    fields: tuple[str, ...]
    holds: Callable[..., bool]
    sentence: str | Callable[..., str]

    def fault(self, values: Mapping[str, Any]) -> str | None:
        """The sentence and what was got, if the rule is broken; a value that could not be read breaks no rule."""
        if not values.keys() >= set(self.fields):
            return None
        found = [values[field] for field in self.fields]
        if self.holds(*found):
            return None
        sentence = self.sentence if isinstance(self.sentence, str) else self.sentence(*found)
        return f"{sentence}; got {', '.join(map(_got, self.fields, found))}"


@dataclass(frozen=True)
class Trial:
    """What must succeed with the values of some dotted keys: `attempt` raises LdmError, whose text is the fault."""

    fields: tuple[str, ...]
    attempt: Callable[..., object]

    def fault(self, values: Mapping[str, Any]) -> str | None:
        if not values.keys() >= set(self.fields):
            return None
        try:
            self.attempt(*(values[field] for field in self.fields))
        except LdmError as error:
            return f"{' and '.join(self.fields)}: {error}"
        return None


Rules = Sequence[Rule | Trial]


def read_text(path: Path) -> str:
    """The text of a recipe. Raises ConfigError for what is no regular file, too large, or no UTF-8."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigError(f"cannot read the recipe {path}: it is no regular file")
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError(f"the recipe {path} has more than {MAX_FILE_BYTES} bytes; it is no recipe of ours")
        return content.decode("utf-8-sig").replace("\r\n", "\n")  # some editors under Windows write a mark first
    except UnicodeDecodeError as error:
        raise ConfigError(f"the recipe {path} is no UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        reason = getattr(error, "strerror", None)
        raise ConfigError(f"cannot read the recipe {path}: {reason if reason is not None else error}") from None


def parse_toml(text: str, path: Path) -> dict[str, Any]:
    """The text of the file `path` as a table. Raises ConfigError when it is no TOML, or none that can be a recipe."""
    if _LONG_KEY.search(text) is not None:
        raise ConfigError(f"the recipe {path} has a key of more than 64 parts; expected a few")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"the recipe {path} nests its values too deeply to be a recipe") from None
    except ValueError as error:  # TOMLDecodeError is one; so is an integer of more digits than Python reads
        raise ConfigError(f"the recipe {path} is not valid TOML: {error}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The file as a table. Raises ConfigError."""
    return parse_toml(read_text(path), path)


def from_table(cls: type[T], table: Mapping[str, Any], where: str, rules: Rules = (), **computed: Any) -> T:
    """A dataclass from a TOML table: every key is a field of the right type, every field without default is given.

    where: the file, for the error. rules: what must hold beyond the types. computed: fields that no file gives.

    Raises:
        ConfigError: lists all that is wrong.
    """
    reader = _Reader()
    fields = reader.fields(cls, table, "")
    faults = reader.faults + _broken(rules, reader.values)
    if faults:
        raise ConfigError(_listed(where, faults))
    try:
        return cls(**fields, **computed)
    except ConfigError as error:  # a rule of the dataclass itself, which does not know its file
        raise ConfigError(f"{where}: {error}") from None


def require(instance: Any, rules: Rules) -> None:
    """Raise ConfigError, which lists all broken rules of a dataclass that was made without a file."""
    values: dict[str, Any] = {}
    _flatten(instance, "", values)
    faults = _broken(rules, values)
    if faults:
        raise ConfigError(_listed("", faults))


class _Reader:
    """Values by dotted key, those of whole tables too, and what was wrong on the way."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.faults: list[str] = []

    def fields(self, cls: type, table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """The fields that could be read; `prefix` is "" or ends in a dot."""
        known = {item.name: item for item in dataclasses.fields(cls) if not item.metadata.get("computed")}
        names = ", ".join(known)
        for name in table:
            if name not in known:
                self.faults.append(f"unknown key {shown(prefix + name)}, known are {names}")
        kinds = typing.get_type_hints(cls)
        found: dict[str, Any] = {}
        for name, item in known.items():
            if name in table:
                value = self.value(kinds[name], table[name], prefix + name)
            elif item.default is not dataclasses.MISSING:
                value = item.default
            elif item.default_factory is not dataclasses.MISSING:
                value = item.default_factory()
            else:
                self.faults.append(f"missing key {prefix + name!r}")
                continue
            if value is not _FAULTY:
                found[name] = self.values[prefix + name] = value
                if name not in table:
                    _flatten(value, f"{prefix}{name}.", self.values)
        return found

    def value(self, kind: Any, value: Any, where: str) -> Any:
        """`value` as that kind, or _FAULTY after a fault was noted."""
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is types.UnionType:  # only "… | None" occurs, and TOML has no null
            return self.value(arguments[0], value, where)
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            return self._table(typing.cast(type, kind), value, where)
        if isinstance(value, dict | list) and len(value) > MAX_ITEMS:
            return self._fault(f"{where} must have at most {MAX_ITEMS} values; got {len(value)}")
        if origin is dict and isinstance(value, dict):
            read = {key: self.value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
            return _FAULTY if any(item is _FAULTY for item in read.values()) else read
        if origin is tuple and isinstance(value, list):
            return self._list(arguments, value, where)
        if origin is typing.Literal:
            fits = isinstance(value, str) and value in arguments
            return value if fits else self._fault(f"{where} must be one of {', '.join(arguments)}; got {_shown(value)}")
        read = _scalar(kind, value)
        if read is _FAULTY:
            named = "table" if dataclasses.is_dataclass(kind) else _NAMES[kind if origin is None else origin]
            return self._fault(f"{where} must be {named}; got {_shown(value)}")
        return read

    def _table(self, kind: type, table: dict[str, Any], where: str) -> Any:
        before = len(self.faults)
        fields = self.fields(kind, table, f"{where}.")
        return kind(**fields) if len(self.faults) == before else _FAULTY

    def _list(self, arguments: tuple[Any, ...], value: list[Any], where: str) -> Any:
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            return self._fault(f"{where} must have {len(arguments)} values; got {len(value)}")
        read = tuple(self.value(arguments[0], item, where) for item in value)
        return _FAULTY if any(item is _FAULTY for item in read) else read

    def _fault(self, sentence: str) -> Any:
        self.faults.append(sentence)
        return _FAULTY


_NAMES: dict[Any, str] = {
    dict: "a table",
    tuple: "a list",
    Path: f"a path of 1 to {MAX_TEXT} characters without NUL",
    str: f"a text of at most {MAX_TEXT} characters",
    float: "a number",
    int: "a whole number of at most 64 bits",
    bool: "true or false",
}


def _scalar(kind: Any, value: Any) -> Any:
    if isinstance(value, str) and len(value) <= MAX_TEXT:
        if kind is Path and value != "" and "\0" not in value:
            return Path(value)
        return value if kind is str else _FAULTY
    if isinstance(value, bool):
        return value if kind is bool else _FAULTY
    if isinstance(value, int) and -_LARGEST <= value < _LARGEST:
        return value if kind is int else float(value) if kind is float else _FAULTY
    return value if kind is float and isinstance(value, float) and math.isfinite(value) else _FAULTY


def _flatten(value: Any, prefix: str, values: dict[str, Any]) -> None:
    """Note the fields of a dataclass by dotted key, and theirs."""
    if dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            values[prefix + item.name] = inner = getattr(value, item.name)
            _flatten(inner, f"{prefix}{item.name}.", values)


def _broken(rules: Rules, values: Mapping[str, Any]) -> list[str]:
    return [fault for rule in rules if (fault := rule.fault(values)) is not None]


def _listed(where: str, faults: list[str]) -> str:
    """One error of them all; the first MAX_TOLD in full."""
    faults = list(dict.fromkeys(faults))
    if len(faults) == 1:
        return f"{where}: {faults[0]}" if where else faults[0]
    told = [f"({number}) {fault}" for number, fault in enumerate(faults[:MAX_TOLD], start=1)]
    more = [f"and {len(faults) - MAX_TOLD} more"] if len(faults) > MAX_TOLD else []
    return f"{where}{' ' if where else ''}has {len(faults)} faults: {' '.join([*told, *more])}"


def _got(field: str, value: Any) -> str:
    return f"{field} = {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, Path):
        return shown(str(value))
    if isinstance(value, dict):
        return "a table"
    return shown(list(value) if isinstance(value, tuple) else value)
