"""Every program of benchmarks/ starts from any folder after an installation, which holds no benchmarks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.peers import run as peers

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DOORS = (
    "auto_rules.py",
    "cold.py",
    "exact_savings.py",
    "native_start.py",
    "peers.py",
    "picture_quality.py",
    "roofline.py",
    "stage_memory.py",
)


def installed() -> str:
    """Return the folders of modules of this environment, without those of the clone."""
    return os.pathsep.join(path for path in sys.path if path and not (Path(path) / "benchmarks").exists())


@pytest.mark.slow
@pytest.mark.parametrize("name", DOORS)
def test_a_door_opens_from_another_folder(tmp_path, name):
    # -S: no .pth file of an editable installation brings the clone
    command = [sys.executable, "-S", "-P", BENCHMARKS / name, "--help"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": installed()}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert f"python benchmarks/{name}" in done.stdout


@pytest.mark.parametrize("module", ["onnx", "onnxsim"])
def test_what_is_not_installed_is_one_sentence(tmp_path, module):
    (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError('no', name={module!r})", encoding="utf-8")
    command = [sys.executable, "-P", BENCHMARKS / "beside_onnxsim.py", "--help"]
    path = os.pathsep.join((str(tmp_path), *sys.path))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {module} is not installed; install it with: pip install '.[cpu,export,onnxsim]'\n"


def test_peers_without_torch_is_one_sentence(tmp_path, monkeypatch):
    def compare(*arguments, **options):
        raise ModuleNotFoundError("no", name="torch")

    monkeypatch.setattr(peers, "compare", compare)
    result = CliRunner().invoke(peers.main, ["--out", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output == "Error: torch is not installed; install it with: pip install '.[cpu,export]'\n"
