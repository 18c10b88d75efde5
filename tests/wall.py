"""Runs a program in a process where importing some packages raises."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAM = """
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Wall())
sys.path[:0] = {paths!r}
{body}
"""


def run_behind_wall(
    body: str, *, blocked: Sequence[str], paths: Sequence[Path], timeout: int = 300
) -> "subprocess.CompletedProcess[str]":
    """The finished process, with what it printed. Of our own code it can import what lies in `paths` alone."""
    program = PROGRAM.format(blocked=list(blocked), paths=[str(path) for path in paths], body=body)
    # -P and an empty PYTHONPATH: the repository root, where ldm_export lies, is not on the path by itself
    return subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
        timeout=timeout,
    )
