"""Builds the library, the tool and their tests for other systems with zig, and tests them where they can run.

    python -m pip install ziglang cmake ninja
    python scripts/cross_build.py all --test
    python scripts/cross_build.py wasm32 --test --browser chromium

x86-64 Linux runs on such a machine, aarch64 Linux with qemu-user (Debian: qemu-user, libc6-arm64-cross), WebAssembly,
which is the core alone, in Node and with --browser in a headless Chromium. Windows and macOS are compiled and linked,
no more. Tests of the engine need LDM_ONNXRUNTIME: the path of ONNX Runtime's shared library for this machine.
"""

import argparse
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
ROOT = SOURCE.parents[1]


@dataclass(frozen=True)
class Target:
    """A system to build for.

    library: what its shared library and its tool are called; without, the core alone is built.
    """

    triple: str
    library: tuple[str, str] | None


TARGETS = {
    "linux-x86_64": Target("x86_64-linux-gnu.2.17", ("libldm_runtime.so", "ldm")),
    "linux-aarch64": Target("aarch64-linux-gnu.2.17", ("libldm_runtime.so", "ldm")),
    "windows-x86_64": Target("x86_64-windows-gnu", ("ldm_runtime.dll", "ldm.exe")),
    "macos-x86_64": Target("x86_64-macos", ("libldm_runtime.dylib", "ldm")),
    "macos-aarch64": Target("aarch64-macos", ("libldm_runtime.dylib", "ldm")),
    "wasm32": Target("wasm32-wasi", None),
}
AARCH64 = Path("/usr/aarch64-linux-gnu")  # where Debian's package has the loader and libraries
STARTS_ITSELF = ["atomic_test"]  # which an emulator cannot
NEEDS_ENGINE = [
    file.stem for file in (SOURCE / "tests").glob("*_test.cpp") if "\n// Needs ONNX Runtime.\n" in file.read_text()
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", metavar="TARGET", help=f"all, or some of {', '.join(TARGETS)}")
    parser.add_argument("--test", action="store_true", help="run the tests of each target that can run here")
    parser.add_argument("--browser", metavar="PROGRAM", help="run WebAssembly in this browser too, such as chromium")
    parser.add_argument("--unity", action="store_true", help="compile ten sources at a time: faster from scratch")
    parser.add_argument("--out", type=Path, default=SOURCE / "build-cross", help="folder to build in")
    arguments = parser.parse_args()
    names = list(TARGETS) if arguments.targets == ["all"] else arguments.targets
    unknown = set(names) - set(TARGETS)
    if unknown:
        parser.error(f"unknown target {', '.join(sorted(unknown))}; expected all, or some of {', '.join(TARGETS)}")
    print(f"{'target':<16}{'tests':<44}{'library':>12}{'tool':>12}")
    for name in names:
        target, folder = TARGETS[name], arguments.out.resolve() / name
        emulator = emulator_of(name)
        build(target, folder, emulator, arguments.unity)
        if name.startswith("macos"):
            refuse_other_exports(folder / "libldm_runtime.dylib")
        tested = (
            test(folder, emulator, arguments.browser if name == "wasm32" else None) if arguments.test else "not run"
        )
        library, tool = (size(folder / file) for file in target.library) if target.library else ("", "")
        print(f"{name:<16}{tested:<44}{library:>12}{tool:>12}", flush=True)
    return 0


def build(target: Target, folder: Path, emulator: list[str] | None, unity: bool) -> None:
    settings = {
        "CMAKE_TOOLCHAIN_FILE": SOURCE / "cmake" / "zig.cmake",
        "CMAKE_MAKE_PROGRAM": program("ninja"),
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_COMPILE_WARNING_AS_ERROR": "ON",
        "CMAKE_CROSSCOMPILING_EMULATOR": ";".join(emulator or []),
        "LDM_ZIG": zig(),
        "LDM_TARGET": target.triple,
        "LDM_BUILD_LIBRARY": "ON" if target.library else "OFF",
        "CMAKE_UNITY_BUILD": "ON" if unity else "OFF",
        "CMAKE_UNITY_BUILD_BATCH_SIZE": "10",
    }
    values = [f"-D{name}={value}" for name, value in settings.items()]
    run([program("cmake"), "-S", str(SOURCE), "-B", str(folder), "-G", "Ninja", *values])
    run([program("cmake"), "--build", str(folder), "-j", str(jobs())])


def refuse_other_exports(library: Path) -> None:
    """End where a library for macOS shows programs more than the interface: its linker here takes no list of names."""
    header = (SOURCE / "include" / "ldm_runtime.h").read_text(encoding="utf-8")
    expected = {f"_{name}" for name in re.findall(r"^LDM_API [^;]*?\b(ldm_\w+)\(", header, re.MULTILINE)}
    of_the_linker = {"___dso_handle", "__mh_dylib_header"}  # in each library
    found = set(mach_o_exports(library.read_bytes())) - of_the_linker
    if found != expected:
        more, less = ", ".join(sorted(found - expected)), ", ".join(sorted(expected - found))
        sys.exit(f"{library} exports other names than the header has: more: {more or 'none'}; less: {less or 'none'}")


def mach_o_exports(content: bytes) -> Iterator[str]:
    """Yield the names that a 64-bit Mach-O library exports, from the trie in which macOS looks them up."""
    magic, *_, commands = struct.unpack_from("<5I", content)
    if magic != 0xFEEDFACF:
        raise ValueError("no little-endian Mach-O file of 64 bits")
    place = 32
    for _ in range(commands):
        kind, size = struct.unpack_from("<2I", content, place)
        if kind in {0x22, 0x80000022}:  # LC_DYLD_INFO, LC_DYLD_INFO_ONLY
            start, length = struct.unpack_from("<2I", content, place + 40)
        elif kind == 0x80000033:  # LC_DYLD_EXPORTS_TRIE
            start, length = struct.unpack_from("<2I", content, place + 8)
        else:
            start = length = 0
        if length > 0:
            yield from names_of_trie(content[start : start + length], 0, "")
        place += size


def names_of_trie(trie: bytes, place: int, name: str) -> Iterator[str]:
    """Yield the names below a node: whether one ends there, then for each child what it adds and where it is."""

    def number() -> int:  # seven bits a byte, the lowest first
        nonlocal place
        value = shift = 0
        while True:
            byte = trie[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    size = number()
    if size > 0:
        yield name
    place += size
    children = trie[place]
    place += 1
    for _ in range(children):
        end = trie.index(0, place)
        added, place = trie[place:end].decode(), end + 1
        yield from names_of_trie(trie, number(), name + added)


def test(folder: Path, emulator: list[str] | None, browser: str | None) -> str:
    """Run the tests of a target, and return a description of what ran."""
    if emulator is None:
        return "compiled and linked; nothing here runs it"
    left_out = [*(STARTS_ITSELF if emulator else []), *([] if has_engine(emulator) else NEEDS_ENGINE)]
    pattern = [] if not left_out else ["-E", f"^({'|'.join(left_out)})$"]
    said = run([program("ctest"), "--test-dir", str(folder), "--output-on-failure", "--no-tests=error", *pattern])
    passed = re.search(r"(\d+)% tests passed.* out of (\d+)", said)
    done = f"{passed[2] if passed else '?'} passed{f' with {Path(emulator[0]).name}' if emulator else ''}"
    if browser is not None:
        said = run(
            [sys.executable, str(SOURCE / "scripts" / "run_browser.py"), str(folder / "tests"), "--browser", browser]
        )
        done += f", {said.count(': passed')} with {Path(browser).name}"
    return done


def has_engine(emulator: list[str]) -> bool:
    return not emulator and "LDM_ONNXRUNTIME" in os.environ


def emulator_of(name: str) -> list[str] | None:
    """Return what a program of a target is started with; None: nothing here runs it."""
    node, qemu = shutil.which("node"), shutil.which("qemu-aarch64")
    if name == "wasm32":
        return None if node is None else [node, str(SOURCE / "scripts" / "run_wasi.mjs"), str(ROOT)]
    if name == "linux-aarch64" and platform.machine() != "aarch64":
        return None if qemu is None or not AARCH64.is_dir() else [qemu, "-L", str(AARCH64)]
    here = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}.get(platform.system())
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return [] if name == f"{here}-{machine}" else None


def size(file: Path) -> str:
    return f"{file.stat().st_size:,}"


def zig() -> Path:
    try:
        import ziglang
    except ImportError:
        sys.exit("the Python package ziglang is not installed; install it with pip")
    return Path(ziglang.__file__).with_name("zig.exe" if os.name == "nt" else "zig")


def program(name: str) -> str:
    """Return the path of a program that stands beside this Python or is installed."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    found = beside or shutil.which(name)
    if found is None:
        sys.exit(f"{name} is not installed; install it with pip")
    return found


def jobs() -> int:
    return int(os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", os.cpu_count() or 1))


def run(command: list[str]) -> str:
    """Run a program and return what it says; end with that where it fails."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{result.stdout}\nended with {result.returncode}")
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())
