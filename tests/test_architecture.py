"""The architecture as a test, as far as no tool checks it. The layers are in pyproject.toml, for import-linter."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNTIME = ROOT / "runtime" / "ldm_runtime"
EXPORT = ROOT / "ldm_export"
PEERS = ROOT / "benchmarks" / "peers" / "programs"


def imported_modules(file: Path) -> set[str]:
    """Every absolute module name that a file imports anywhere, functions included; `from a import b` gives a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("__import__", "import_module", "importlib.import_module"), f"{file}: {called}"
    return names


def files_of(*folders: Path) -> list[Path]:
    return sorted(file for folder in folders for file in folder.rglob("*.py"))


def test_no_import_is_hidden_from_the_linter():
    for file in files_of(RUNTIME, EXPORT):
        imported_modules(file)


def test_the_program_of_a_peer_imports_nothing_of_this_project():
    """It runs where only the peer is installed; the runtime's own program needs the runtime and no more."""
    for file in files_of(PEERS):
        names = imported_modules(file)
        allowed = {"ldm_runtime"} if file.name == "ours.py" else set()
        assert {name.partition(".")[0] for name in names} & {"ldm_runtime", "ldm_export", "click"} <= allowed, file
        ours = {name for name in names if name.startswith("benchmarks")}
        assert all(name.startswith("benchmarks.peers.programs.") for name in ours), file


def test_every_file_says_its_job_in_its_first_line():
    for file in files_of(RUNTIME, EXPORT):
        docstring = ast.get_docstring(ast.parse(file.read_text()))
        assert docstring is not None and len(docstring.splitlines()[0]) > 20, file


def test_no_file_reads_environment_switches():
    for file in files_of(EXPORT):
        assert "os.environ" not in file.read_text() or file == EXPORT / "train" / "emoji.py", file


def test_the_fixtures_that_make_a_test_slow_are_there_once():
    """They go by their names: one that is called otherwise would make its tests quick, another of its name slow."""
    text = "\n".join(file.read_text() for file in files_of(ROOT / "tests"))
    found = re.findall(r"^@pytest\.fixture.*\ndef (\w+)\(", text, flags=re.MULTILINE)
    from tests.conftest import BUILDS

    assert {name: found.count(name) for name in BUILDS} == dict.fromkeys(BUILDS, 1)


@pytest.mark.parametrize("name", ["TemporaryDirectory", "mkdtemp"])
def test_temporary_folders_are_those_that_a_later_call_sweeps(name):
    """`atomic.scratch_folder` and its like: one of Python's own would stay for good after a kill."""
    for file in files_of(RUNTIME, EXPORT):
        assert re.search(name, file.read_text()) is None, file
