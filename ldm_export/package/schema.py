"""manifest.json as a JSON Schema (draft 2020-12), made of the runtime's dataclasses.

`python -m ldm_export.package.schema` prints `runtime/schema/manifest.schema.json`: readers in other languages have no
dataclasses to reflect on. What goes beyond types (`ldm_runtime.package.rules`) is not in it.
"""

import dataclasses
import inspect
import json
import types
import typing
from typing import Any, Literal

from ldm_runtime.files.strict_json import is_optional
from ldm_runtime.package.manifest import SCHEMA_VERSION, Manifest

Schema = dict[str, Any]
_SCALARS: dict[Any, Schema] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


def manifest_schema() -> Schema:
    """Describe what `ldm_runtime.package.manifest_json.parse` reads."""
    definitions: dict[str, Schema] = {}
    reference = _schema(Manifest, definitions)
    definitions["Manifest"]["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "manifest.json of an ldm package",
        **reference,
        "$defs": dict(sorted(definitions.items())),
    }


def _schema(kind: Any, definitions: dict[str, Schema]) -> Schema:
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # a place in case it refers to itself
            definitions[kind.__name__] = _object(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is tuple:
        items = [_schema(each, definitions) for each in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(each, definitions) for each in arguments]}
    return _SCALARS[kind]


def _object(kind: type, definitions: dict[str, Schema]) -> Schema:
    hints = typing.get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(kind)]
    optional = {field.name for field in dataclasses.fields(kind) if is_optional(field)}
    has_docstring = kind.__doc__ is not None and not kind.__doc__.startswith(f"{kind.__name__}(")
    return {
        **({"description": inspect.getdoc(kind)} if has_docstring else {}),
        "type": "object",
        "properties": {name: _schema(hints[name], definitions) for name in fields},
        "required": [name for name in fields if name not in optional],
        "additionalProperties": False,
    }


if __name__ == "__main__":
    print(json.dumps(manifest_schema(), indent=1, ensure_ascii=False))
