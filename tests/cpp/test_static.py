"""The library within a program: as a part of its tree, as an archive, and without files, threads and engines."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from ldm_runtime import __version__
from ldm_runtime.pipeline import BUILTIN
from tests.cpp.cpp_build import SOURCE, built, program, run

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
KIT = HERE.parent / "golden" / "package"
TEXTS = (KIT / "manifest.json", KIT / "tokenizer" / "tokenizer.json")
SYSTEM = {"open", "open64", "fopen", "fopen64", "pthread_create", "dlopen", "mmap", "read", "write", "getenv"}


@pytest.fixture(scope="module")
def embedded() -> Path:
    """The build of an application that has the library as a part of its tree."""
    return built("cpp-static", HERE / "embedded", CMAKE_BUILD_TYPE="Release")


@pytest.fixture(scope="module")
def static(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    run("cmake", "--install", embedded, "--prefix", folder)
    return folder


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed archive that knows no system."""
    folder = tmp_path_factory.mktemp("steps")
    run("cmake", "--install", built("cpp-steps", LDM_BUILD_LIBRARY="OFF", LDM_BUILD_TESTS="OFF"), "--prefix", folder)
    return folder


def consume(folder: Path, prefix: Path, *settings: str) -> Path:
    """Build a program that finds what is installed, and return it."""
    values = (
        f"-DCMAKE_MAKE_PROGRAM={program('ninja')}",
        f"-DCMAKE_PREFIX_PATH={prefix}",
        "-DLANGUAGES=C;CXX",
        *settings,
    )
    run("cmake", "-S", HERE / "consumer", "-B", folder, "-G", "Ninja", *values)
    run("cmake", "--build", folder)
    return folder / "consumer"


def flags_of(prefix: Path) -> list[str]:
    """Return what pkg-config says of what is installed."""
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")
    folder = next(prefix.rglob("ldm_runtime.pc")).parent
    asked = ["pkg-config", "--cflags", "--libs", "ldm_runtime"]
    said = subprocess.run(asked, env={"PKG_CONFIG_PATH": str(folder)}, check=True, capture_output=True, text=True)
    return said.stdout.split()


def test_a_part_of_another_project_is_linked_into_its_program(embedded: Path, tmp_path: Path) -> None:
    run(str(embedded / "embedded"), BUILTIN, "red apple, 3d style", tmp_path / "apple.png", "1", "2")
    with Image.open(tmp_path / "apple.png") as image:
        assert image.info["seed"] == "1"
    assert not list(embedded.rglob("libldm_runtime.so*")) and not list(embedded.rglob("*_test"))


def test_programs_find_the_static_library(static: Path, tmp_path: Path) -> None:
    assert run(str(consume(tmp_path, static))) == f"{__version__} 1\n"
    assert not list(static.rglob("libldm_runtime.so*"))


def test_programs_find_the_static_library_with_pkg_config(static: Path, tmp_path: Path) -> None:
    flags = flags_of(static)
    run("cc", HERE / "consumer" / "consumer.c", "-o", tmp_path / "consumer", *flags)
    assert "-DLDM_STATIC" in flags and run(str(tmp_path / "consumer")) == f"{__version__} 1\n"


def test_a_host_without_files_links_the_functions_for_it(steps: Path, tmp_path: Path) -> None:
    source = SOURCE / "examples" / "own_engine.c"
    found = consume(tmp_path, steps, "-DLIBRARY=ldm_steps", f"-DSOURCE={source}")
    assert "pixels of" in run(str(found), *TEXTS)
    run("cc", source, "-o", tmp_path / "own_engine", *flags_of(steps))
    assert "pixels of" in run(str(tmp_path / "own_engine"), *TEXTS)


def test_the_functions_without_files_ask_no_system(steps: Path) -> None:
    archive = next(steps.rglob("libldm_steps.a"))
    asked = {line.split()[-1].split("@")[0] for line in run("nm", "-u", archive).splitlines() if line.startswith(" ")}
    assert asked and not asked & SYSTEM
    header = (SOURCE / "include" / "ldm_runtime.h").read_text(encoding="utf-8")
    functions = set(re.findall(r"^LDM_API [^;]*?\b(ldm_\w+)\(", header, re.MULTILINE))
    defined = {line.split()[-1] for line in run("nm", "--defined-only", archive).splitlines() if " T ldm_" in line}
    outside = functions - defined
    beginnings = ("ldm_engine_", "ldm_package_options_", "ldm_report_", "ldm_verify", "ldm_check_output")
    files = {
        "ldm_package_open",
        "ldm_package_confirm",
        "ldm_package_describe",
        "ldm_run_save_png",
        "ldm_image_read_png",
    }
    assert {name for name in outside if not name.startswith(beginnings)} == files


@pytest.mark.parametrize("path", ["/nowhere/libonnxruntime.so", "/tmp"])
def test_an_onnxruntime_that_is_no_file_is_refused_at_once(tmp_path: Path, path: str) -> None:
    make = f"-DCMAKE_MAKE_PROGRAM={program('ninja')}"
    with pytest.raises(AssertionError, match=r"LDM_ONNXRUNTIME\s+is\s+" + path):
        run("cmake", "-S", SOURCE, "-B", tmp_path, "-G", "Ninja", make, f"-DLDM_ONNXRUNTIME={path}")


def test_without_onnxruntime_its_tests_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LDM_ONNXRUNTIME", "")
    said = run("cmake", "-S", SOURCE, "-B", tmp_path, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={program('ninja')}")
    named = re.search(r"these tests are left out: (.*)", said)
    listed = set(re.findall(r"Test +#\d+: (\w+)", run("ctest", "--test-dir", tmp_path, "-N")))
    assert named is not None and "engine_test" in named[1].split(", ") and "steps_test" in listed
    assert not listed & set(named[1].split(", "))
