"""The architecture as a test: who may import whom, lazy imports included, and that the runtime stays light."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNTIME = ROOT / "runtime" / "ldm_runtime"
EXPORT = ROOT / "ldm_export"
BENCHMARKS = ROOT / "benchmarks"
PEERS = BENCHMARKS / "peer_programs"
ORACLES = {"diffusers", "transformers", "optimum"}
HEAVY = {"torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "h5py", "resvg_py"}

# Part of ldm_export -> the modules of this project that it may import. What is not listed may import anything
# of ldm_export but the CLI.
ALLOWED = {
    "models": {"ldm_export.configs.config", "ldm_export.models", "ldm_runtime.errors"},
    "config.py": {"ldm_export.configs.strict", "ldm_runtime.checks", "ldm_runtime.errors"},
    "config_rules.py": {"ldm_runtime.checks", "ldm_runtime.errors"},
    "optimise": {"ldm_export.optimise", "ldm_runtime.errors", "ldm_runtime.files.atomic"},
    "isolate.py": {"ldm_export.process.faults", "ldm_runtime.errors"},
    "metrics.py": set(),
}


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


def files_of(part: Path) -> list[Path]:
    return [part] if part.is_file() else sorted(part.rglob("*.py"))


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("file", files_of(RUNTIME), ids=lambda file: file.name)
def test_the_runtime_imports_nothing_heavy(file):
    forbidden = HEAVY | ORACLES | {"ldm_export", "click", "scipy"}
    assert not tops(imported_modules(file)) & forbidden


@pytest.mark.parametrize("file", files_of(EXPORT), ids=lambda file: str(file.relative_to(EXPORT)))
def test_the_product_never_imports_an_oracle_or_the_cli(file):
    names = imported_modules(file)
    assert not tops(names) & ORACLES
    assert not {name for name in names if name.startswith("ldm_export.cli.main")}


def test_only_the_programs_of_the_peers_import_a_peer():
    for file in files_of(BENCHMARKS):
        assert file.parent == PEERS or not tops(imported_modules(file)) & ORACLES, file


@pytest.mark.parametrize("file", files_of(PEERS), ids=lambda file: file.name)
def test_the_program_of_a_peer_imports_nothing_of_this_project(file):
    """It runs where only the peer is installed; the runtime's own program needs the runtime and no more."""
    allowed = {"ldm_runtime"} if file.name == "ours.py" else set()
    names = imported_modules(file)
    assert tops(names) & {"ldm_runtime", "ldm_export", "click"} <= allowed
    assert all(name.startswith("benchmarks.peers.programs.") for name in names if name.startswith("benchmarks"))


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_a_part_imports_only_what_the_design_lets_it(part):
    files = files_of(EXPORT / part)
    assert files
    for file in files:
        for name in imported_modules(file):
            if name.startswith(("ldm_export", "ldm_runtime")):
                allowed = any(f"{name}.".startswith(f"{prefix}.") for prefix in ALLOWED[part])
                assert allowed, f"{file.name} imports {name}"


@pytest.mark.parametrize("part", ["optimise", "verify.py", "report.py", "metrics.py", "describe.py", "isolate.py"])
def test_what_works_on_files_needs_no_torch(part):
    for file in files_of(EXPORT / part):
        assert "torch" not in tops(imported_modules(file)), file


def test_every_file_says_its_job_in_its_first_line():
    for file in files_of(RUNTIME) + files_of(EXPORT):
        docstring = ast.get_docstring(ast.parse(file.read_text()))
        assert docstring is not None and len(docstring.splitlines()[0]) > 20, file


def test_no_file_reads_environment_switches():
    for file in files_of(EXPORT):
        assert "os.environ" not in file.read_text() or file.name in {"data.py"}, file


@pytest.mark.parametrize("file", [*files_of(RUNTIME), *files_of(EXPORT)], ids=lambda file: file.name)
def test_temporary_folders_are_those_that_a_later_call_sweeps(file):
    """`atomic.scratch_folder` and its like: one of Python's own would stay for good after a kill."""
    assert re.search(r"TemporaryDirectory|mkdtemp", file.read_text()) is None
