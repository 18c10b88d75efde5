"""Merged tokens as a lossy method: what is written for it, the ratios that are chosen, and the gate."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from ldm_export.errors import ExportError
from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.lossy import merging, trials
from ldm_export.lossy.caching import EXACT_ENGINE
from ldm_export.lossy.keep import with_differences
from ldm_export.lossy.measure import Runs, Setting, draw, measure_variant, setting_of
from ldm_export.lossy.merging import RATIOS, make_merging, merged, merged_share, require_many_tokens, write_merged
from ldm_export.lossy.method import Draft, Made, Order
from ldm_export.lossy.prompts import OWN
from ldm_export.lossy.trials import provisional
from ldm_export.optimise.merge_tokens import merge_tokens
from ldm_export.package.write import with_artefacts, with_files
from ldm_export.verify import reference_file
from ldm_export.verify.gate import proving_engines
from ldm_export.verify.report import VariantResult
from ldm_export.verify.variants import verify_variants
from ldm_runtime.budget import read_budget
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.errors import FormatError
from ldm_runtime.package import manifest_json
from ldm_runtime.package.artefacts import Artefact
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.open import Package, open_package, read_manifest
from ldm_runtime.package.variants import WHOLE_RUN, Variant, Way
from ldm_runtime.pipeline import Pipeline
from tests.once import make_once

BUILTIN = Path(__file__).parents[2] / "runtime/ldm_runtime/builtin"
TOKENS = 64  # of the built-in model at its own size


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few tokens as the built-in model has are enough."""
    monkeypatch.setattr(merging, "LEAST_TOKENS", TOKENS)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """A copy of the built-in model that graphs may be written into."""
    folder = Path(shutil.copytree(BUILTIN, tmp_path / "package"))
    return Package(folder, read_manifest(folder), "", "size")


def of_unet(package: Package, name: str) -> Artefact:
    return next(each for each in package.manifest.components["unet"].artefacts if each.name == name)


def exact_draft() -> Draft:
    return Draft("", (), {"unet": Way(EXACT_ENGINE, "ort_cpu", "fp32", ())}, WHOLE_RUN)


def made_up_runs(setting: Setting, level: float) -> Runs:
    """Runs whose images differ from those of level 0 by so many levels of 255."""
    count = len(setting.prompts)
    images = np.full((count, 16, 16, 3), round(100 + level), np.uint8)
    return Runs((np.ones((setting.steps, 4, 2, 2), np.float32),) * count, images, (1.0,) * count)


def _say(text: str) -> None:
    assert text


# --- artefacts ---


@pytest.mark.parametrize("base", ["canonical", "ort_cpu"])
def test_the_graph_reads_the_weights_that_are_there(package: Package, base: str) -> None:
    sizes = {path: path.stat().st_size for path in package.path.rglob("*.safetensors")}
    known = of_unet(package, base)
    made = write_merged(package, known, 0.5)
    assert {path: path.stat().st_size for path in package.path.rglob("*.safetensors")} == sizes
    assert made.files[1:] == known.files[1:] and (package.path / made.file).stat().st_size < 500_000
    assert made.name == ("merged-50" if base == "canonical" else "ort_cpu-merged-50")
    assert (made.exactness, made.precision, made.engine, made.merged) == ("lossy", "fp32", known.engine, 0.5)


def test_a_manifest_with_it_is_read_again_and_nothing_draws_with_it_unasked(package: Package) -> None:
    folder = package.path
    artefact = write_merged(package, of_unet(package, "ort_cpu"), 0.4)
    known = with_artefacts(folder, package.manifest, {"unet": [artefact]})
    variant = provisional(merged(exact_draft(), artefact, "unet"))
    (folder / "manifest.json").write_text(manifest_json.dump(dataclasses.replace(known, variants=(variant,))))
    opened = open_package(folder).manifest
    assert (opened.variants[0].name, opened.variants[0].methods) == ("merged", ("merging",))
    assert {each.name for each in opened.pickable("unet")} == {"canonical", "ort_cpu"}
    with pytest.raises(FormatError, match="has merged tokens, but no variant names it; expected one with its error"):
        manifest_json.parse(manifest_json.dump(known), "manifest.json")


def test_its_measured_difference_is_noted(package: Package) -> None:
    artefact = write_merged(package, of_unet(package, "ort_cpu"), 0.4)
    known = with_artefacts(package.path, package.manifest, {"unet": [artefact]})
    variant = provisional(merged(exact_draft(), artefact, "unet"))
    found = dataclasses.replace(variant.error.components["unet"], relative_rms=0.25)
    variant = dataclasses.replace(variant, error=dataclasses.replace(variant.error, components={"unet": found}))
    noted = with_differences(known, [variant]).components["unet"].artefacts
    assert [each.difference for each in noted] == [None, None, found]


def test_a_model_of_few_tokens_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "LEAST_TOKENS", 64 * 64)
    with pytest.raises(ExportError, match=r"at 128x128 pixels .* has 64 tokens at most, .* would leave 96% of the"):
        require_many_tokens(Package(BUILTIN, read_manifest(BUILTIN), "", "size"))


def test_what_has_no_attention_is_refused(package: Package) -> None:
    folder = package.path
    for file in ("model.onnx", "model.safetensors"):
        shutil.copyfile(folder / "vae_decoder" / file, folder / "unet" / file)
    with pytest.raises(ExportError, match="has no attention of the image to itself"):
        require_many_tokens(package)


def test_the_more_is_merged_the_less_work_is_left(package: Package) -> None:
    shares = [merged_share(package, ratio) for ratio in RATIOS]
    assert all(more > less for more, less in zip([1.0, *shares], shares, strict=False))
    assert shares[-1] > 0.5


# --- the search, with errors that are made up ---


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs whose images differ by the ratio, and the artefacts that were tried; each is there when it is."""
    names: list[str] = []

    def fake(folder: Path, manifest: Manifest, setting: Setting, variant: Variant) -> Runs:
        name = variant.ways["unet"].artefact
        (artefact,) = (each for each in manifest.components["unet"].artefacts if each.name == name)
        assert (folder / artefact.file).is_file() and artefact.file in manifest.files
        names.append(name)
        level = 10 * (artefact.merged or 0) + (2.2 if "int8" in variant.methods else 0)
        return made_up_runs(setting, round(level, 3))

    monkeypatch.setattr(trials, "draw", fake)
    return names


def ordered(package: Package, budget: str, *made: Draft) -> Order:
    setting = setting_of(package.path, package.manifest, OWN.calibration[:2], 1)
    exact = made_up_runs(setting, 0.0)
    return Order(package.path, package.manifest, read_budget(budget), setting, exact, ("merging",), made)


def _drafts(made: Made) -> list[tuple[str, tuple[str, ...], str]]:
    return [(each.name, each.methods, each.ways["unet"].artefact) for each in made.drafts]


def _graphs(package: Package) -> list[str]:
    return sorted(path.name for path in (package.path / "unet").glob("*merged*"))


def test_as_much_is_merged_as_the_budget_allows(package: Package, tried: list[str]) -> None:
    """34.2 dB with the margin of 2 are a difference of 4 levels of 255: 40 %."""
    made = make_merging(ordered(package, "psnr=34"), progress=_say)
    assert _drafts(made) == [("merged", ("merging",), "ort_cpu-merged-40")]
    assert [each.name for each in made.artefacts["unet"]] == ["ort_cpu-merged-40"]
    assert _graphs(package) == ["model.ort_cpu.merged-40.onnx"] and len(tried) <= 3
    assert made.drafts[0].note == "with 40% of the tokens merged"


def test_what_was_made_before_is_merged_beside_its_own_error(package: Package, tried: list[str]) -> None:
    way = Way("openvino", "canonical", "bf16", ())
    before = [
        Draft("bf16", ("bf16",), {"unet": way}, WHOLE_RUN),
        Draft("int8", ("int8",), {"unet": way}, WHOLE_RUN, "with 3 layers"),
        Draft("cached", ("caching",), {"unet": way}, dataclasses.replace(WHOLE_RUN, guidance_until=0.5)),
        Draft("decoder", ("int8",), {}, WHOLE_RUN),
    ]
    made = make_merging(ordered(package, "psnr=34", *before), progress=_say)
    assert _drafts(made) == [
        ("merged", ("merging",), "ort_cpu-merged-40"),
        ("bf16-merged", ("bf16", "merging"), "merged-40"),
    ]
    assert made.drafts[1].ways["unet"] == dataclasses.replace(way, artefact="merged-40")
    assert _graphs(package) == ["model.merged-40.onnx", "model.ort_cpu.merged-40.onnx"]
    made = make_merging(ordered(package, "psnr=32", *before), progress=_say)
    assert _drafts(made)[-1] == ("int8-merged", ("int8", "merging"), "merged-30")
    assert made.drafts[-1].note == "with 3 layers, with 30% of the tokens merged"


def test_where_nothing_holds_the_mildest_is_measured(package: Package, tried: list[str]) -> None:
    before = Draft("bf16", ("bf16",), {"unet": Way("openvino", "canonical", "bf16", ())}, WHOLE_RUN)
    made = make_merging(ordered(package, "psnr=90", before), progress=_say)
    assert _drafts(made) == [("merged", ("merging",), "ort_cpu-merged-25")]


# --- engines ---


@pytest.mark.slow
@pytest.mark.parametrize("size", [(128, 128), (104, 88)])
def test_openvino_draws_what_onnx_runtime_draws(package: Package, size: tuple[int, int]) -> None:
    """Latents of odd sides, too."""
    if ENGINES["openvino"].missing() is not None:
        pytest.skip(f"openvino: {ENGINES['openvino'].missing()}")
    drawn = []
    for engine, base in (("ort", "ort_cpu"), ("openvino", "canonical")):
        artefact = write_merged(package, of_unet(package, base), 0.5)
        draft = merged(Draft("", (), {"unet": Way(engine, base, "fp32", ())}, WHOLE_RUN), artefact, "unet")
        manifest = with_artefacts(package.path, package.manifest, {"unet": [artefact]})
        manifest = dataclasses.replace(manifest, variants=(provisional(draft),))
        with Pipeline(
            Package(package.path, manifest, "", "size"), proving_engines(), variant=provisional(draft)
        ) as pipe:
            drawn.append(list(pipe.sample("red", seed=3, steps=2, size=size))[-1].latents)
    np.testing.assert_allclose(*drawn, rtol=1e-3, atol=1e-3)


# --- the gate ---


@pytest.fixture(scope="module")
def varied(proven: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A tiny proven package with a measured variant that merges half of the tokens; read only."""

    def make(folder: Path) -> tuple[Path, Manifest]:
        path = Path(shutil.copytree(proven("sd15"), folder / "package"))
        package = Package(path, read_manifest(path), "", "size")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(merging, "LEAST_TOKENS", TOKENS)
            artefact = write_merged(package, of_unet(package, "ort_cpu"), 0.5)
        known = with_artefacts(path, package.manifest, {"unet": [artefact]})
        setting = dataclasses.replace(setting_of(path, known, OWN.held_out[:2], 101), steps=4)
        draft = merged(exact_draft(), artefact, "unet")
        measured = measure_variant(path, known, draft, setting, draw(path, known, setting))
        return path, with_files(path, dataclasses.replace(known, variants=(measured,)))

    return make_once(tmp_path_factory, "sd15-merged", make)


def gate(folder: Path, manifest: Manifest) -> VariantResult:
    package = Package(folder, manifest, "", "size")
    reference = reference_file.read(folder / reference_file.FILE)
    ((result, _),) = verify_variants(package, proving_engines(), reference, _say)
    return result


@pytest.mark.slow
def test_a_variant_with_merged_tokens_passes_the_gate(varied: tuple[Path, Manifest]) -> None:
    result = gate(*varied)
    assert result.passed, result
    error = varied[1].variants[0].error
    assert error.psnr is not None and error.components["unet"].relative_rms > 1e-3
    manifest = with_differences(varied[1], varied[1].variants)
    assert manifest_json.parse(manifest_json.dump(manifest), "manifest.json") == manifest


def _another_ratio(model: ir.Model, exact: ir.Model) -> ir.Model:
    return merge_tokens(exact, 0.45)[0]


def _exact(model: ir.Model, exact: ir.Model) -> ir.Model:
    return exact


def _sums(model: ir.Model, exact: ir.Model) -> ir.Model:
    """Sums of tokens where there should be means."""
    for node in model.graph:
        if str(node.name).endswith("merge_mean"):
            ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0])
    return model


Damage = Callable[[ir.Model, ir.Model], ir.Model]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [_another_ratio, _exact, _sums])
def test_the_gate_sees(varied: tuple[Path, Manifest], tmp_path: Path, damage: Damage) -> None:
    folder = Path(shutil.copytree(varied[0], tmp_path / "package"))
    graph = folder / "unet/model.ort_cpu.merged-50.onnx"
    write_graph(damage(read_graph(graph), read_graph(folder / "unet/model.ort_cpu.onnx")), graph)
    assert not gate(folder, varied[1]).passed
