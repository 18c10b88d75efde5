"""What the shared library shows to programs, and how they find it."""

import re
from pathlib import Path

import pytest

from ldm_runtime import __version__
from ldm_runtime.errors import CODES
from tests.cpp.cpp_build import SOURCE, built, pkg_config, program, run

pytestmark = pytest.mark.slow
HEADER = (SOURCE / "include" / "ldm_runtime.h").read_text(encoding="utf-8")
CONSUMER = Path(__file__).parent / "consumer"


@pytest.fixture(scope="module")
def release() -> Path:
    return built("cpp")


@pytest.fixture(scope="module")
def installed(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    run("cmake", "--install", release, "--prefix", folder)
    return folder


def functions() -> set[str]:
    return set(re.findall(r"^LDM_API [^;]*?\b(ldm_\w+)\(", HEADER, re.MULTILINE))


def test_nothing_but_the_interface_is_exported(release: Path) -> None:
    lines = run("nm", "-D", "--defined-only", release / "libldm_runtime.so").splitlines()
    exported = {line.split()[-1].split("@")[0] for line in lines}
    assert exported == functions()


# What the header for C++ does not wrap.
NOT_WRAPPED = {
    "ldm_abi_version": "no handle, and nothing to free",
    "ldm_version": "no handle, and nothing to free",
    "ldm_status_name": "no handle, and nothing to free",
}


def pointers() -> dict[str, list[int]]:
    """Return the places of each function's arguments that may be NULL, with those of a text that is given by value."""
    found = re.findall(r"^LDM_API [^;]*?\b(ldm_\w+)\(([^;]*)\);", HEADER, re.MULTILINE)
    places = {
        name: [place for place, each in enumerate(parameters.split(",")) if re.search(r"[*\[]|^\s*ldm_text ", each)]
        for name, parameters in found
    }
    return {name: its for name, its in places.items() if its}


def test_every_pointer_of_every_function_is_once_null(release: Path) -> None:
    """By a call in which no pointer before it is NULL, so that it is this one that is looked at."""
    calls = run(str(release / "tests" / "nulls_test"), "print").splitlines()
    made: dict[str, list[str]] = {}
    for call in calls:
        name, nulls = call.split()
        made.setdefault(name, []).append(nulls)
    lacking = [
        f"{name}: argument {place}"
        for name, places in pointers().items()
        for index, place in enumerate(places)
        if not any(
            nulls[place] == "1" and all(nulls[before] == "0" for before in places[:index])
            for nulls in made.get(name, [])
        )
    ]
    assert len(pointers()) > 40 and not lacking


def test_the_header_for_cpp_has_every_function() -> None:
    text = (SOURCE / "include" / "ldm_runtime.hpp").read_text(encoding="utf-8")
    used = set(re.findall(r"\bldm_\w+\b", re.sub(r"//.*", "", text))) & functions()
    assert functions() - used == set(NOT_WRAPPED)


def test_the_codes_are_those_of_python() -> None:
    codes = re.findall(r'= "([a-z.-]+)";', (SOURCE / "core" / "codes.h").read_text(encoding="utf-8"))
    own = {"other.memory", "other.misuse"}
    assert len(codes) == len(set(codes)) and set(codes) == {*CODES, "proof.invalid", *own}


def test_the_library_has_the_runtime_s_version() -> None:
    assert f"VERSION {__version__} " in (SOURCE / "CMakeLists.txt").read_text(encoding="utf-8")


def test_both_licences_are_installed(installed: Path) -> None:
    assert {file.name for file in (installed / "share" / "doc").rglob("LICENSE*")} == {"LICENSE", "LICENSE.lodepng"}


def test_programs_find_the_installed_library_with_cmake(installed: Path, tmp_path: Path) -> None:
    """The program is C99, and compiled with every warning an error."""
    make = f"-DCMAKE_MAKE_PROGRAM={program('ninja')}"
    run("cmake", "-S", CONSUMER, "-B", tmp_path, "-G", "Ninja", make, f"-DCMAKE_PREFIX_PATH={installed}")
    run("cmake", "--build", tmp_path)
    assert run(str(tmp_path / "consumer")) == f"{__version__} 1\n"


def test_programs_find_the_installed_library_with_pkg_config(installed: Path, tmp_path: Path) -> None:
    def said(*asked: str) -> str:
        return pkg_config(installed, "ldm_runtime", *asked)

    assert Path(said("--variable=prefix")).resolve() == installed.resolve()
    flags, library = said("--cflags", "--libs").split(), said("--variable=libdir")
    source, out = CONSUMER / "consumer.c", tmp_path / "consumer"
    run("cc", source, "-o", out, *flags, f"-Wl,-rpath,{library}")
    assert run(str(out)) == f"{__version__} 1\n"


def test_another_version_is_not_found(installed: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    lines = "cmake_minimum_required(VERSION 3.20)\nproject(x C)\nfind_package(ldm_runtime 99.0 REQUIRED)\n"
    (project / "CMakeLists.txt").write_text(lines)
    with pytest.raises(AssertionError, match="99.0"):
        run("cmake", "-S", project, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={installed}")
