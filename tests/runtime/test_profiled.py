"""A profile decides on the engines, threads and variant of `load`, where everything is left to the machine."""

import dataclasses
import json
from pathlib import Path

import pytest

import ldm_runtime
from ldm_runtime import opening, variants
from ldm_runtime.budget import read_budget
from ldm_runtime.engines import profile as profiles
from ldm_runtime.engines.choice import choose
from ldm_runtime.engines.profile import Best, Measured, Profile, place_of, this_machine
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.errors import EngineError
from ldm_runtime.files import hash_cache, strict_json
from ldm_runtime.package.open import open_package
from tests.runtime.broken_package import broken_variant, with_broken
from tests.runtime.lossy_package import variant, with_variants

MIXED = Best("", {"unet": "openvino"}, 1, 0.5)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = hash_cache.cache_folder()
    assert folder is not None and tmp_path in folder.parents
    return folder


def keep(package: Path, *chosen: Best, **machine: object) -> Path:
    """Write a profile of a package on this machine."""
    here = dataclasses.replace(this_machine(), **machine)
    identity = open_package(package, check="size").identity
    measured = tuple(Measured(each.variant, each.variant, (each.seconds,), 0.1, 1, None) for each in chosen)
    profile = Profile(1, identity, here, "2026-11-30", (64, 48), 4, 1.0, chosen, measured)
    place = place_of(identity, here)
    assert place is not None
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(strict_json.plain(profile)), encoding="utf-8")
    return place


def engines(package: Path, **options: object) -> tuple[str, list[str]]:
    """Return the denoiser's engine, and what a run says."""
    with ldm_runtime.load(package, **options) as pipe:  # type: ignore[arg-type]
        run = pipe.sample("red", seed=1, steps=1)
        return pipe.info["engines"]["unet"], [str(notice) for notice in run.notices]


def test_auto_follows_it_and_says_nothing(tiny):
    keep(tiny, MIXED)
    assert engines(tiny) == ("openvino", [])
    with ldm_runtime.load(tiny) as pipe:
        assert pipe.info["engines"] == {"text_encoder": "ort", "unet": "openvino", "vae_decoder": "ort"}


def test_images_are_those_of_the_engines_by_name(tiny):
    keep(tiny, MIXED)
    with ldm_runtime.load(tiny) as tuned, ldm_runtime.load(tiny, engine="unet=openvino", threads=1) as named:
        assert tuned("red", seed=1)[0].tobytes() == named("red", seed=1)[0].tobytes()


@pytest.mark.parametrize("options", [{"engine": "ort"}, {"threads": 1}, {"engine_options": {"ort:cuda": {"a": "1"}}}])
def test_who_says_anything_himself_is_not_overruled(tiny, options):
    keep(tiny, MIXED)
    assert engines(tiny, **options)[0] == "ort"


def test_the_default_as_a_choice_is_the_default(tiny):
    keep(tiny, Best("", {}, None, 1.0))
    assert engines(tiny) == ("ort", [])


def test_a_stale_one_is_not_followed_and_a_run_says_so(tiny):
    keep(tiny, MIXED, cores=999)
    name, (notice,) = engines(tiny)
    assert name == "ort" and notice.startswith("the profile of this package was measured with 999 cores, and this")
    assert notice.endswith(f"run `ldm-export tune {tiny}` again")


def test_a_damaged_one_is_not_followed_and_a_run_says_so(tiny):
    keep(tiny, MIXED).write_text("{", encoding="utf-8")
    name, (notice,) = engines(tiny)
    assert name == "ort" and notice.startswith("the profile of this package is damaged and not followed: ")


def test_what_does_not_run_any_more_gives_way_to_the_usual_engines_and_that_is_said(tiny):
    keep(tiny, Best("", {"unet": "tensorrt"}, None, 0.5))
    name, (notice,) = engines(tiny)
    assert name == "ort"
    assert notice.startswith("what `ldm-export tune` chose does not run now, and the usual engines do instead: ")


def test_what_fails_as_it_opens_gives_way_too(tiny, monkeypatch):
    def failing(*arguments):
        raise EngineError("no memory")

    monkeypatch.setitem(ENGINES, "openvino", dataclasses.replace(ENGINES["openvino"], open=failing))
    keep(tiny, MIXED)
    name, (notice,) = engines(tiny)
    assert name == "ort" and notice.endswith("and the usual engines do instead: no memory")


def test_engines_for_components_that_are_not_there_are_not_followed(tiny):
    keep(tiny, Best("", {"vae": "openvino"}, None, 0.5))
    name, (notice,) = engines(tiny)
    assert name == "ort" and "has an engine for 'vae'; expected one of" in notice


def test_the_fastest_variant_that_fails_as_it_opens_gives_way_to_the_next(package_copy):
    with_variants(with_broken(package_copy), variant("next", 35.0, 0.9, ways={}, steps=3), broken_variant(0.8))
    keep(package_copy, MIXED, Best("broken", {}, 1, 0.1), Best("next", {"unet": "openvino"}, None, 0.2))
    name, notices = engines(package_copy, budget="psnr=30")
    assert name == "openvino" and notices[0].startswith("broken is left out: ort does not run broken of unet: ")
    assert notices[1].startswith("the variant next draws: ") and not any("ldm-export tune" in each for each in notices)


def test_a_package_that_is_built_again_has_no_profile(tiny, package_copy):
    keep(tiny, MIXED)
    manifest = package_copy / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"tiny"', '"again"', 1), encoding="utf-8")
    assert engines(package_copy) == ("ort", [])


def test_a_budget_is_met_by_what_is_fastest_here_and_exact_takes_nothing_lossy(tiny, monkeypatch):
    keep(tiny, MIXED, Best("int8", {}, None, 0.2))
    asked: list[tuple[str, dict[str, float]]] = []

    def choose_variant(package, budget, choice, profile, failed):
        asked.append((budget.kind, profile))
        return variants.Chosen(None, ())

    monkeypatch.setattr(opening, "choose_variant", choose_variant)
    assert engines(tiny)[0] == engines(tiny, budget="psnr=30")[0] == "openvino"
    assert asked == [("exact", {"": 0.5, "int8": 0.2}), ("psnr", {"": 0.5, "int8": 0.2})]
    monkeypatch.undo()
    exact = choose_variant_of(tiny, "exact")
    assert exact.variant is None and exact.notices == ()


def choose_variant_of(package: Path, budget: str) -> variants.Chosen:
    return variants.choose_variant(open_package(package), read_budget(budget), choose(), profile={"": 0.5, "int8": 0.2})


def test_the_machine_is_not_looked_at_without_a_profile(tiny, monkeypatch):
    monkeypatch.setattr(profiles, "this_machine", lambda: pytest.fail("looked at"))
    assert engines(tiny) == ("ort", [])
