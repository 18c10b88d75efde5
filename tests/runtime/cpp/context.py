"""A context of the C++ library through ctypes, with structures as its header declares them."""

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HEADER = Path(__file__).parents[3] / "runtime" / "cpp" / "include" / "ldm_runtime.h"
NUMBERS = {
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "double": ctypes.c_double,
    "float": ctypes.c_float,
}
LOG = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)


def declared(header: str) -> dict[str, Any]:
    """Return the structures that a header declares, by name."""
    plain = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    made: dict[str, Any] = {}
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\n\} \1;", plain, re.DOTALL):
        fields = [field for line in body.split(";") if line.strip() for field in _fields(" ".join(line.split()), made)]
        made[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
    return made


def _fields(line: str, known: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    if (function := re.fullmatch(r"\S+ \*?\(\*(\w+)\)\(.*\)", line)) is not None:
        yield function[1], ctypes.c_void_p
        return
    kind, names = re.fullmatch(r"(?:const )?(\w+) (.*)", line).groups()  # type: ignore[union-attr]
    for name in names.replace("const ", "").split(", "):
        many = re.fullmatch(r"(\w+)\[(\d+)\]", name)
        if name.startswith("*"):
            pointer: Any = ctypes.c_char_p if kind == "char" and not name.startswith("**") else ctypes.c_void_p
            yield name.replace("*", "").strip(), pointer
        else:
            number = NUMBERS.get(kind, known.get(kind, ctypes.c_int))  # what is left is an enumeration
            yield (many[1], number * int(many[2])) if many is not None else (name, number)


class Refusal(Exception):
    """A call that failed: its code and its sentence."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


class Context:
    """The library with a context alone. `said`: the notices that it gave; `details`: what a developer wants to know."""

    def __init__(self, file: Path) -> None:
        self.calls: Any = ctypes.CDLL(str(file))
        self.structures = declared(HEADER.read_text(encoding="utf-8"))
        for name in ("ldm_error_code", "ldm_error_text"):
            getattr(self.calls, name).restype = ctypes.c_char_p
            getattr(self.calls, name).argtypes = [ctypes.c_void_p]
        self.said: list[str] = []
        self.details: list[str] = []
        self._log = LOG(lambda user, level, text: (self.said if level == 1 else self.details).append(text.decode()))
        self.context = ctypes.c_void_p()
        options = self.begun("ldm_context_options", log=ctypes.cast(self._log, ctypes.c_void_p))
        assert self.calls.ldm_context_create(ctypes.byref(options), ctypes.byref(self.context)) == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.free()

    def free(self) -> None:
        """Free the context, after what was made with it."""
        self.calls.ldm_context_free(self.context)

    def begun(self, structure: str, **values: Any) -> Any:
        """Return a structure that the library began, with some of its fields filled."""
        made = self.structures[structure]()
        getattr(self.calls, f"{structure}_init")(ctypes.byref(made), ctypes.c_size_t(ctypes.sizeof(made)))
        for name, value in values.items():
            assert name in dict(made._fields_), f"{structure} has no field {name}"
            setattr(made, name, value)
        return made

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function that returns a status; raise Refusal unless that is LDM_OK."""
        if getattr(self.calls, name)(self.context, *arguments) != 0:
            code, text = (getattr(self.calls, f"ldm_error_{what}")(self.context).decode() for what in ("code", "text"))
            raise Refusal(code, text)

    def refusal(self, name: str, *arguments: Any) -> tuple[str, str] | None:
        """Return the code and the sentence with which a call is refused; None: it is not."""
        try:
            self.call(name, *arguments)
        except Refusal as refused:
            return refused.code, refused.text
        return None
