"""The programs of the C++ library's tests, built once."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[3] / "runtime" / "cpp"


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of the programs of runtime/cpp/tests/programs. The variable LDM_CPP_PROGRAMS may name one."""
    given = os.environ.get("LDM_CPP_PROGRAMS")
    if given is not None:
        return Path(given)
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with FileLock(build / ".lock"):
        for command in (["cmake", "-S", str(ROOT), "-B", str(build)], ["cmake", "--build", str(build), "-j", "2"]):
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    return build / "tests"


@pytest.fixture(scope="session")
def onnxruntime_library() -> Path:
    """The shared library of the ONNX Runtime that Python has here."""
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None and spec.origin is not None
    libraries = sorted((Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*"))
    assert libraries, "onnxruntime is installed without its shared library"
    return libraries[0]
