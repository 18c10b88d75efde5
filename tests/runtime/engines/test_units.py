"""Units of the CPU: as each system tells them, and what is refused where one is missing."""

import ctypes
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ldm_runtime.engines import units
from ldm_runtime.engines.ort import rows
from ldm_runtime.engines.profile import this_machine
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.engines.units import NAMES, cpu_names, cpu_units, describe_units, missing_units, read_cpuinfo

SAPPHIRE = "fpu avx2 avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_bf16 amx_int8"
CPUINFO = f"processor\t: 0\nflags\t\t: {SAPPHIRE}\n\nprocessor\t: 1\nflags\t\t: {SAPPHIRE} avx_vnni\n"
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp sve i8mm bf16\nCPU part\t: 0xd40\n"


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that puts the process on another system, with what is there instead of ctypes."""

    def on(platform: str, **fakes: Any) -> None:
        cpu_units.cache_clear()
        monkeypatch.setattr(units, "sys", SimpleNamespace(platform=platform))
        monkeypatch.setattr(units, "ctypes", SimpleNamespace(**{**vars(ctypes), **fakes}))

    yield on
    cpu_units.cache_clear()


def test_linux_lists_what_every_cpu_has() -> None:
    assert read_cpuinfo(CPUINFO) == {
        *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
        *("amx_bf16", "amx_int8"),
    }
    assert read_cpuinfo(GRAVITON) == {"neon_fp16", "neon_dotprod", "neon_i8mm", "neon_bf16"}
    assert read_cpuinfo("") == read_cpuinfo("no table\n") == frozenset()


def test_units_have_names_that_a_manifest_may_have() -> None:
    """They are read back by the rules of names; a flag of Linux that is no unit of ours stays out."""
    assert read_cpuinfo(f"flags: {' '.join(NAMES)} amx_tile sse2") == frozenset(NAMES)
    assert all(unit.replace("_", "").isalnum() and unit == unit.lower() for unit in NAMES)


def test_a_system_without_cpuinfo_has_no_known_units(on: Any, tmp_path: Path, monkeypatch) -> None:
    on("linux")
    monkeypatch.setattr(units, "CPUINFO", tmp_path / "absent")
    assert cpu_units() == frozenset()
    on("freebsd14")
    assert cpu_units() == frozenset()


def test_the_cpu_has_a_name_also_where_the_system_hides_it(on: Any, tmp_path: Path, monkeypatch) -> None:
    on("linux")
    names = tmp_path / "cpuinfo"
    names.write_text("processor : 0\nmodel name : Zen 5\n\nprocessor : 1\nmodel name : Zen 5\n")
    monkeypatch.setattr(units, "CPUINFO", names)
    assert cpu_names() == ["Zen 5", "Zen 5"]
    monkeypatch.setattr(units, "CPUINFO", tmp_path)  # a folder: it is there, and cannot be read
    (name,) = cpu_names()
    assert name == (platform.processor() or platform.machine()) and this_machine().cpu == name


def test_macos_is_asked_by_name(on: Any) -> None:
    asked = []

    def sysctlbyname(name: bytes, value: Any, size: Any, new: None, length: int) -> int:
        asked.append(name)
        value._obj.value = name in (b"hw.optional.arm.FEAT_BF16", b"hw.optional.arm.FEAT_DotProd")
        return -1 if b"avx" in name else 0  # that name is not known on ARM

    on("darwin", CDLL=lambda name: SimpleNamespace(sysctlbyname=sysctlbyname))
    assert cpu_units() == {"neon_bf16", "neon_dotprod"}
    assert b"hw.optional.avx512f" in asked


def test_windows_is_asked_by_number(on: Any) -> None:
    present = {40, 41}
    on("win32", WinDLL=lambda name: SimpleNamespace(IsProcessorFeaturePresent=lambda number: int(number in present)))
    assert cpu_units() == {"avx2", "avx512f"}
    assert missing_units("bf16", ["avx512_bf16"]) == (
        "bf16 needs a CPU with AVX512-BF16; this one has AVX2 and AVX-512"
    )


def test_a_reader_gets_names() -> None:
    assert describe_units({"amx_int8", "avx2", "avx512_vnni"}) == "AVX2, AVX512-VNNI and AMX-INT8"
    assert describe_units({"avx2"}) == "AVX2"
    assert describe_units(()) == "none that is known"


def have(monkeypatch: pytest.MonkeyPatch, *present: str) -> None:
    """Let the CPU have these units."""
    monkeypatch.setattr(units, "cpu_units", lambda: frozenset(present))


@pytest.mark.parametrize(
    ("precision", "present", "expected"),
    [
        ("bf16", ["avx512f", "avx512_bf16"], None),
        ("bf16", ["amx_bf16"], None),
        ("bf16", ["avx2", "avx512f"], "bf16 needs a CPU with AVX512-BF16 or AMX-BF16; this one has AVX2 and AVX-512"),
        ("bf16", ["neon_bf16"], "bf16 needs a CPU with AVX512-BF16 or AMX-BF16; this one has NEON-BF16"),
        ("fp16", ["avx512_fp16"], None),
        ("fp16", ["avx512_bf16"], "fp16 needs a CPU with AVX512-FP16, AMX-FP16 or NEON-FP16; this one has AVX512-BF16"),
        ("fp32", [], None),
        ("int8", ["avx512_vnni"], "int8 is no precision that it computes in"),
    ],
)
def test_openvino_computes_in_what_the_cpu_has_a_unit_for(monkeypatch, precision, present, expected) -> None:
    have(monkeypatch, *present)
    assert ENGINES["openvino"].missing_for(precision) == expected


def test_onnx_runtime_computes_in_bfloat16_on_arm_under_linux_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    missing_for = ENGINES["ort"].missing_for
    have(monkeypatch, "avx512_bf16")
    assert missing_for("bf16") == "bf16 needs ARM and Linux: ONNX Runtime has kernels for no other CPU"
    monkeypatch.setattr(rows.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(rows, "sys", SimpleNamespace(platform="linux"))
    assert missing_for("bf16") == "bf16 needs a CPU with NEON-BF16; this one has AVX512-BF16"
    have(monkeypatch, "neon_bf16")
    assert missing_for("bf16") is None
    assert missing_for("fp16") == "fp16 is no precision that it computes in"
    assert ENGINES["ort:cuda"].missing_for("bf16") == "bf16 is no precision that it computes in"
