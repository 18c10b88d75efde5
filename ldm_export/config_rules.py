"""What every model config has in common: it is read strictly, checked when it is made, and written back.

Each option of the library that wrote a config.json is one of three things here: a field of the dataclass
(supported), an entry of the class's `ONLY` table (accepted at the listed values, refused by name at any
other), or a name in its `INERT` set (no effect on the model's output). A key that is none of these is
refused: nothing is ignored by accident.
"""

import dataclasses
import math
import typing
from typing import Any, ClassVar, Self

from ldm_runtime.errors import ConfigError

# What diffusers and transformers note about the file itself.
NOTES = frozenset(
    {
        "_attn_implementation_autoset",
        "_class_name",
        "_commit_hash",
        "_diffusers_version",
        "_name_or_path",
        "_use_default_values",
    }
)


@dataclasses.dataclass(frozen=True)
class StrictConfig:
    """A config.json of diffusers as a frozen dataclass; the subclass has the fields and their rules."""

    CLASS_NAME: ClassVar[str]
    ONLY: ClassVar[dict[str, tuple[Any, ...]]]
    INERT: ClassVar[frozenset[str]]

    def __post_init__(self) -> None:
        """Holds every field to its annotation; an integer is a real number too."""
        for field in dataclasses.fields(self):
            if not _has_type(getattr(self, field.name), field.type):
                self._refuse(field.name, f"of type {getattr(field.type, '__name__', field.type)}")

    @classmethod
    def from_dict(cls, data: object, where: str = "the config") -> Self:
        """Reads a parsed config.json; `where` names the file in messages.

        An option that is absent has the default of the library that wrote the file. Raises ConfigError naming
        the first option that is unknown or has a value that is not supported.
        """
        if not isinstance(data, dict):
            raise ConfigError(f"{where} is no JSON object but {type(data).__name__}")
        cls._require_kind(data, where)
        fields = {field.name for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for key, value in data.items():
            if key in fields:
                values[key] = _as_tuple(value)
            elif key in cls.ONLY:
                if not any(_same(value, accepted) for accepted in cls.ONLY[key]):
                    wanted = " or ".join(repr(accepted) for accepted in cls.ONLY[key])
                    raise ConfigError(f"{where} has {key} = {value!r}, which is not supported: it must be {wanted}")
            elif key not in cls.INERT and key not in NOTES:
                raise ConfigError(f"{where} has the unknown option {key} = {value!r}")
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """A config.json that the library which defined it opens."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        lists = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {**self._kind(), **lists}

    def require(self, holds: bool, name: str, wanted: str) -> None:
        """Raises ConfigError about the field `name` unless `holds`."""
        if not holds:
            self._refuse(name, wanted)

    def require_positive(self, *names: str) -> None:
        for name in names:
            self.require(getattr(self, name) > 0, name, "a positive number")

    def _refuse(self, name: str, wanted: str) -> typing.NoReturn:
        value = getattr(self, name)
        shown = repr(list(value)) if isinstance(value, tuple) else repr(value)
        raise ConfigError(f"{self.CLASS_NAME} has {name} = {shown}, which is not supported: it must be {wanted}")

    @classmethod
    def _kind(cls) -> dict[str, Any]:
        """The entries of config.json that name the model's class."""
        return {"_class_name": cls.CLASS_NAME}

    @classmethod
    def _require_kind(cls, data: dict[str, Any], where: str) -> None:
        if data.get("_class_name") != cls.CLASS_NAME:
            found = data.get("_class_name")
            raise ConfigError(f"{where} has _class_name {found!r}; supported is {cls.CLASS_NAME!r}")


def _same(value: object, accepted: object) -> bool:
    """Equality in which True is not 1 and False is not 0."""
    return value == accepted and isinstance(value, bool) == isinstance(accepted, bool)


def _as_tuple(value: object) -> object:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


def _has_type(value: object, kind: Any) -> bool:
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_has_type(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_has_type, value, arguments))
    if arguments:  # a union
        return any(_has_type(value, argument) for argument in arguments)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
