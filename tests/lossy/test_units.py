"""What a variant cannot do without: the unit that its figures were measured with."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ldm_export.lossy import int8, units
from ldm_export.lossy.bf16 import missing_bf16
from ldm_export.lossy.fp16 import missing_fp16
from ldm_export.lossy.halves import beside
from ldm_export.lossy.int8 import FORMS
from ldm_export.lossy.method import Draft
from ldm_export.lossy.units import BF16, EIGHT_BITS, FP16, unit_of
from ldm_runtime.engines import units as runtime_units
from ldm_runtime.package.variants import WHOLE_RUN, Way


@pytest.mark.parametrize(
    ("has", "bf16", "fp16", "eight_bits"),
    [
        ({"avx2", "avx512f"}, (), (), ()),
        ({"avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16"}, ("avx512_bf16",), (), ("avx512_vnni",)),
        ({"avx2", "avx_vnni"}, (), (), ("avx_vnni",)),
        ({"amx_bf16", "avx512_fp16", "amx_fp16"}, ("amx_bf16",), ("avx512_fp16",), ()),
        ({"neon_dotprod", "neon_bf16", "neon_fp16"}, (), ("neon_fp16",), ()),
    ],
)
def test_a_way_needs_one_unit_of_those_that_are_here(
    monkeypatch: pytest.MonkeyPatch,
    has: set[str],
    bf16: tuple[str, ...],
    fp16: tuple[str, ...],
    eight_bits: tuple[str, ...],
) -> None:
    monkeypatch.setattr(units, "cpu_units", lambda: frozenset(has))
    assert (unit_of(BF16), unit_of(FP16), unit_of(EIGHT_BITS)) == (bf16, fp16, eight_bits)
    search = SimpleNamespace(components={"unet": None}, order=SimpleNamespace(methods=("bf16", "fp16", "int8")))
    made = {draft.name: draft.ways["unet"].units for form in FORMS for draft in int8._Search.drafts(search, form, "")}
    assert made == {
        "int8": eight_bits,
        "int8-openvino": eight_bits,
        "int8-bf16": (*eight_bits, *bf16),
    }


@pytest.mark.parametrize(("precision", "missing"), [("bf16", missing_bf16), ("fp16", missing_fp16)])
def test_half_the_bits_are_refused_where_the_cpu_has_no_unit_for_them(
    monkeypatch: pytest.MonkeyPatch, precision: str, missing: Callable[[], str | None]
) -> None:
    """OpenVINO itself accepts them there."""
    monkeypatch.setattr(runtime_units, "cpu_units", lambda: frozenset({"avx2", "avx512f", "avx512_vnni"}))
    reason = missing()
    assert reason is not None and reason.startswith(f"{precision} needs a CPU with ")
    assert reason.endswith("; this one has AVX2, AVX-512 and AVX512-VNNI")


def test_half_the_bits_are_computed_beside_quantised_graphs_on_openvino_alone() -> None:
    way = Way("openvino", "w8-openvino", "int8", ())
    draft = Draft("w8-openvino", ("w8",), {"unet": way, "vae_decoder": way}, WHOLE_RUN)
    made = beside(draft, "w8", ("bf16", "fp16", "w8"))
    assert [(each.name, each.methods) for each in made] == [("w8-bf16", ("w8", "bf16"))]
    assert {each.precision for each in made[0].ways.values()} == {"bf16"}
    assert beside(draft, "w8", ("fp16", "w8")) == []
    assert beside(replace(draft, ways={"unet": replace(way, engine="ort")}), "w8", ("bf16", "w8")) == []
