"""The distributions agree. `scripts/check_wheels.sh` installs and uses them."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import ldm_runtime
from ldm_export.cli.main import verbs

ROOT = Path(__file__).parents[1]


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


EXPORT, RUNTIME, NATIVE = project(ROOT), project(ROOT / "runtime"), project(ROOT / "runtime" / "cpp")


@pytest.mark.parametrize("engine", sorted(RUNTIME["project"]["optional-dependencies"]))
def test_an_engine_is_the_same_requirement_in_both(engine):
    needed = set(RUNTIME["project"]["optional-dependencies"][engine])
    assert needed <= set(EXPORT["project"]["optional-dependencies"][engine])


def test_the_version_stands_in_one_place():
    for folder, metadata in ((ROOT, EXPORT), (ROOT / "runtime", RUNTIME), (ROOT / "runtime" / "cpp", NATIVE)):
        assert "version" not in metadata["project"] and "version" in metadata["project"]["dynamic"]
        place = folder / metadata["tool"]["hatch"]["version"]["path"]
        assert place.resolve() == Path(ldm_runtime.__file__).resolve()
    assert (
        CliRunner().invoke(verbs, ["--version"], prog_name="ldm-export").output
        == f"ldm-export, version {ldm_runtime.__version__}\n"
    )


def test_the_runtime_needs_no_exporter():
    needed = " ".join(RUNTIME["project"]["dependencies"])
    assert not any(name in needed for name in ("torch", "onnx", "click", "ldm-export"))


def test_the_library_brings_the_engine_of_the_runtime_and_needs_nothing():
    assert "dependencies" not in NATIVE["project"]
    for extra, needed in NATIVE["project"]["optional-dependencies"].items():
        assert needed == RUNTIME["project"]["optional-dependencies"][extra]


def test_all_are_typed_and_carry_the_licence():
    native = ROOT / "runtime" / "cpp" / "python" / "ldm_runtime_native"
    for package in (ROOT / "ldm_export", ROOT / "runtime" / "ldm_runtime", native):
        assert (package / "py.typed").is_file()
    for copy in (ROOT / "runtime" / "LICENSE", ROOT / "runtime" / "cpp" / "LICENSE"):
        assert copy.read_bytes() == (ROOT / "LICENSE").read_bytes()
