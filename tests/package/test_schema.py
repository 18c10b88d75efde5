"""The JSON Schema of a manifest says what the runtime's reader reads, and is the file that is shipped."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ldm_export.package.schema import manifest_schema
from ldm_runtime.pipeline import builtin_package

ROOT = Path(__file__).parents[2]
FILE = ROOT / "runtime" / "schema" / "manifest.schema.json"
PACKAGES = [builtin_package(), ROOT / "tests" / "golden" / "package"]


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return json.loads((PACKAGES[1] / "manifest.json").read_text(encoding="utf-8"))


def errors(value: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(manifest_schema()).iter_errors(value)]


def test_the_file_is_made_of_the_dataclasses() -> None:
    """`python -m ldm_export.package.schema > runtime/schema/manifest.schema.json` writes it."""
    assert json.loads(FILE.read_text(encoding="utf-8")) == manifest_schema()


@pytest.mark.parametrize("package", PACKAGES, ids=["built-in", "golden"])
def test_manifests_are_valid(package: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(manifest_schema())
    assert errors(json.loads((package / "manifest.json").read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema_version",), 2),
        (("surprise",), 1),
        (("contract", "denoiser", "extra"), {"x": "magic"}),
        (("contract", "axes", "batch", "multiple_of"), 3),
        (("contract", "text"), {}),
        (("components", "unet", "artefacts", 0, "exactness"), "nearly"),
    ],
)
def test_what_the_reader_refuses_by_type_is_not_valid(manifest: dict[str, Any], place: tuple, value: Any) -> None:
    changed = copy.deepcopy(manifest)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert errors(changed) != []
