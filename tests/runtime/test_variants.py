"""The variant that draws: by a budget, a name, the engine, and this machine; what is said of it, and what it draws."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest

import ldm_runtime
from ldm_runtime.budget import read_budget
from ldm_runtime.engines import units
from ldm_runtime.engines.choice import choose
from ldm_runtime.engines.engine import EngineKind
from ldm_runtime.engines.openvino.properties import PRECISION
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.errors import EngineUnavailable, InputError
from ldm_runtime.package.open import Package, open_package
from ldm_runtime.package.variants import Variant, Way
from ldm_runtime.variants import Abilities, Chosen, abilities_here, choose_variant, named_variant
from tests.runtime.lossy_package import BF16, variant, with_variants
from tests.runtime.notices import said

ORT = Way("ort", "canonical", "bf16", ())


def package_with(folder: Path, *variants: Variant) -> Package:
    return open_package(with_variants(folder, *variants), check="size")


def lacking(precision: str) -> str | None:
    return None if precision == "bf16" else f"{precision} needs more fingers"


MACHINE = Abilities({"avx512f", "avx512_bf16"}, lambda engine: None, lambda engine, precision: lacking(precision))


@pytest.fixture(autouse=True)
def units_of_a_large_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine computes in bfloat16 with OpenVINO, as far as its row says."""
    monkeypatch.setattr(units, "cpu_units", lambda: frozenset(MACHINE.units))
    monkeypatch.setattr("ldm_runtime.variants.cpu_units", lambda: frozenset(MACHINE.units))


def names_of(chosen: Chosen) -> str | None:
    return None if chosen.variant is None else chosen.variant.name


GOOD, FAST, WORST = variant("good", 41.239, 0.9), variant("fast", 34.1, 0.5), variant("worst", 20.0, 0.2, ssim=0.95)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ("exact", None),
        ("psnr=10", "worst"),
        ("psnr=30", "fast"),
        ("psnr=34.1", "fast"),
        ("psnr=34.2", "good"),
        ("psnr=42", None),
        ("ssim=0.95", "worst"),
        ("ssim=0.96", None),
    ],
)
def test_the_fastest_within_the_budget_is_chosen(package_copy: Path, budget: str, expected: str | None) -> None:
    package = package_with(package_copy, GOOD, FAST, WORST)
    chosen = choose_variant(package, read_budget(budget), choose(), MACHINE)
    assert names_of(chosen) == expected
    assert (len(chosen.notices) == 0) == (budget == "exact")


def test_equal_images_are_within_every_budget(package_copy: Path) -> None:
    package = package_with(package_copy, variant("equal", None, 0.9, ssim=1.0))
    chosen = choose_variant(package, read_budget("psnr=100"), choose(), MACHINE)
    assert said(chosen) == [
        "the variant equal draws: all of 12 images were equal to the exact ones, at 4 steps; "
        "budget exact draws without it"
    ]


def test_what_draws_and_what_it_costs_is_said(package_copy: Path) -> None:
    package = package_with(package_copy, FAST)
    assert said(choose_variant(package, read_budget("psnr=30"), choose(), MACHINE)) == [
        "the variant fast draws: the worst of 12 images was 34.1 dB (SSIM 0.9) from the exact one, at 4 steps; "
        "budget exact draws without it"
    ]


def test_a_budget_that_nothing_meets_says_what_is_reached(package_copy: Path) -> None:
    package = package_with(package_copy, GOOD, FAST)
    assert said(choose_variant(package, read_budget("psnr=50"), choose(), MACHINE)) == [
        "no variant of this package is within psnr=50 (good reaches 41.23 dB): drawn exactly"
    ]
    assert said(choose_variant(package, read_budget("ssim=0.99"), choose(), MACHINE)) == [
        "no variant of this package is within ssim=0.99 (good reaches SSIM 0.9): drawn exactly"
    ]


def test_a_package_without_variants_is_drawn_exactly(tiny: Path) -> None:
    chosen = choose_variant(open_package(tiny, check="size"), read_budget("psnr=20"), choose(), MACHINE)
    assert names_of(chosen) is None
    assert said(chosen) == ["this package has no variants (`ldm-export build --budget` makes them): drawn exactly"]


UNITS = dataclasses.replace(BF16, units=("amx_int8", "unheard_of"))
REASONS = {
    "unit": (UNITS, "auto", MACHINE, "it needs a CPU with AMX-INT8, unheard_of; this one has AVX-512 and AVX512-BF16"),
    "engine": (
        BF16,
        "auto",
        dataclasses.replace(MACHINE, missing=lambda engine: "no wheel"),
        "openvino does not run here: no wheel",
    ),
    "unknown engine": (
        dataclasses.replace(BF16, engine="abacus"),
        "auto",
        MACHINE,
        "it runs unet with abacus, which this version does not know",
    ),
    "another engine": (BF16, "ort", MACHINE, "it runs unet with openvino, but engine is ort"),
    "another engine of the part": (BF16, "unet=ort", MACHINE, "it runs unet with openvino, but engine is unet=ort"),
    "precision": (
        dataclasses.replace(BF16, precision="fp16", units=()),
        "auto",
        MACHINE,
        "fp16 needs more fingers",
    ),
}


@pytest.mark.parametrize("case", REASONS)
def test_what_cannot_run_is_left_out_with_its_reason(package_copy: Path, case: str) -> None:
    way, engine, machine, reason = REASONS[case]
    package = package_with(
        package_copy, variant("best", 40, 0.1, ways={"unet": way}), variant("next", 40, 0.2, ways={}, steps=2)
    )
    chosen = choose_variant(package, read_budget("psnr=30"), choose(engine), machine)
    assert names_of(chosen) == "next"
    assert said(chosen)[0] == f"best is left out: {reason}"
    with pytest.raises(
        EngineUnavailable, match=re.escape(f"the variant best does not run here: {reason}; leave it out")
    ):
        named_variant(package, "best", read_budget("exact"), choose(engine), machine)


@pytest.mark.parametrize("engine", ["auto", "openvino", "unet=openvino", "unet=openvino,vae=ort"])
def test_an_engine_by_name_allows_the_variants_that_run_with_it(package_copy: Path, engine: str) -> None:
    package = package_with(package_copy, variant("ort", 40, 0.1, ways={"unet": ORT}), FAST)
    expected = "ort" if engine == "auto" else "fast"
    assert names_of(choose_variant(package, read_budget("psnr=30"), choose(engine), MACHINE)) == expected


def test_nothing_that_can_run_is_drawn_exactly(package_copy: Path) -> None:
    chosen = choose_variant(package_with(package_copy, FAST), read_budget("psnr=30"), choose("ort"), MACHINE)
    assert names_of(chosen) is None
    assert said(chosen) == [
        "fast is left out: it runs unet with openvino, but engine is ort",
        "no variant within psnr=30 is of use here: drawn exactly",
    ]


def test_a_variant_is_never_slower_than_what_is_exact(package_copy: Path) -> None:
    package = package_with(package_copy, variant("slow", 40, 1.0), variant("slower", 40, 1.5))
    chosen = choose_variant(package, read_budget("psnr=30"), choose(), MACHINE)
    assert names_of(chosen) is None and said(chosen)[0] == "slow is left out: drawing exactly is as fast"


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ({"": 2.0, "good": 0.4, "fast": 0.6}, "good"),
        ({"": 2.0, "good": 0.4}, "good"),
        ({"": 0.5, "good": 0.6, "fast": 0.7}, None),
        ({"": 2.0, "fast": 3.0}, "good"),
        ({"good": 0.1}, "fast"),
        ({}, "fast"),
    ],
)
def test_seconds_of_this_machine_go_before_those_of_the_builders(package_copy: Path, profile, expected) -> None:
    package = package_with(package_copy, GOOD, FAST)
    assert names_of(choose_variant(package, read_budget("psnr=30"), choose(), MACHINE, profile)) == expected


def test_what_the_profile_has_no_gain_by_is_said(package_copy: Path) -> None:
    """Whether it was slower here or did not run."""
    profile = {"": 0.5, "good": math.inf, "fast": 0.5}
    chosen = choose_variant(package_with(package_copy, GOOD, FAST), read_budget("psnr=30"), choose(), MACHINE, profile)
    assert said(chosen)[:2] == [
        "fast is left out: drawing exactly is as fast",
        "good is left out: the profile of this machine has no gain by it",
    ]


def test_what_did_not_open_is_passed_over_with_its_reason(package_copy: Path) -> None:
    package = package_with(package_copy, GOOD, FAST, WORST)
    budget, failed = read_budget("psnr=30"), {"fast": "no memory", "worst": "no memory"}
    chosen = choose_variant(package, budget, choose(), MACHINE, failed=failed)
    assert names_of(chosen) == "good" and said(chosen)[0] == "fast is left out: no memory" and len(said(chosen)) == 2
    chosen = choose_variant(package, budget, choose(), MACHINE, failed=dict.fromkeys(("fast", "good"), "no memory"))
    assert names_of(chosen) is None and said(chosen)[-1] == "no variant within psnr=30 is of use here: drawn exactly"


def test_this_machine_is_asked_by_the_rows_of_its_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    row = dataclasses.replace(ENGINES["ort"], missing=lambda: "gone", missing_for=lambda precision: f"no {precision}")
    monkeypatch.setitem(ENGINES, "ort", row)
    here = abilities_here()
    assert (here.missing("ort"), here.missing_for("ort", "bf16"), set(here.units)) == ("gone", "no bf16", MACHINE.units)


def test_a_variant_may_be_named(package_copy: Path) -> None:
    package = package_with(package_copy, GOOD, WORST)
    assert names_of(named_variant(package, "worst", read_budget("exact"), choose(), MACHINE)) == "worst"
    assert names_of(named_variant(package, "good", read_budget("psnr=30"), choose(), MACHINE)) == "good"
    with pytest.raises(InputError, match="variant worst is not within psnr=30: 20 dB"):
        named_variant(package, "worst", read_budget("psnr=30"), choose(), MACHINE)
    for name in ("best", 3):
        with pytest.raises(InputError, match=r"variant is ('best'|3); expected one of good, worst"):
            named_variant(package, name, read_budget("exact"), choose(), MACHINE)


def test_a_package_without_variants_has_none_of_any_name(tiny: Path) -> None:
    with pytest.raises(
        InputError, match=r"variant is 'int8'; this package has none \(`ldm-export build --budget` makes them\)$"
    ):
        ldm_runtime.load(tiny, variant="int8")
    with pytest.raises(InputError, match="budget is 'psnr=abc'; expected exact, psnr=DB"):
        ldm_runtime.load(tiny, budget="psnr=abc")


# --- runs ---


def test_without_a_budget_everything_is_as_it_was(tiny: Path, package_copy: Path) -> None:
    images = []
    for folder in (tiny, with_variants(package_copy, FAST, variant("short", 40, 0.1, ways={}, steps=1))):
        with ldm_runtime.load(folder, engine="ort", threads=1) as pipe:
            run = pipe.sample("red", seed=1)
            *_, last = run
            images.append(last.decode())
            assert pipe.variant is None and run.notices == () and "variant" not in run.metadata()
    np.testing.assert_array_equal(*images)


def test_defaults_of_a_variant_are_under_the_callers_own(package_copy: Path) -> None:
    short = variant("short", 40, 0.1, ways={}, steps=2, sampler="euler", guidance_until=0.5)
    with ldm_runtime.load(with_variants(package_copy, short), engine="ort", budget="psnr=30") as pipe:
        assert pipe.variant == short and pipe.info["variant"] == "short"
        run = pipe.sample("red", seed=1)
        request = run.request
        assert (request.plan.steps, request.plan.sampler.name, request.guidance_interval) == (2, "euler", (0.0, 0.5))
        assert said(run) == [
            str(notice) for notice in choose_variant(pipe.package, read_budget("psnr=30"), choose(), MACHINE).notices
        ]
        assert run.metadata()["variant"] == "short" and run.metadata()["guidance interval"] == "0 to 0.5"
        own = pipe.sample(
            "red", seed=1, steps=3, sampler="ddim", guidance_interval=(0.0, 1.0), guidance=2, size=(64, 64)
        )
        assert (own.request.plan.steps, own.request.plan.sampler.name) == (3, "ddim")
        assert said(own)[-1] == (
            "the error of short was measured with 2 steps, the sampler euler, guidance 3, guidance from 0 to 0.5 of "
            "the run, 64x48 pixels; of this run it is not known"
        )
        unguided = pipe.sample("red", seed=1, guidance=1.0)
        assert not any(notice.about == "guidance_interval" for notice in unguided.notices)


def test_a_decoded_image_says_which_variant_made_it(package_copy: Path) -> None:
    short = variant("short", 40, 0.1, ways={}, steps=2)
    with ldm_runtime.load(with_variants(package_copy, short), engine="ort", variant="short") as pipe:
        (image,) = pipe("red", seed=1)
        assert image.info["variant"] == "short"
        assert pipe.decode(np.zeros((1, 4, 6, 8), np.float32))[0].info == {
            "package": pipe.package.identity,
            "variant": "short",
        }


def test_an_engine_that_is_missing_makes_no_error_of_a_budget(
    package_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = EngineKind("", (("onnx", "any"),), lambda *arguments: None, lambda: "it is not installed")
    monkeypatch.setitem(ENGINES, "openvino", gone)
    with ldm_runtime.load(with_variants(package_copy, FAST), budget="psnr=30") as pipe:
        assert pipe.variant is None and set(pipe.info["engines"].values()) == {"ort"}
        assert "fast is left out: openvino does not run here: it is not installed" in said(pipe.sample("red", seed=1))


# --- the real OpenVINO ---


def test_bfloat16_draws_another_image_close_to_the_exact_one(
    package_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the CPU has no unit for it, OpenVINO would emulate it, which is refused."""
    monkeypatch.undo()
    ways = dict.fromkeys(("unet", "vae_decoder"), BF16)
    bfloat = variant("bf16", 34.0, 0.5, ways=ways)
    with_variants(package_copy, bfloat)
    if not {"avx512_bf16", "amx_bf16"}.intersection(units.cpu_units()):
        with pytest.raises(
            EngineUnavailable, match="the variant bf16 does not run here: it needs a CPU with AVX512-BF16"
        ):
            ldm_runtime.load(package_copy, variant="bf16")
        return
    latents = {}
    for budget in ("exact", "psnr=30"):
        with ldm_runtime.load(package_copy, budget=budget, threads=1) as pipe:
            latents[budget] = next(pipe.sample("red", seed=1)).latents
            assert (pipe.info["variant"], pipe.info["engines"]["unet"]) in ((None, "ort"), ("bf16", "openvino"))
    error = latents["psnr=30"] - latents["exact"]
    relative = float(np.sqrt((error**2).mean() / (latents["exact"] ** 2).mean()))
    assert 0 < relative < 0.05


def test_openvinos_emulation_of_bfloat16_is_refused(package_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "cpu_units", lambda: frozenset({"avx512f"}))
    emulated = variant("bf16", 34.0, 0.5, ways={"unet": dataclasses.replace(BF16, units=())})
    package = with_variants(package_copy, emulated)
    with pytest.raises(
        EngineUnavailable, match="does not run here: bf16 needs a CPU with AVX512-BF16 or AMX-BF16; this"
    ):
        ldm_runtime.load(package, variant="bf16")


def test_a_hint_that_says_otherwise_than_the_variant_is_refused(package_copy: Path) -> None:
    options = {"openvino": {"INFERENCE_PRECISION_HINT": "f32"}}
    with_variants(package_copy, FAST)
    with pytest.raises(InputError, match="leave out one of them"):
        ldm_runtime.load(package_copy, engine="openvino", engine_options=options, budget="psnr=30")


def test_an_option_that_gives_up_precision_is_said(tiny: Path) -> None:
    options = {"openvino": {PRECISION: "bf16"}}
    with ldm_runtime.load(tiny, engine="unet=openvino", engine_options=options) as pipe:
        assert said(pipe.sample("red", seed=1)) == [
            "openvino has the option INFERENCE_PRECISION_HINT=bf16, which computes in less than float32: how far the "
            "image is from the exact one is recorded nowhere"
        ]
