"""What the tests of outputs share: processes that are killed, folders to replace."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
ROOT = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts need root")


def anything(folder: Path) -> None:
    """The kind of folder that may always be replaced."""


def run(program: str, *arguments: object, **kwargs) -> subprocess.CompletedProcess:
    """A program in a process of its own, which imports what these tests import."""
    start = (
        "import os, signal, sys; from pathlib import Path; from ldm_runtime.files import atomic, journal, replacing\n"
        "from ldm_runtime.files.atomic import *\nfrom ldm_runtime.errors import LdmError\n"
        "anything = lambda folder: None\n"
        "def die(*arguments): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", start + program, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, **kwargs)


def killed(program: str, *arguments: object) -> None:
    done = run(program, *arguments)
    assert done.returncode == -signal.SIGKILL, done.stderr


def folder_of(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path
