"""Strict configs of models: read from config.json, checked when they are made, and written back.

Each option of the library that wrote a config.json is one of three things here: a field of the dataclass
(supported), an entry of the class's `ONLY` table (accepted at the listed values, refused by name at any
other), or a name in its `INERT` set (no effect on the model's output). A key that is none of these is no option of
the class: `inert` says when it is refused, and `unknown` lists it, so that it is said.
"""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any, ClassVar, Self

from ldm_export.configs.inert import require_inert
from ldm_export.errors import ConfigError
from ldm_runtime.checks import shown
from ldm_runtime.errors import FormatError
from ldm_runtime.files import strict_json

# The largest sizes that a config may have, many times those of any published model. A model within them is laid out
# without its weights in seconds, and no product of its sizes leaves 64 bits.
MAX_LEVELS = 11  # resolutions: 1,024 pixels of the image per pixel of the latents, as in a manifest; SD has 4
MAX_WIDTH = 2**14  # channels of a layer; SDXL has 2,048
MAX_INNER_WIDTH = 2**16  # a transformer's middle layer; CLIP bigG has 5,120
MAX_CHANNELS = 2**12  # latents, as in a manifest
MAX_LAYERS = 64  # transformer; CLIP bigG has 32
MAX_LAYERS_PER_BLOCK = 32  # SD has 2
MAX_BLOCKS = 512  # residual and transformer blocks in a UNet; SDXL has 87
MAX_SIDE = 2**13  # pixels of an image's side, as in a manifest
MAX_VOCABULARY = 2**20  # CLIP has 49,408
MAX_WINDOW = 2**12  # tokens; CLIP has 77
EPSILON = (1e-15, 1.0)  # added to a variance by norms: less is lost in float32, more is no normalisation
SCALE = (1e-6, 1e6)  # latents, as in a manifest: factors by which a float32 is scaled without loss

# Keys that diffusers and transformers add about the file itself.
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
    BOUNDS: ClassVar[dict[str, tuple[float, float]]]  # field -> smallest and largest number, of each where it has many

    def __post_init__(self) -> None:
        """Hold every field to its annotation, where an integer is a float too, and to its bounds."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list | tuple) and len(value) > MAX_LEVELS:
                self._refuse(field.name, f"must be a list of {MAX_LEVELS} at most")
            try:
                object.__setattr__(self, field.name, strict_json.read(field.type, value, field.name))  # type: ignore[arg-type]
            except FormatError as error:
                raise ConfigError(f"{self.CLASS_NAME}: {error}") from None
        for name, (low, high) in self.BOUNDS.items():
            numbers = _numbers(getattr(self, name))
            self.require(all(low <= number <= high for number in numbers), name, f"from {low:.10g} to {high:.10g}")

    @classmethod
    def from_dict(cls, data: object, where: str = "the config") -> Self:
        """Read a parsed config.json; `where` names the file in messages.

        An option that is absent has the default of the library that wrote the file; a switch that is null is off, as
        in that library. Raises ConfigError naming the first option that has a value that is not supported, or that the
        class does not have and that may have been meant.
        """
        if not isinstance(data, dict):
            raise ConfigError(f"{where} is not a JSON object but {type(data).__name__}")
        cls._require_kind(data, where)
        switches = {field.name: field.type is bool for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for key, value in data.items():
            if key in switches:
                values[key] = False if value is None and switches[key] else value
            elif key in cls.ONLY and not cls._accepts(key, value):
                wanted = " or ".join(repr(accepted) for accepted in cls.ONLY[key])
                raise ConfigError(f"{where} has {key} = {shown(value)}, which is not supported: it must be {wanted}")
        require_inert(data, cls.unknown(data), cls._options(), where)
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    @classmethod
    def unknown(cls, data: object) -> tuple[str, ...]:
        """Return the keys of a parsed config.json that are no option of the class: its library ignores them."""
        return tuple(sorted(data.keys() - cls._options() - NOTES)) if isinstance(data, dict) else ()

    @classmethod
    def _options(cls) -> set[str]:
        return {field.name for field in dataclasses.fields(cls)} | cls.ONLY.keys() | cls.INERT

    @classmethod
    def _accepts(cls, key: str, value: object) -> bool:
        """Return whether a key of `ONLY` may have a value; null is off, like False."""
        off = value is None and any(accepted is False for accepted in cls.ONLY[key])
        return off or any(_same(value, accepted) for accepted in cls.ONLY[key])

    def to_dict(self) -> dict[str, Any]:
        """Return a config.json that the library which defined it opens."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**self._kind(), **{name: _lists(value) for name, value in values.items()}}

    def require(self, holds: bool, name: str, wanted: str) -> None:
        """Raise ConfigError about the field `name` unless `holds`."""
        if not holds:
            self._refuse(name, f"must be {wanted}")

    def _refuse(self, name: str, what: str) -> typing.NoReturn:
        value = getattr(self, name)
        text = shown(list(value) if isinstance(value, tuple) else value)
        raise ConfigError(f"{self.CLASS_NAME} has {name} = {text}, which is not supported: it {what}")

    @classmethod
    def _kind(cls) -> dict[str, Any]:
        """Return the entries of config.json that name the model's class."""
        return {"_class_name": cls.CLASS_NAME}

    @classmethod
    def _require_kind(cls, data: dict[str, Any], where: str) -> None:
        if data.get("_class_name") != cls.CLASS_NAME:
            found = data.get("_class_name")
            raise ConfigError(f"{where} has _class_name {shown(found)}; supported is {cls.CLASS_NAME!r}")


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers of a field: its own, those of its list, or none for None."""
    if isinstance(value, tuple):
        for each in value:
            yield from _numbers(each)
    elif value is not None:
        yield value


def _lists(value: Any) -> Any:
    """Return the value of a field as JSON has it."""
    return [_lists(each) for each in value] if isinstance(value, tuple) else value


def _same(value: object, accepted: object) -> bool:
    """Compare so that True is not 1 and False is not 0."""
    return value == accepted and isinstance(value, bool) == isinstance(accepted, bool)
