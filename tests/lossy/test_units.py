"""What a variant cannot do without: the unit that its figures were measured with."""

from types import SimpleNamespace

import pytest

from ldm_export.lossy import int8, units
from ldm_export.lossy.int8 import FORMS
from ldm_export.lossy.units import BF16, EIGHT_BITS, unit_of


@pytest.mark.parametrize(
    ("has", "bf16", "eight_bits"),
    [
        ({"avx2", "avx512f"}, (), ()),
        ({"avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16"}, ("avx512_bf16",), ("avx512_vnni",)),
        ({"avx2", "avx_vnni"}, (), ("avx_vnni",)),
        ({"amx_bf16"}, ("amx_bf16",), ()),
        ({"neon_dotprod", "neon_bf16"}, (), ()),
    ],
)
def test_a_way_needs_one_unit_of_those_that_are_here(
    monkeypatch: pytest.MonkeyPatch, has: set[str], bf16: tuple[str, ...], eight_bits: tuple[str, ...]
) -> None:
    monkeypatch.setattr(units, "cpu_units", lambda: frozenset(has))
    assert (unit_of(BF16), unit_of(EIGHT_BITS)) == (bf16, eight_bits)
    search = SimpleNamespace(components={"unet": None}, order=SimpleNamespace(methods=("bf16", "int8")))
    made = {draft.name: draft.ways["unet"].units for form in FORMS for draft in int8._Search.drafts(search, form, "")}
    assert made == {"int8": eight_bits, "int8-openvino": eight_bits, "int8-bf16": (*eight_bits, *bf16)}
