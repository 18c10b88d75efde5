"""The units of this CPU, by the names of Linux."""

from pathlib import Path


def cpu_units() -> frozenset[str]:
    """Return the units that decide what is fast here."""
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16")
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(set(known) & set(line.split()))
    return frozenset()
