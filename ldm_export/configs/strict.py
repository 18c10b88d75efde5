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

from ldm_export.errors import ConfigError
from ldm_runtime.checks import shown

# The largest sizes that a config may have, many times those of any published model. A model within them is laid out
# without its weights in seconds, and no product of its sizes leaves 64 bits.
MAX_LEVELS = 11  # resolutions: 1,024 pixels of the picture per pixel of the latents, as in a manifest; SD has 4
MAX_WIDTH = 2**14  # channels of a layer; SDXL has 2,048
MAX_INNER_WIDTH = 2**16  # of a transformer's middle layer; CLIP bigG has 5,120
MAX_CHANNELS = 2**12  # of the latents, as in a manifest
MAX_LAYERS = 64  # of a transformer; CLIP bigG has 32
MAX_LAYERS_PER_BLOCK = 32  # SD has 2
MAX_BLOCKS = 512  # residual and transformer blocks of a whole UNet; SDXL has 87
MAX_SIDE = 2**13  # pixels of a picture's side, as in a manifest
MAX_VOCABULARY = 2**20  # CLIP has 49,408
MAX_WINDOW = 2**12  # tokens; CLIP has 77
EPSILON = (1e-15, 1.0)  # what norms add to a variance: less is lost in float32, more is no normalisation
SCALE = (1e-6, 1e6)  # of the latents, as in a manifest: what a float32 can be scaled by without loss

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
    BOUNDS: ClassVar[dict[str, tuple[float, float]]]  # field -> smallest and largest number, of each where it has many

    def __post_init__(self) -> None:
        """Holds every field to its annotation, where an integer is a real number too, and to its bounds."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and len(value) > MAX_LEVELS:
                self._refuse(field.name, f"a list of {MAX_LEVELS} at most")
            if not _has_type(value, field.type):
                self._refuse(field.name, f"of type {getattr(field.type, '__name__', field.type)}")
        for name, (low, high) in self.BOUNDS.items():
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else () if value is None else (value,)
            self.require(all(low <= number <= high for number in numbers), name, f"from {low:.10g} to {high:.10g}")

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
                    raise ConfigError(
                        f"{where} has {key} = {shown(value)}, which is not supported: it must be {wanted}"
                    )
            elif key not in cls.INERT and key not in NOTES:
                raise ConfigError(f"{where} has the unknown option {_short(key)} = {shown(value)}")
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

    def _refuse(self, name: str, wanted: str) -> typing.NoReturn:
        value = getattr(self, name)
        text = shown(list(value) if isinstance(value, tuple) else value)
        raise ConfigError(f"{self.CLASS_NAME} has {name} = {text}, which is not supported: it must be {wanted}")

    @classmethod
    def _kind(cls) -> dict[str, Any]:
        """The entries of config.json that name the model's class."""
        return {"_class_name": cls.CLASS_NAME}

    @classmethod
    def _require_kind(cls, data: dict[str, Any], where: str) -> None:
        if data.get("_class_name") != cls.CLASS_NAME:
            found = data.get("_class_name")
            raise ConfigError(f"{where} has _class_name {shown(found)}; supported is {cls.CLASS_NAME!r}")


def _short(key: str) -> str:
    return key if len(key) <= 60 else key[:57] + "..."


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
        return (isinstance(value, float) and math.isfinite(value)) or type(value) is int
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
