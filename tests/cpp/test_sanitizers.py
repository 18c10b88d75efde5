"""The C++ runtime's own tests with the sanitizers: no bad access, no leak, no undefined behaviour, no race."""

import pytest

from tests.cpp.cpp_build import built, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_the_sanitizers_find_nothing(sanitizers: str) -> None:
    flags = {"CMAKE_BUILD_TYPE": "Debug", "CMAKE_CXX_FLAGS_DEBUG": "-O1 -g1"}
    folder = built(f"cpp-{sanitizers.replace(',', '-')}", LDM_SANITIZE=sanitizers, **flags)
    run("ctest", "--test-dir", folder, "--output-on-failure", "--no-tests=error", "--timeout", "120")
