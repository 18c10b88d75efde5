"""Every program of benchmarks/ starts from any folder after an installation, which holds no benchmarks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def installed() -> str:
    """Return the folders of modules of this environment, without those of the clone."""
    return os.pathsep.join(path for path in sys.path if path and not (Path(path) / "benchmarks").exists())


@pytest.mark.parametrize("name", ["peers.py", "picture_quality.py"])
def test_a_door_opens_from_another_folder(tmp_path, name):
    # -S: no .pth file of an editable installation brings the clone
    command = [sys.executable, "-S", "-P", BENCHMARKS / name, "--help"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": installed()}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert f"python benchmarks/{name}" in done.stdout
