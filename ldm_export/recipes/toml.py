"""TOML read strictly to frozen dataclasses: one error lists all faults of a file, one to a line.

Unknown and missing keys, wrong types and broken rules are collected. Each fault names the dotted key, the expected
value and the one in the file, and the nearest known name where a key or a value may be misspelt.
"""

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ldm_export.errors import ConfigError
from ldm_runtime.checks import shown
from ldm_runtime.errors import FormatError, LdmError, Lines
from ldm_runtime.files import strict_json
from ldm_runtime.files.reading import read_regular

T = TypeVar("T")

MAX_FILE_BYTES = 2**16  # the largest recipe that we ship has 4 KB
MAX_ITEMS = 1024  # of a list or of a table with free keys
MAX_TEXT = 4096  # characters of a string or path
MAX_FAULTS = 20  # that one error lists
MAX_NAME = 64  # characters of a name that is compared with known ones
_LARGEST = 2**63  # TOML's integers have 64 bits; Python's parser reads longer ones
# tomllib takes time in the square of a dotted key's parts, and keeps them all.
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""")

COMPUTED = {"computed": True}  # metadata of a field that no file may give
_FAULTY = object()
_CODE = "config.invalid"


@dataclass(frozen=True)
class Rule:
    """A condition on the values of some dotted keys, and its sentence (or a function that makes it from the values)."""

    fields: tuple[str, ...]
    holds: Callable[..., bool]
    sentence: str | Callable[..., str]

    def fault(self, values: Mapping[str, Any]) -> str | None:
        """Return the sentence and the plain values if the rule is broken; one that could not be read breaks none."""
        if not values.keys() >= set(self.fields):
            return None
        own = [values[field] for field in self.fields]
        if self.holds(*own):
            return None
        sentence = self.sentence if isinstance(self.sentence, str) else self.sentence(*own)
        given = [_assigned(field, value) for field, value in zip(self.fields, own, strict=True) if _is_plain(value)]
        return f"{sentence}; got {', '.join(given)}" if given else sentence


@dataclass(frozen=True)
class Trial:
    """A call that must succeed with the values of some dotted keys: the text of its LdmError is the fault.

    key: what the text is about, where it does not say so itself.
    """

    fields: tuple[str, ...]
    attempt: Callable[..., object]
    key: str = ""

    def fault(self, values: Mapping[str, Any]) -> str | None:
        if not values.keys() >= set(self.fields):
            return None
        try:
            self.attempt(*(values[field] for field in self.fields))
        except LdmError as error:
            return f"{self.key}: {error}" if self.key else str(error)
        return None


Rules = Sequence[Rule | Trial]


def one_of(field: str, known: Iterable[str]) -> Rule:
    """Make the rule that a value, or each value of a list, is one of the known names; None is no value."""
    names = tuple(known)

    def unknown(value: str | tuple[str, ...] | None) -> list[str]:
        values = (value,) if isinstance(value, str) else value if value is not None else ()
        return [each for each in values if each not in names]

    def sentence(value: str | tuple[str, ...] | None) -> str:
        return f"{field} must {'' if isinstance(value, str) else 'each '}be one of {', '.join(names)}"

    return Rule(
        (field,), lambda value: not unknown(value), lambda value: sentence(value) + hint(unknown(value)[0], names)
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like a misspelt one, or None if none is like it."""
    matches = difflib.get_close_matches(name, list(known), n=1) if len(name) <= MAX_NAME else []
    return matches[0] if matches else None


def hint(name: object, known: Iterable[str], prefix: str = "") -> str:
    """Suggest the nearest known name, in brackets; "" if there is none."""
    match = nearest(name, known) if isinstance(name, str) else None
    return "" if match is None else f" (did you mean {prefix + match!r}?)"


def read_text(path: Path) -> str:
    """Read a recipe's text. Raises ConfigError for anything but a small regular file of UTF-8."""
    try:
        content = read_regular(path, MAX_FILE_BYTES)
        if content is None:
            raise ConfigError(f"cannot read the recipe {path}: it is not a regular file")
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError(f"the recipe {path} has more than {MAX_FILE_BYTES} bytes; it is not a recipe")
        return content.decode("utf-8-sig").replace("\r\n", "\n")  # some editors under Windows write a mark first
    except UnicodeDecodeError as error:
        raise ConfigError(f"the recipe {path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        reason = getattr(error, "strerror", None)
        raise ConfigError(f"cannot read the recipe {path}: {reason if reason is not None else error}") from None


def parse_toml(text: str, path: Path) -> dict[str, Any]:
    """Parse the text of the file `path`. Raises ConfigError if it is not TOML, or cannot be a recipe."""
    if _LONG_KEY.search(text) is not None:
        raise ConfigError(f"the recipe {path} has a key of more than 64 parts; expected a few")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"the recipe {path} nests its values too deeply to be a recipe") from None
    except ValueError as error:  # TOMLDecodeError is one; so is an integer of more digits than Python reads
        raise ConfigError(f"the recipe {path} is not valid TOML: {error}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a file as a table. Raises ConfigError."""
    return parse_toml(read_text(path), path)


class RulesBroken(ConfigError):
    """The broken rules of a dataclass, which does not know its file: its text, then each of them."""

    def __str__(self) -> str:
        return str(self.args[0])


def from_table(cls: type[T], table: Mapping[str, Any], where: str, rules: Rules, **computed: Callable[[], object]) -> T:
    """Make a dataclass of a TOML table: every key is a field of the right type, no field without default is missing.

    where: the file, for the error. rules: those that the dataclass itself requires when it is made; where that is not
    possible, they are tried on what can be read. computed: how fields are made that no file may set, once all is read.

    Raises:
        ConfigError: lists all faults.
    """
    reader = _Reader()
    fields = reader.fields(cls, table, "")
    if reader.faults:
        raise ConfigError(list_faults(where, reader.faults + _broken(rules, reader.values)))
    try:
        return cls(**fields, **{name: make() for name, make in computed.items()})
    except RulesBroken as error:
        raise ConfigError(list_faults(where, error.args[1:])) from None


def require(instance: Any, rules: Rules) -> None:
    """Raise RulesBroken unless a dataclass, from a file or without one, keeps all rules."""
    values: dict[str, Any] = {}
    _flatten(instance, "", values)
    faults = _broken(rules, values)
    if faults:
        raise RulesBroken(list_faults("", faults), *faults)


class _Reader:
    """The values of a file by dotted key, whole tables included, and the faults met while reading it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.faults: list[str] = []

    def fields(self, cls: type, table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """Read the fields of a dataclass as far as possible; `prefix` is "" or ends in a dot."""
        known = {item.name: item for item in dataclasses.fields(cls) if not item.metadata.get("computed")}
        unknown = [name for name in table if name not in known]
        unset = [name for name in known if name not in table]
        compared = unknown[:MAX_FAULTS]  # which takes its time
        for name in unknown:
            expected = f"; expected {', '.join(known)}" if name is unknown[0] else ""  # once for a table
            suggestion = hint(name, unset, prefix) if name in compared else ""
            self.faults.append(f"unknown key {shown(prefix + name)}{suggestion}{expected}")
        suggested = {nearest(name, unset) for name in compared}
        kinds = typing.get_type_hints(cls)
        fields: dict[str, Any] = {}
        for name, item in known.items():
            if name in table:
                value = self.value(kinds[name], table[name], prefix + name)
            elif item.default is not dataclasses.MISSING:
                value = item.default
            elif item.default_factory is not dataclasses.MISSING:
                value = item.default_factory()
            else:
                if name not in suggested:
                    self.faults.append(f"missing key {prefix + name!r}; expected {_expected(kinds[name])}")
                continue
            if value is not _FAULTY:
                fields[name] = self.values[prefix + name] = value
                if name not in table:
                    _flatten(value, f"{prefix}{name}.", self.values)
        return fields

    def value(self, kind: Any, value: Any, where: str) -> Any:
        """Read `value` as a type; return _FAULTY after noting a fault."""
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is types.UnionType:  # only "… | None" occurs, and TOML has no null
            return self.value(arguments[0], value, where)
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            return self._table(typing.cast(type, kind), value, where)
        if (dataclasses.is_dataclass(kind) or origin is dict) and not isinstance(value, dict):
            return self._fault(f"{where} must be a table; got {_shown(value)}")
        try:
            _require_limits(value, where)
            read = strict_json.read(str if kind is Path else kind, value, where)
            return _path(str(read), where) if kind is Path else read
        except FormatError as error:
            return self._fault(f"{error}{hint(value, arguments) if origin is typing.Literal else ''}")

    def _table(self, kind: type, table: dict[str, Any], where: str) -> Any:
        before = len(self.faults)
        fields = self.fields(kind, table, f"{where}.")
        return kind(**fields) if len(self.faults) == before else _FAULTY

    def _fault(self, sentence: str) -> Any:
        self.faults.append(sentence)
        return _FAULTY


def _expected(kind: Any) -> str:
    """Describe a type for an error's sentence."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return _expected(arguments[0])
    if dataclasses.is_dataclass(kind) or origin is dict:
        return "a table"
    return "a path" if kind is Path else strict_json.described(kind)


def _require_limits(value: Any, where: str) -> None:
    """Raise FormatError for a list, table or string that is too long, and for an integer of more than 64 bits."""
    if isinstance(value, dict | list):
        if len(value) > MAX_ITEMS:
            raise FormatError(where, f"must have at most {MAX_ITEMS} values; got {len(value)}", _CODE)
        for item in value.values() if isinstance(value, dict) else value:
            _require_limits(item, where)
    elif isinstance(value, str) and len(value) > MAX_TEXT:
        raise FormatError(where, f"must be a string of at most {MAX_TEXT} characters; got {len(value)}", _CODE)
    elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise FormatError(where, f"must be an integer of at most 64 bits; got {shown(value)}", _CODE)


def _path(text: str, where: str) -> Path:
    if text == "" or "\0" in text:
        raise FormatError(where, f"must be a path of 1 to {MAX_TEXT} characters without NUL; got {shown(text)}", _CODE)
    return Path(text)


def _flatten(value: Any, prefix: str, values: dict[str, Any]) -> None:
    """Add the fields of a dataclass to `values` by dotted key, and their own fields."""
    if dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            values[prefix + item.name] = inner = getattr(value, item.name)
            _flatten(inner, f"{prefix}{item.name}.", values)


def _broken(rules: Rules, values: Mapping[str, Any]) -> list[str]:
    return [fault for rule in rules if (fault := rule.fault(values)) is not None]


def list_faults(where: str, faults: Iterable[str]) -> str:
    """Write the text of one error about all faults, one to a line, MAX_FAULTS at most."""
    faults = list(dict.fromkeys(faults))
    if len(faults) == 1:
        return f"{where}: {faults[0]}" if where else faults[0]
    more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    head = f"{where if where else 'the recipe'} has {len(faults)} faults:"
    return Lines([head, *(f"  {fault}" for fault in [*faults[:MAX_FAULTS], *more])])


def _assigned(field: str, value: Any) -> str:
    return f"{field} = {_shown(value)}"


def _is_plain(value: Any) -> bool:
    """Return whether a value fits into a sentence; the keys of a table have sentences of their own."""
    return not isinstance(value, dict) and not dataclasses.is_dataclass(value)


def _shown(value: Any) -> str:
    if isinstance(value, Path):
        return shown(str(value))
    return shown(list(value) if isinstance(value, tuple) else value)
