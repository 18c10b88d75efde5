"""Calls of the command line, in this process and in one of its own, and what a refusal has to look like."""

import os
import re
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from ldm_export.cli.main import verbs

GOLDEN = Path(__file__).parents[1] / "golden"
ROOT = Path(__file__).parents[2]


def notes(result: Result) -> list[str]:
    """The notes but the one that a package without proof, as here, always has."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    return [line for line in lines if "has not passed verification" not in line]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(verbs, [str(argument) for argument in arguments])


def refused(result: Result, pattern: str) -> None:
    """Exit code 1 and exactly one line on stderr, which says what the pattern wants."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert re.search(pattern, lines[0]), lines[0]
    assert "Traceback" not in result.output


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def start(*arguments: object, cwd: Path, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runtime'}"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "ldm_export", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for(process: subprocess.Popen, text: str) -> None:
    """Read the process's progress until it says `text`."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"the process ended without saying {text!r}")
