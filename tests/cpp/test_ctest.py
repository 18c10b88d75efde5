"""The C++ runtime's own tests, each a program, in a release build."""

from pathlib import Path

import pytest

from tests.cpp.cpp_build import SOURCE, built, ctest

pytestmark = pytest.mark.slow
TESTS = sorted(file.stem for file in (SOURCE / "tests").glob("*_test.cpp"))


@pytest.fixture(scope="module")
def release() -> Path:
    return built("cpp")


@pytest.mark.parametrize("name", TESTS)
def test_of_the_release_build(release: Path, name: str) -> None:
    ctest(release, name)
