"""Builds the core for other systems with zig, and tests it where an emulator is installed.

    python -m pip install ziglang cmake ninja
    python scripts/cross_build.py [TARGET …] [--out FOLDER]

Without targets: all. x86-64 Linux runs here, aarch64 Linux with qemu-user (Debian: qemu-user, libc6-arm64-cross),
WebAssembly in Node. Windows and macOS are compiled and linked, no more.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
ROOT = SOURCE.parents[1]


@dataclass(frozen=True)
class Target:
    """A system to build for.

    library: the shared library and its tests are built too; the core alone otherwise.
    """

    triple: str
    library: bool = False


TARGETS = {
    "linux-x86_64": Target("x86_64-linux-gnu.2.17", library=True),
    "linux-aarch64": Target("aarch64-linux-gnu.2.17", library=True),
    "windows-x86_64": Target("x86_64-windows-gnu", library=True),
    "macos-aarch64": Target("aarch64-macos", library=True),
    "wasm32": Target("wasm32-wasi"),
}


# Tests that start themselves, or need ONNX Runtime: no emulator runs them.
NATIVE_ONLY = {"atomic_test", "components_test", "session_test"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--out", type=Path, default=SOURCE / "build-cross", help="folder to build in")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(TARGETS)
    if unknown:
        parser.error(f"unknown target {', '.join(sorted(unknown))}; expected {', '.join(TARGETS)}")
    for name in arguments.targets or TARGETS:
        build(TARGETS[name], arguments.out / name)
        tested = test(arguments.out / name, emulator(name))
        print(f"{name}: built{', tested' if tested else ', not run here'}; {sizes(arguments.out / name)}", flush=True)
    return 0


def build(target: Target, folder: Path) -> None:
    settings = {
        "CMAKE_TOOLCHAIN_FILE": SOURCE / "cmake" / "zig.cmake",
        "CMAKE_MAKE_PROGRAM": program("ninja"),
        "CMAKE_BUILD_TYPE": "Release",
        "LDM_ZIG": zig(),
        "LDM_TARGET": target.triple,
        "LDM_BUILD_LIBRARY": "ON" if target.library else "OFF",
    }
    values = [f"-D{name}={value}" for name, value in settings.items()]
    run([program("cmake"), "-S", str(SOURCE), "-B", str(folder), "-G", "Ninja", *values])
    run([program("cmake"), "--build", str(folder), "-j", str(jobs())])


def test(folder: Path, run_with: list[str] | None) -> bool:
    """Run every test program; False where none can run here."""
    if run_with is None:
        return False
    for file in sorted((folder / "tests").glob("*_test*")):
        if run_with and file.stem in NATIVE_ONLY:
            continue
        if file.is_file() and (os.access(file, os.X_OK) or file.suffix == ".wasm"):
            run([*run_with, str(file)])
    return True


def emulator(name: str) -> list[str] | None:
    """Return what a program of a target is started with; None: nothing here runs it."""
    node, qemu, libraries = shutil.which("node"), shutil.which("qemu-aarch64"), Path("/usr/aarch64-linux-gnu")
    if name == "wasm32":
        return None if node is None else [node, str(SOURCE / "scripts" / "run_wasi.mjs"), str(ROOT)]
    if name == "linux-aarch64" and platform.machine() != "aarch64":
        return None if qemu is None or not libraries.is_dir() else [qemu, "-L", str(libraries)]
    here = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}.get(platform.system())
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return [] if name == f"{here}-{machine}" else None


def sizes(folder: Path) -> str:
    files = [*folder.glob("libldm_runtime.*"), *folder.glob("libldm_core.a"), *folder.glob("*.dll")]
    return ", ".join(f"{file.name} {file.stat().st_size:,} bytes" for file in files if not file.is_symlink())


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


def run(command: list[str]) -> None:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{result.stdout}\nended with {result.returncode}")


if __name__ == "__main__":
    sys.exit(main())
