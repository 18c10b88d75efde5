"""The C++ runtime's own tests with the sanitizers, the fuzz targets over their corpus, and valgrind: no bad access, no
leak, no undefined behaviour, no race."""

from pathlib import Path

import pytest

from tests.cpp.cpp_build import SOURCE, built, run

pytestmark = pytest.mark.slow
FLAGS = {"CMAKE_BUILD_TYPE": "Debug", "CMAKE_CXX_FLAGS_DEBUG": "-O1 -g1"}


def test_of_addresses_and_undefined_behaviour() -> None:
    check(built("cpp-address-undefined", LDM_SANITIZE="address,undefined", LDM_BUILD_FUZZERS="ON", **FLAGS))


def test_of_threads() -> None:
    """The library's tests, for the core starts no thread, and of them what does not take minutes with this sanitizer:
    the library's own threads, which hash files, are in the engine's tests."""
    left_out = "^(allocations|png|png_texts|stack|verify)_test$"
    check(built("cpp-thread", LDM_SANITIZE="thread", LDM_TESTS_LEFT_OUT=left_out, **FLAGS))


def test_of_memory_with_valgrind() -> None:
    """Of the release build, what takes a few seconds: runtime/cpp/scripts/valgrind.sh runs all."""
    run(str(SOURCE / "scripts" / "valgrind.sh"), built("cpp"), "-R", "^(steps|prompt|png|json|fields|atomic)_test$")


def check(folder: Path, *chosen: str) -> None:
    run("ctest", "--test-dir", folder, *chosen, "--output-on-failure", "--no-tests=error", "--timeout", "600")
