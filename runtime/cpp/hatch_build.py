"""Build hook of ldm-runtime-native: compiles the library and installs it into the wheel.

Zig compiles for an old glibc and links its C++ library statically, so that the wheel runs on every Linux since 2014
whatever machine it is built on.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MACHINES = ("x86_64", "aarch64")
GLIBC = (2, 17)
SETTINGS = {
    "CMAKE_BUILD_TYPE": "Release",
    "CMAKE_EXE_LINKER_FLAGS": "-s",
    "CMAKE_INSTALL_LIBDIR": "lib",
    "CMAKE_PLATFORM_NO_VERSIONED_SONAME": "ON",  # a wheel keeps no links: one file, not three
    "CMAKE_SHARED_LINKER_FLAGS": "-s",
    "LDM_BUILD_TESTS": "OFF",
}


class Compiled(BuildHookInterface):
    """The folder `prefix` of the Python package, as `cmake --install` makes it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        machine = platform.machine()
        if self.target_name != "wheel" or version == "editable" or sys.platform != "linux" or machine not in MACHINES:
            raise ValueError(
                f"ldm-runtime-native is a wheel for Linux on {' and '.join(MACHINES)}; got a build of {version} "
                f"{self.target_name} for {sys.platform} on {machine}: build and install the library with CMake instead"
            )
        self._folder = tempfile.TemporaryDirectory()
        build, prefix = Path(self._folder.name, "build"), Path(self._folder.name, "prefix")
        install(Path(self.root), build, prefix, f"{machine}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}")
        build_data["force_include"][str(prefix)] = "ldm_runtime_native/prefix"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_{GLIBC[0]}_{GLIBC[1]}_{machine}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._folder.cleanup()


def install(source: Path, build: Path, prefix: Path, target: str) -> None:
    import ziglang

    settings = {
        **SETTINGS,
        "CMAKE_TOOLCHAIN_FILE": source / "cmake" / "zig.cmake",
        "LDM_ZIG": Path(ziglang.__file__).with_name("zig"),
        "LDM_TARGET": target,
    }
    run("cmake", "-S", source, "-B", build, "-G", "Ninja", *(f"-D{name}={value}" for name, value in settings.items()))
    run("cmake", "--build", build, "--parallel", os.cpu_count() or 1)
    run("cmake", "--install", build, "--prefix", prefix)


def run(program: str, *arguments: object) -> None:
    found = shutil.which(program) or program
    result = subprocess.run([found, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{program} ended with {result.returncode}:\n{result.stdout}")
