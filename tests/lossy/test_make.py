"""What is within the budget is kept, what is not is said, and a method that fails does not stop the others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ldm_export.errors import ExportError, VerificationError
from ldm_export.lossy import make
from ldm_export.lossy.make import choose_methods, make_variants
from ldm_export.lossy.measure import provisional
from ldm_export.lossy.method import Draft, Lossy, Made, Order
from ldm_export.lossy.prompts import OWN
from ldm_export.process.isolate import Outcome
from ldm_export.verify.variant_file import file_of
from ldm_runtime.budget import read_budget
from ldm_runtime.errors import EngineUnavailable, NonFiniteError, PackageError
from ldm_runtime.package.artefacts import Artefact, Difference
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.open import read_manifest
from ldm_runtime.package.variants import WHOLE_RUN, Way
from tests.runtime import tiny_package


def quiet(text: str) -> None: ...


def draft(name: str, note: str = "") -> Draft:
    return Draft(name, ("int8",), {"unet": Way("ort", name, "int8", ())}, WHOLE_RUN, note)


def method(name: str, note: str = "") -> Lossy:
    """One whose artefact is a graph of some bytes and its data."""

    def made(order: Order, *, progress: Any) -> Made:
        (order.folder / "unet" / f"model.{name}.onnx").write_bytes(b"graph")
        (order.folder / "unet" / f"{name}.safetensors").write_bytes(b"data")
        files = (f"unet/model.{name}.onnx", f"unet/{name}.safetensors", "unet/model.safetensors")
        artefact = Artefact(name, "onnx", files, "ort_cpu", "int8", "lossy", Difference(0.1, 0.1))
        return Made([draft(name, note)], {"unet": [artefact]})

    return Lossy(lambda: None, made)


def failing(order: Order, *, progress: Any) -> Made:
    (order.folder / "unet" / "model.bad.trial.onnx").write_bytes(b"begun")
    raise ExportError("this denoiser has no up block to cut at")


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> dict[str, Lossy]:
    table = {"good": method("good", "with 3 of 9 layers in float32"), "bad": method("bad")}
    monkeypatch.setattr(make, "LOSSY", table)
    return table


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Name of a draft -> PSNR that is measured of it, or what is raised; nothing is drawn."""
    found: dict[str, Any] = {"good": 36.04, "bad": 29.83}

    def isolated(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Outcome:
        if function in (make.draw, make.draw_recorded):
            return Outcome(None if function is make.draw else (None, {"unet": ["what it read"]}), 0, 0.0)
        if function is not make.measure_variant:
            return Outcome(function(*args, **kwargs), 10**9, 2.0)
        folder, manifest, one, *_ = args
        if isinstance(found[one.name], Exception):
            raise found[one.name]
        (folder / file_of(one.name)).parent.mkdir(parents=True, exist_ok=True)
        (folder / file_of(one.name)).write_bytes(b"record")
        variant = provisional(one)
        error = replace(variant.error, psnr=found[one.name], ssim=0.9 if found[one.name] is None else 0.5)
        return Outcome(replace(variant, error=error), 0, 0.0)

    monkeypatch.setattr(make, "run_isolated", isolated)
    for name in ("held_out_setting", "calibration_setting"):
        monkeypatch.setattr(make, name, lambda *args: SimpleNamespace(prompts=("a cat",) * 12))
    return found


@pytest.fixture
def package_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tiny_package.make(tmp_path / "package")


@pytest.fixture
def manifest(package_copy: Path) -> Manifest:
    found = read_manifest(package_copy)
    return replace(found, proof=replace(found.proof, passed=True))


def make_all(package: Path, manifest: Manifest, budget: str) -> Any:
    return make_variants(package, manifest, read_budget(budget), ("good", "bad"), OWN, quiet)


@pytest.mark.usefixtures("methods", "reached")
def test_what_is_within_the_budget_is_kept_and_nothing_of_the_rest(package_copy: Path, manifest: Manifest) -> None:
    made = make_all(package_copy, manifest, "psnr=35")
    assert [variant.name for variant in made.manifest.variants] == ["good"]
    names = [artefact.name for artefact in made.manifest.components["unet"].artefacts]
    assert names == [*(each.name for each in manifest.components["unet"].artefacts), "good"]
    added = {"unet/model.good.onnx", "unet/good.safetensors", "verify/variants/good.safetensors"}
    assert made.manifest.files.keys() - manifest.files.keys() == added
    assert not list(package_copy.rglob("*bad*"))
    assert [draft.name for draft, _ in made.measured] == ["good", "bad"]
    assert [(stage.name, stage.seconds, stage.peak_bytes) for stage in made.stages] == [
        ("lossy: calibrating prompts", 0.0, 0),
        ("lossy: held-out prompts", 0.0, 0),
        ("lossy: making good", 2.0, 10**9),
        ("lossy: measuring good", 0.0, 0),
        ("lossy: making bad", 2.0, 10**9),
        ("lossy: measuring bad", 0.0, 0),
    ]


@pytest.mark.usefixtures("methods", "reached")
def test_a_budget_that_cannot_be_met_says_what_was_reached(package_copy: Path, manifest: Manifest) -> None:
    with pytest.raises(VerificationError) as caught:
        make_all(package_copy, manifest, "psnr=40")
    assert str(caught.value) == (
        "no lossy form is within psnr=40: good reached 36.04 dB with 3 of 9 layers in float32, bad reached 29.83 dB; "
        "ask for psnr=36, or leave out --budget"
    )


@pytest.mark.usefixtures("methods")
def test_a_budget_below_the_least_is_not_advised(
    package_copy: Path, manifest: Manifest, reached: dict[str, Any]
) -> None:
    reached |= {"good": 7.5, "bad": 6.0}
    with pytest.raises(VerificationError, match="bad reached 6 dB; leave out --budget$"):
        make_all(package_copy, manifest, "psnr=40")


@pytest.mark.usefixtures("methods")
def test_a_budget_of_similarity_is_judged_by_it(
    package_copy: Path, manifest: Manifest, reached: dict[str, Any]
) -> None:
    reached["bad"] = None  # equal images, with the similarity 0.9 of this fixture
    assert [each.name for each in make_all(package_copy, manifest, "ssim=0.8").kept] == ["bad"]


@pytest.mark.usefixtures("methods")
def test_a_variant_that_makes_nan_is_left_out_and_the_others_go_on(
    package_copy: Path, manifest: Manifest, reached: dict[str, Any]
) -> None:
    reached["bad"] = NonFiniteError("unet made NaN or infinity in out_sample")
    said: list[str] = []
    made = make_variants(package_copy, manifest, read_budget("psnr=35"), ("good", "bad"), OWN, said.append)
    assert [each.name for each in made.kept] == ["good"]
    assert "bad cannot be drawn with: unet made NaN or infinity in out_sample" in said
    reached["good"] = reached["bad"]
    with pytest.raises(
        VerificationError, match="no lossy form could be measured for psnr=35: good cannot be drawn with"
    ):
        make_all(package_copy, manifest, "psnr=35")


@pytest.mark.usefixtures("reached")
def test_a_method_that_cannot_be_made_is_said_and_left_out(
    package_copy: Path, manifest: Manifest, methods: dict[str, Lossy]
) -> None:
    methods["bad"] = Lossy(lambda: None, failing)
    said: list[str] = []
    made = make_variants(package_copy, manifest, read_budget("psnr=35"), ("good", "bad"), OWN, said.append)
    assert [each.name for each in made.kept] == ["good"]
    assert "bad cannot be made: this denoiser has no up block to cut at" in said
    assert not list(package_copy.rglob("*bad*")) and not [file for file in made.manifest.files if "bad" in file]


@pytest.mark.parametrize(
    ("has_milder", "per_margin", "margins"),
    [
        (True, 1.0, [2.0, 8.0]),  # 5.5 dB were missing, and half a dB more is asked for
        (True, 0.5, [2.0, 8.0, 11.0]),
        (True, 0.0, [2.0, 8.0, 14.0]),  # that is enough
        (False, 1.0, [2.0]),
    ],
)
def test_a_method_is_made_again_with_what_was_missing_as_margin(
    package_copy: Path,
    manifest: Manifest,
    methods: dict[str, Lossy],
    reached: dict[str, Any],
    has_milder: bool,
    per_margin: float,
    margins: list[float],
) -> None:
    made_with: list[float] = []

    def made(order: Order, *, progress: Any) -> Made:
        assert not list(package_copy.rglob("*bad*"))  # nothing is left of the time before
        assert [each.name for each in order.made] == ["good"]
        made_with.append(order.margin)
        reached["bad"] = 29.5 + per_margin * (order.margin - 2.0)
        return replace(methods["good once"].make(order, progress=progress), has_milder=has_milder)

    methods["good once"] = method("bad", f"made {'twice' if has_milder else 'once'}")
    methods["bad"] = Lossy(lambda: None, made)
    result = make_variants(package_copy, manifest, read_budget("psnr=35"), ("good", "bad"), OWN, quiet)
    assert made_with == margins
    holds = 29.5 + per_margin * (margins[-1] - 2.0) >= 35
    assert [each.name for each in result.kept] == ["good", *(["bad"] if holds else [])]
    assert [one.name for one, _ in result.measured] == ["good", "bad"]  # the last time counts


def test_a_method_builds_upon_what_was_kept_alone(
    package_copy: Path, manifest: Manifest, methods: dict[str, Lossy], reached: dict[str, Any]
) -> None:
    seen: list[list[str]] = []

    def made(order: Order, *, progress: Any) -> Made:
        seen.append([each.name for each in order.made])
        return Made([])

    methods["third"] = Lossy(lambda: None, made)
    make_variants(package_copy, manifest, read_budget("psnr=35"), ("good", "bad", "third"), OWN, quiet)
    assert seen == [["good"]] and reached["bad"] < 35


@pytest.mark.usefixtures("methods", "reached")
def test_a_package_that_has_not_passed_is_not_measured_against(package_copy: Path, manifest: Manifest) -> None:
    unproven = replace(manifest, proof=replace(manifest.proof, passed=False))
    with pytest.raises(PackageError, match="has not passed verification, so its good and bad cannot be measured"):
        make_all(package_copy, unproven, "psnr=35")


def test_a_method_that_is_missing_something_is_refused_by_name_and_left_out_otherwise(
    methods: dict[str, Lossy],
) -> None:
    methods["bad"] = replace(methods["bad"], missing=lambda: "bf16 needs a CPU with AVX512-BF16")
    methods["third"] = methods["good"]
    said: list[str] = []
    assert choose_methods((), said.append) == ("good", "third")
    assert said == ["bad is left out: bf16 needs a CPU with AVX512-BF16"]
    assert choose_methods(("third", "good"), quiet) == ("good", "third")
    with pytest.raises(EngineUnavailable, match="^bad cannot be measured here: bf16 needs a CPU"):
        choose_methods(("bad", "good"), quiet)
    del methods["good"], methods["third"]
    with pytest.raises(EngineUnavailable, match="^no lossy method can be measured here: bad: bf16 needs"):
        choose_methods((), quiet)
