"""The candidates: the default first, nothing twice, threads only where an engine takes them."""

import pytest

from ldm_export.tune.candidates import DEFAULT, EXACT, Candidate, VariantHere, candidates, loss_of

COMPONENTS = ("text_encoder", "unet", "vae_decoder")
AUTOMATIC = dict.fromkeys(COMPONENTS, "ort")
ON_CPU = ("ort", "openvino")
INT8 = VariantHere("int8", loss_of(34.0), {"unet": "openvino"})


def listed(*variants: VariantHere, engines=("ort", "openvino"), cores=1, automatic=AUTOMATIC) -> list[Candidate]:
    return candidates(automatic, engines, variants, cores=cores, on_cpu=ON_CPU)


def test_the_default_is_first_and_nothing_is_there_twice():
    found = listed(INT8, cores=16)
    assert found[0] == DEFAULT
    assert all(found.count(each) == 1 for each in found)


def test_what_auto_takes_anyway_is_not_measured_again_by_name():
    names = [each.name for each in listed() if each.threads is None]
    assert names == ["exact, auto", "exact, openvino"]
    mixed = {**AUTOMATIC, "unet": "openvino"}
    names = [each.name for each in listed(automatic=mixed) if each.threads is None]
    assert names == ["exact, auto", "exact, ort", "exact, openvino"]


def test_a_variant_brings_its_engines_and_the_rest_has_a_choice():
    found = [each for each in listed(INT8) if each.variant == "int8" and each.threads is None]
    assert [dict(each.engines) for each in found] == [{}, {"text_encoder": "openvino", "vae_decoder": "openvino"}]
    assert all(each.loss == pytest.approx(0.01995, rel=1e-3) for each in found)


def test_a_variant_of_all_components_is_there_once():
    whole = VariantHere("bf16", loss_of(40.0), dict.fromkeys(COMPONENTS, "openvino"))
    assert [each.engines for each in listed(whole) if each.variant == "bf16" and each.threads is None] == [{}]


@pytest.mark.parametrize(("cores", "counts"), [(1, [1]), (2, [2, 1]), (3, [3, 1]), (4, [4, 2, 1]), (64, [64, 32, 16])])
def test_threads_come_last_and_are_all_half_and_a_quarter_of_the_cores(cores, counts):
    found = listed(cores=cores)
    assert [each.threads for each in found] == [None, None, *counts, *counts]


def test_engines_that_take_no_threads_are_not_tried_with_them():
    found = listed(INT8, engines=("ort:cuda",), automatic=dict.fromkeys(COMPONENTS, "ort:cuda"), cores=4)
    assert [each.threads for each in found] == [None, None]
    half = listed(engines=("ort:cuda", "ort"), automatic={**AUTOMATIC, "unet": "ort:cuda"}, cores=1)
    assert [each.name for each in half if each.threads is not None] == ["exact, ort, 1 thread"]


def test_a_name_says_what_differs():
    assert Candidate("int8", {}, 2).name == "int8, 2 threads"
    assert Candidate(EXACT, {"unet": "openvino", "vae_decoder": "ort"}, 1).name == (
        "exact, unet=openvino, vae_decoder=ort, 1 thread"
    )


def test_a_loss_is_smaller_the_more_decibels():
    assert loss_of(None) == 0.0
    assert loss_of(20.0) == pytest.approx(0.1) and loss_of(40.0) == pytest.approx(0.01)
