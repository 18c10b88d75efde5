"""The library within a program: as a part of its tree, as an archive, and without files, threads and engines."""

import ctypes
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from ldm_runtime import __version__
from ldm_runtime.pipeline import BUILTIN
from tests.cpp.cpp_build import SOURCE, built, pkg_config, program, run

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
KIT = HERE.parent / "golden" / "package"
TEXTS = (KIT / "manifest.json", KIT / "tokenizer" / "tokenizer.json")
# What code may need without asking a system for files, threads, time or chance, as compilers and libraries call it.
ASK_NO_SYSTEM = (
    r"malloc|calloc|realloc|free|aligned_alloc|posix_memalign",
    r"(__)?(mem(chr|rchr|cmp|cpy|move|set|pcpy)|bcmp|str(len|nlen|cmp|ncmp|chr|rchr))(_chk)?",
    r"(__)?(a?(cos|sin|tan)h?|atan2|sincos|exp|exp2|expm1|log|log2|log10|log1p|pow|sqrt|cbrt|hypot|fmod|frexp|ldexp|modf"
    r"|scalbn|ceil|floor|round|trunc|rint|nearbyint|l?lrint|l?lround|fma|fmin|fmax|fabs|erf)f?(_finite|_stret)?",
    # What a compiler calls by itself: arithmetic without an instruction, statics, checks, and a way to end.
    r"_GLOBAL_OFFSET_TABLE_|__dso_handle|__tls_get_addr|__stack_chk_(fail|guard)|__assert_fail|abort",
    r"__(u?(div|mod|divmod)|mul|ashl|ashr|lshr|popcount|clz|ctz|fixuns|float(un)?)[a-z]*[234]|__aarch64_\w+|__atomic_\w+",
    r"__cxa_(guard_\w+|pure_virtual|atexit)|__gxx_personality_v0|_Unwind_Resume",
    # C++: numbers as text, and ends at what is out of range.
    r"_ZNK?St(3?__[12n0-9]*)?(10from_chars|8to_chars)\w+|_ZSt(10from_chars|8to_chars)\w+",
    r"_ZSt\d+(__throw|__glibcxx_assert_fail)\w+|_ZNSt3?__\w*__(throw|libcpp_verbose_abort)\w*|_Zd[la]\w+",
)


@pytest.fixture(scope="module")
def embedded() -> Path:
    """The build of an application that has the library as a part of its tree."""
    quick = {"CMAKE_BUILD_TYPE": "Release", "CMAKE_CXX_FLAGS_RELEASE": "-O1"}  # it is compiled to be linked
    options = {**quick, "LDM_INSTALL": "ON", "LDM_BUILD_TOOL": "ON"}
    return built("cpp-static", HERE / "embedded", **options)


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


def flags_of(prefix: Path, module: str) -> list[str]:
    return pkg_config(prefix, module, "--cflags", "--libs").split()


def needed(file: Path) -> str:
    """Return the shared libraries that a program or library needs."""
    return run("readelf", "--dynamic", file)


def test_a_part_of_another_project_is_linked_into_its_program(embedded: Path, tmp_path: Path) -> None:
    run(str(embedded / "embedded"), BUILTIN, "red apple, 3d style", tmp_path / "apple.png", "1", "2")
    with Image.open(tmp_path / "apple.png") as image:
        assert image.info["seed"] == "1"
    assert not list(embedded.rglob("libldm_runtime.so*")) and not list(embedded.rglob("*_test"))


def test_programs_find_the_static_library(static: Path, tmp_path: Path) -> None:
    assert run(str(consume(tmp_path, static))) == f"{__version__} 1\n"
    assert not list(static.rglob("libldm_runtime.so*"))


def test_programs_find_the_static_library_with_pkg_config(static: Path, tmp_path: Path) -> None:
    flags = flags_of(static, "ldm_runtime-static")
    run("cc", HERE / "consumer" / "consumer.c", "-o", tmp_path / "consumer", *flags)
    assert "-DLDM_STATIC" in flags and run(str(tmp_path / "consumer")) == f"{__version__} 1\n"


def test_a_host_without_files_links_the_functions_for_it(steps: Path, tmp_path: Path) -> None:
    source = SOURCE / "examples" / "own_engine.c"
    found = consume(tmp_path, steps, "-DLIBRARY=ldm_steps", f"-DSOURCE={source}")
    assert "pixels of" in run(str(found), *TEXTS)
    run("cc", source, "-o", tmp_path / "own_engine", *flags_of(steps, "ldm_steps"))
    assert "pixels of" in run(str(tmp_path / "own_engine"), *TEXTS)


def of_a_system(names: set[str]) -> set[str]:
    """Return those of an archive's undefined symbols that may ask a system for something."""
    allowed = re.compile("|".join(f"(?:{pattern})" for pattern in ASK_NO_SYSTEM))
    return {name for name in names if not allowed.fullmatch(name.split("@")[0])}


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (
            True,
            "open openat fopen64 read pread64 mmap stat __open64_2 __read_chk fwrite puts printf __printf_chk stderr",
        ),
        (True, "pthread_create pthread_mutex_lock thrd_create sem_wait nanosleep fork socket"),
        (True, "time clock_gettime gettimeofday getrandom rand random arc4random getenv secure_getenv dlopen syscall"),
        (True, "_ZNSt6thread20hardware_concurrencyEv _ZNSt13random_device9_M_getvalEv _ZSt4cout"),
        (
            True,
            "_ZNSt14basic_ifstreamIcSt11char_traitsIcEEC1EPKcSt13_Ios_Openmode _Znwm _ZNSt5mutex4lockEv",
        ),
        (True, "_ZNSt3__113random_deviceclEv _ZNSt3__15mutex4lockEv _ZNSt3__16chrono12steady_clock3nowEv"),
        (
            False,
            "memcpy memcpy@GLIBC_2.14 __memcpy_chk bcmp strlen free sincos __exp_finite nearbyintf expf log1p abort",
        ),
        (
            False,
            "__stack_chk_fail _GLOBAL_OFFSET_TABLE_ __udivti3 __popcountdi2 __aarch64_ldadd4_relax __cxa_guard_acquire",
        ),
        (False, "_ZSt10from_charsPKcS0_RdSt12chars_format _ZSt8to_charsPcS_dSt12chars_format"),
        (False, "_ZNSt3__18to_charsEPcS0_dNS_12chars_formatE _ZSt24__throw_out_of_range_fmtPKcz"),
        (False, "_ZSt21__glibcxx_assert_failPKciS0_S0_ _ZdlPvm"),
        (False, "_ZNSt3__122__libcpp_verbose_abortEPKcz _ZNSt3__110from_charsB8ne210100EPKcS1_RdNS_12chars_formatE"),
    ],
)
def test_symbols_of_a_system_are_told_from_others(asked: bool, names: str) -> None:
    assert of_a_system(set(names.split())) == (set(names.split()) if asked else set())


def test_the_functions_without_files_ask_no_system(steps: Path) -> None:
    archive = next(steps.rglob("libldm_steps.a"))
    asked = {line.split()[-1] for line in run("nm", "-u", archive).splitlines() if line.startswith(" ")}
    its = {line.split()[-1] for line in run("nm", "--defined-only", archive).splitlines() if len(line.split()) == 3}
    assert "memcpy" in asked and not of_a_system(asked - its)
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


@pytest.fixture(scope="module")
def all_kinds(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One prefix into which each kind of the library was installed."""
    folder = tmp_path_factory.mktemp("all_kinds")
    steps = built("cpp-steps", LDM_BUILD_LIBRARY="OFF", LDM_BUILD_TESTS="OFF")
    for build in (built("cpp"), embedded, steps):
        run("cmake", "--install", build, "--prefix", folder)
    return folder


@pytest.mark.parametrize(
    ("components", "library", "is_shared"),
    [("", "ldm_runtime", True), ("shared", "ldm_runtime", True), ("static;steps", "ldm_runtime", False)],
)
def test_kinds_in_one_prefix_are_told_apart_by_components(
    all_kinds: Path, tmp_path: Path, components: str, library: str, is_shared: bool
) -> None:
    found = consume(tmp_path, all_kinds, f"-DCOMPONENTS={components}", f"-DLIBRARY={library}")
    assert run(str(found)) == f"{__version__} 1\n"
    assert ("libldm_runtime.so" in needed(found)) is is_shared


@pytest.mark.parametrize(
    ("module", "is_shared"), [("ldm_runtime", True), ("ldm_runtime-static", False), ("ldm_steps", False)]
)
def test_kinds_in_one_prefix_are_told_apart_by_pkg_config(
    all_kinds: Path, tmp_path: Path, module: str, is_shared: bool
) -> None:
    folder = pkg_config(all_kinds, module, "--variable=libdir")
    flags = [*flags_of(all_kinds, module), f"-Wl,-rpath,{folder}"]
    run("cc", HERE / "consumer" / "consumer.c", "-o", tmp_path / "consumer", *flags)
    assert run(str(tmp_path / "consumer")) == f"{__version__} 1\n"
    assert ("libldm_runtime.so" in needed(tmp_path / "consumer")) is is_shared


@pytest.mark.parametrize(
    ("components", "sentence"),
    [("shared", "the kind shared of ldm_runtime is not installed"), ("other", "the kind other of ldm_runtime is not")],
)
def test_a_kind_that_is_not_there_is_named(static: Path, tmp_path: Path, components: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(sentence).replace(r"\ ", r"\s+")):
        consume(tmp_path, static, f"-DCOMPONENTS={components}")


def test_shared_and_static_at_once_are_refused(all_kinds: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"is\s+a\s+SHARED_LIBRARY\s+already,\s+and\s+cannot\s+be\s+static"):
        consume(tmp_path, all_kinds, "-DCOMPONENTS=shared;static")


FOUND = 'message(STATUS "${ldm_runtime_FOUND}, ${ldm_runtime_shared_FOUND}, ${ldm_runtime_NOT_FOUND_MESSAGE}")'


def finding(folder: Path, prefix: Path, *asked: str) -> list[list[str]]:
    """Return FOUND, shared_FOUND and why not, of calls of find_package one after the other in one project."""
    calls = [f"find_package(ldm_runtime {arguments})\n{FOUND}\n" for arguments in asked]
    calls.insert(0, "cmake_minimum_required(VERSION 3.20)\nproject(x C CXX)\n")
    calls.insert(1, "set(ldm_runtime_shared_FOUND TRUE)\n")  # of a search before
    lines = "".join(calls)
    (folder / "CMakeLists.txt").write_text(lines, encoding="utf-8")
    make = f"-DCMAKE_MAKE_PROGRAM={program('ninja')}"
    said = run("cmake", "-S", folder, "-B", folder / "build", "-G", "Ninja", make, f"-DCMAKE_PREFIX_PATH={prefix}")
    return [found.split(", ", 2) for found in re.findall(r"^-- ((?:0|1|TRUE|FALSE), .*)", said, re.MULTILINE)]


def test_optional_kinds_of_which_none_is_there_are_not_found(static: Path, tmp_path: Path) -> None:
    [[is_found, _, why]] = finding(tmp_path, static, "OPTIONAL_COMPONENTS shared")
    assert is_found in ("0", "FALSE") and why.startswith("the kind shared of ldm_runtime is not installed in ")


def test_one_search_leaves_nothing_to_the_next(static: Path, tmp_path: Path) -> None:
    beside, absent, again = finding(
        *(tmp_path, static, "COMPONENTS static OPTIONAL_COMPONENTS shared", "COMPONENTS shared", "COMPONENTS static")
    )
    assert beside == again == ["1", "FALSE", ""]
    assert absent[0] in ("0", "FALSE") and absent[2].startswith("the kind shared of ldm_runtime is not installed in ")


@pytest.fixture(scope="module")
def two_folders(static: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prefix with the shared library in lib and the static one in lib64."""
    folder = tmp_path_factory.mktemp("two_folders")
    run("cmake", "--install", built("cpp"), "--prefix", folder)
    shutil.copytree(static / "lib", folder / "lib64")
    for file in (folder / "lib64" / "cmake").rglob("*.cmake"):
        file.write_text(file.read_text(encoding="utf-8").replace("/lib/", "/lib64/"), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("components", "is_shared"), [("", True), ("shared", True), ("static", False)])
def test_kinds_in_two_folders_of_one_prefix_are_found(
    two_folders: Path, tmp_path: Path, components: str, is_shared: bool
) -> None:
    found = consume(tmp_path, two_folders, f"-DCOMPONENTS={components}")
    assert run(str(found)) == f"{__version__} 1\n"
    assert ("libldm_runtime.so" in needed(found)) is is_shared


def test_a_kind_of_another_version_is_not_taken(two_folders: Path, tmp_path: Path) -> None:
    prefix = shutil.copytree(two_folders, tmp_path / "prefix", symlinks=True)
    for file in (prefix / "lib64").rglob("ldm_runtime-config-version.cmake"):
        file.write_text(file.read_text(encoding="utf-8").replace(__version__, "0.0.9"), encoding="utf-8")
    static, shared = finding(tmp_path, prefix, "0.1 COMPONENTS static", "0.1 COMPONENTS shared")
    assert static[0] in ("0", "FALSE") and shared[0] == "1"


@pytest.mark.parametrize(("kind", "library"), [("static", "ldm_runtime"), ("steps", "ldm_steps")])
def test_archives_go_into_shared_libraries(
    kind: str, library: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With whole archives, so that every object of them is linked."""
    folder = consume(tmp_path, request.getfixturevalue(kind), f"-DLIBRARY={library}", "-DINTO_SHARED=ON").parent
    host = ctypes.CDLL(str(folder / "libhost.so"))
    host.host_version.restype = ctypes.c_char_p
    assert host.host_version() == __version__.encode()


def test_a_part_of_another_project_is_the_library_alone(tmp_path: Path) -> None:
    make = f"-DCMAKE_MAKE_PROGRAM={program('ninja')}"
    run("cmake", "-S", HERE / "embedded", "-B", tmp_path / "build", "-G", "Ninja", make)
    targets = re.findall(r"^([^\s:]+): ", run("cmake", "--build", tmp_path / "build", "--target", "help"), re.MULTILINE)
    assert "ldm_runtime" in targets and "ldm" not in targets
    assert not [name for name in targets if name.endswith("_test")]
    run("cmake", "--install", tmp_path / "build", "--prefix", tmp_path / "prefix")
    assert not list((tmp_path / "prefix").rglob("*"))


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


def test_the_environment_s_onnxruntime_is_read_each_time_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = [tmp_path / name for name in ("libonnxruntime.so.1", "libonnxruntime.so.2")]

    def configure(value: str | Path, *settings: str) -> str:
        monkeypatch.setenv("LDM_ONNXRUNTIME", str(value))
        make = f"-DCMAKE_MAKE_PROGRAM={program('ninja')}"
        run("cmake", "-S", SOURCE, "-B", tmp_path / "build", "-G", "Ninja", make, *settings)
        return run("ctest", "--test-dir", tmp_path / "build", "-N", "--show-only=json-v1")

    for library in libraries:
        library.touch()
        assert f"LDM_ONNXRUNTIME={library}" in configure(library)
    libraries[0].unlink()
    assert f"LDM_ONNXRUNTIME={libraries[1]}" in configure(libraries[1])
    with pytest.raises(AssertionError, match=r"libonnxruntime.so.1,\s+by\s+the\s+environment,\s+where"):
        configure(libraries[0])
    assert "LDM_ONNXRUNTIME=" not in configure("")
    configure(libraries[0], "-DLDM_BUILD_LIBRARY=OFF")  # no test of these needs an engine
