"""The programs of the C++ library's tests, built once."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cpp.cpp_build import built
from tests.runtime.cpp.context import Context


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of the programs of runtime/cpp/tests/programs. The variable LDM_CPP_PROGRAMS may name one."""
    given = os.environ.get("LDM_CPP_PROGRAMS")
    if given is not None:
        return Path(given)
    return built("cpp") / "tests"


@pytest.fixture(scope="session")
def library_file() -> Path:
    """The shared library. The variable LDM_CPP_LIBRARY may name one."""
    given = os.environ.get("LDM_CPP_LIBRARY")
    return built("cpp") / "libldm_runtime.so" if given is None else Path(given)


@pytest.fixture(scope="session")
def context(library_file: Path) -> Iterator[Context]:
    """The shared library with a context, and no package."""
    with Context(library_file) as made:
        yield made


@pytest.fixture(scope="session")
def onnxruntime_library() -> Path:
    """The shared library of the ONNX Runtime that Python has here."""
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None and spec.origin is not None
    libraries = sorted((Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*"))
    assert libraries, "onnxruntime is installed without its shared library"
    return libraries[0]
