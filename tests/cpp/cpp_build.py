"""Builds runtime/cpp for tests, in a folder under build/ that is kept: what has not changed is not compiled again."""

import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "runtime" / "cpp"
# Ten sources at a time: what they all include is compiled once for them.
TOGETHER = {"CMAKE_UNITY_BUILD": "ON", "CMAKE_UNITY_BUILD_BATCH_SIZE": "10"}


@cache
def built(name: str, source: Path = SOURCE, **settings: str) -> Path:
    """Configure and build with these settings of CMake, and return the folder; fail where there is no compiler.

    Once per process and settings: sources do not change while tests run.
    """
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        pytest.fail(f"{compiler} is not installed; the C++ runtime's tests need a compiler for C++17")
    folder = ROOT / "build" / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        values = [f"-D{key}={value}" for key, value in (TOGETHER | settings).items()]
        run("cmake", "-S", source, "-B", folder, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={program('ninja')}", *values)
        run("cmake", "--build", folder)
    return folder


def ctest(folder: Path, name: str) -> None:
    run("ctest", "--test-dir", folder, "-R", f"^{name}$", "--output-on-failure", "--no-tests=error")


def run(command: str, *arguments: str | Path) -> str:
    """Run a program and return what it writes; fail with that if it ends otherwise than with 0."""
    result = subprocess.run(
        [program(command), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )
    assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stdout[-20000:]}"
    return result.stdout


def pkg_config(prefix: Path, module: str, *asked: str) -> str:
    """Return what pkg-config says of an installed module; the Python package pkgconf brings that program."""
    folder = next(prefix.rglob(f"{module}.pc")).parent
    command = [program("pkg-config"), *asked, module]
    values = {"PKG_CONFIG_PATH": str(folder)}
    return subprocess.run(command, env=values, check=True, capture_output=True, text=True).stdout.strip()


def environment() -> dict[str, str]:
    """This process's environment, with the ONNX Runtime of the Python package."""
    values = dict(os.environ)
    package = find_spec("onnxruntime")
    if "LDM_ONNXRUNTIME" not in values and package is not None and package.origin is not None:
        found = sorted((Path(package.origin).parent / "capi").glob("libonnxruntime.so*"))
        values |= {"LDM_ONNXRUNTIME": str(found[0])} if found else {}
    return values


def program(name: str) -> str:
    """Return the path of a program, from this Python's environment first."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name) or name
