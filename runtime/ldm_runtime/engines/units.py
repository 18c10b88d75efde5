"""This machine's CPU: its units that compute in few bits, by the names that a manifest has for them, and its own name.

Asked of the operating system, since Python cannot ask the CPU: Linux lists all; macOS lists all that Apple's have;
Windows tells AVX2, AVX-512 and ARM's, but neither VNNI nor any unit for bfloat16 of x86, which count as absent there.
"""

import ctypes
import functools
import platform
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

Key = TypeVar("Key")

CPUINFO = Path("/proc/cpuinfo")
NAMES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "avx512_fp16": "AVX512-FP16",
    "amx_bf16": "AMX-BF16",
    "amx_fp16": "AMX-FP16",
    "amx_int8": "AMX-INT8",
    "neon_dotprod": "NEON dot products",
    "neon_fp16": "NEON-FP16",
    "neon_bf16": "NEON-BF16",
    "neon_i8mm": "NEON-I8MM",
}
"""Unit -> what a reader calls it."""

# ARM's, as Linux, macOS (hw.optional.arm.…) and Windows (IsProcessorFeaturePresent) call them.
_LINUX_ARM = {"asimddp": "neon_dotprod", "asimdhp": "neon_fp16", "bf16": "neon_bf16", "i8mm": "neon_i8mm"}
_MACOS = {
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.arm.FEAT_DotProd": "neon_dotprod",
    "hw.optional.arm.FEAT_FP16": "neon_fp16",
    "hw.optional.arm.FEAT_BF16": "neon_bf16",
    "hw.optional.arm.FEAT_I8MM": "neon_i8mm",
}
_WINDOWS = {40: "avx2", 41: "avx512f", 43: "neon_dotprod", 66: "neon_i8mm", 67: "neon_fp16", 68: "neon_bf16"}


@functools.cache
def cpu_units() -> frozenset[str]:
    """Return the units of this machine's CPU, keys of NAMES; those that cannot be found are not among them."""
    if sys.platform == "linux":
        return read_cpuinfo(cpuinfo())
    if sys.platform == "darwin":
        return _that_are(_MACOS, _sysctl())
    if sys.platform == "win32":
        return _that_are(_WINDOWS, ctypes.WinDLL("kernel32").IsProcessorFeaturePresent)
    return frozenset()


def cpuinfo() -> str:
    """Return what Linux tells of the CPUs; "" where there is no such file."""
    try:
        return CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # some containers hide it: nothing is known then
        return ""


def cpu_names() -> list[str]:
    """Return the name of each CPU of this machine, where Linux tells them; or one name for all."""
    lines = (line.partition(":") for line in cpuinfo().splitlines())
    names = [name.strip() for key, _, name in lines if key.strip() == "model name"]
    return names or [platform.processor() or platform.machine()]


def read_cpuinfo(text: str) -> frozenset[str]:
    """Read Linux's /proc/cpuinfo: the units that every CPU in it has."""
    lines = [line.partition(":") for line in text.splitlines()]
    of_each = [set(words.split()) for key, _, words in lines if key.strip() in ("flags", "Features")]
    flags = set.intersection(*of_each) if of_each else set()
    return frozenset((flags & NAMES.keys()) | {_LINUX_ARM[flag] for flag in flags & _LINUX_ARM.keys()})


def describe_units(units: Collection[str]) -> str:
    """Name units for a reader, such as "AVX2 and AVX-512"."""
    return _listed([name for unit, name in NAMES.items() if unit in units], "and") or "none that is known"


def missing_units(what: str, any_of: Collection[str]) -> str | None:
    """Say that the CPU has none of the units that `what` needs, as half a sentence, or None."""
    if cpu_units().intersection(any_of):
        return None
    needed = _listed([NAMES.get(unit, unit) for unit in any_of], "or")
    return f"{what} needs a CPU with {needed}; this one has {describe_units(cpu_units())}"


def _listed(names: Sequence[str], last: str) -> str:
    return f" {last} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _that_are(names: Mapping[Key, str], has: Callable[[Key], object]) -> frozenset[str]:
    return frozenset(unit for key, unit in names.items() if has(key))


def _sysctl() -> Callable[[str], bool]:
    """Return a function that tells whether macOS's feature of a name is there."""
    library = ctypes.CDLL(None)

    def has(name: str) -> bool:
        value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
        failed = library.sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0)
        return not failed and value.value == 1

    return has
