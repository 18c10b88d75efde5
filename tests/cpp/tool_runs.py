"""Runs of the tool `ldm`, and the sentence with which one fails."""

import subprocess
from pathlib import Path
from typing import Any

from ldm_runtime.pipeline import BUILTIN
from tests.cpp.cpp_build import environment

PROMPT = "red apple, 3d style"
VERBS = ("run", "inspect", "plan", "verify")


def ldm(tool: Path, *arguments: str | Path, **how: Any) -> "subprocess.CompletedProcess[str]":
    """Run the tool."""
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "env": environment(), **how}
    return subprocess.run([tool, *map(str, arguments)], stderr=subprocess.PIPE, text=True, timeout=300, **settings)


def draw(tool: Path, out: Path, *arguments: str | Path, **how: Any) -> "subprocess.CompletedProcess[str]":
    given = ("run", BUILTIN, "--prompt", PROMPT, "--seed", "3", "--steps", "2", "--check", "size", "--out", out)
    return ldm(tool, *given, *arguments, **how)


def sentence(done: "subprocess.CompletedProcess[str]", status: int) -> str:
    """Return the one sentence of a run that failed with this status, having printed nothing else."""
    assert (done.returncode, done.stdout or "") == (status, ""), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0].removeprefix("error: ")
