"""The units of this CPU that the figures of a variant rest on: a CPU without them would draw other images."""

from collections.abc import Sequence

from ldm_runtime.engines.units import cpu_units

BF16 = ("avx512_bf16", "amx_bf16")
FP16 = ("avx512_fp16", "amx_fp16", "neon_fp16")
# Without them x86 adds two products of eight bits in sixteen, which saturate: kept to AVX-512 alone, OpenVINO's int8 of
# a tiny UNet made outputs that were up to 3.7 times their recorded error away from those of VNNI. ARM has no such sums.
EIGHT_BITS = ("avx512_vnni", "avx_vnni")


def unit_of(any_of: Sequence[str]) -> tuple[str, ...]:
    """Return the first of some units that this CPU has; none where it has none of them."""
    return tuple(unit for unit in any_of if unit in cpu_units())[:1]
