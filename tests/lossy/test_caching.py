"""Deep features as a lossy method: what is written for it, the schedules that are chosen, and the gate."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ldm_export.errors import ExportError
from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.lossy import caching, trials
from ldm_export.lossy.caching import EXACT_ENGINE, cached, make_caching, shallow_shares, write_cut
from ldm_export.lossy.measure import Runs, Setting, calibration_setting, draw, measure_variant, setting_of
from ldm_export.lossy.method import Draft, Made, Order
from ldm_export.lossy.prompts import OWN
from ldm_export.lossy.shorter import make_guidance, make_steps
from ldm_export.lossy.trials import MARGIN, stricter
from ldm_export.optimise.cut_at import KEPT
from ldm_export.package.write import with_artefacts, with_files
from ldm_export.verify import reference_file
from ldm_export.verify.gate import proving_engines
from ldm_export.verify.report import VariantResult
from ldm_export.verify.variants import verify_variants
from ldm_runtime.budget import read_budget
from ldm_runtime.errors import FormatError
from ldm_runtime.package import manifest_json
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.open import Package, open_package, read_manifest
from ldm_runtime.package.variants import WHOLE_RUN, Variant, VariantRun, Way
from tests.once import make_once

BUILTIN = Path(__file__).parents[2] / "runtime/ldm_runtime/builtin"


@pytest.fixture(scope="module")
def builtin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the built-in model that graphs may be written into."""
    return Path(shutil.copytree(BUILTIN, tmp_path_factory.mktemp("packages") / "builtin"))


def exact_draft(artefact: str = "ort_cpu") -> Draft:
    return Draft("", (), {"unet": Way(EXACT_ENGINE, artefact, "fp32", ())}, WHOLE_RUN)


def order(folder: Path, budget: str = "psnr=30", *made: Draft) -> Order:
    manifest = read_manifest(folder)
    setting = calibration_setting(folder, manifest, OWN)
    return Order(folder, manifest, read_budget(budget), setting, made_up_runs(setting, 0.0), ("caching",), made)


def made_up_runs(setting: Setting, level: float) -> Runs:
    """Runs whose images differ from those of level 0 by so many levels of 255."""
    count = len(setting.prompts)
    images = np.full((count, 16, 16, 3), round(100 + level), np.uint8)
    return Runs((np.ones((setting.steps, 4, 2, 2), np.float32),) * count, images, (1.0,) * count)


# --- artefacts ---


@pytest.mark.parametrize("base", ["canonical", "ort_cpu"])
def test_both_graphs_read_the_weights_that_are_there(builtin: Path, base: str) -> None:
    known = read_manifest(builtin)
    artefact = next(each for each in known.components["unet"].artefacts if each.name == base)
    sizes = {path: path.stat().st_size for path in builtin.rglob("*.safetensors")}
    cut = write_cut(builtin, known, artefact, 1)
    assert {path: path.stat().st_size for path in builtin.rglob("*.safetensors")} == sizes
    assert cut.deep.files[1:] == cut.shallow.files[1:] == artefact.files[1:]
    prefix = "" if base == "canonical" else "ort_cpu-"
    assert (cut.deep.name, cut.shallow.name) == (f"{prefix}deep-1", f"{prefix}shallow-1")
    assert sum((builtin / each.file).stat().st_size for each in (cut.deep, cut.shallow)) < 500_000
    assert [spec.name for spec in cut.deep.interface.outputs] == ["out_sample", KEPT]
    assert [spec.name for spec in cut.shallow.interface.inputs] == ["sample", "timestep", KEPT]
    caching.remove_cut(builtin, cut)


def test_a_manifest_with_both_is_read_again_and_nothing_draws_with_them_unasked(builtin: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(builtin, tmp_path / "package"))
    known = read_manifest(folder)
    cut = write_cut(folder, known, known.components["unet"].artefacts[1], 2)
    variant = trials.provisional(cached(exact_draft(), cut, 2, 2, "unet"))
    made = with_artefacts(folder, dataclasses.replace(known, variants=(variant,)), {"unet": [cut.deep, cut.shallow]})
    (folder / "manifest.json").write_text(manifest_json.dump(made), encoding="utf-8")
    opened = open_package(folder).manifest
    assert opened.variants[0].run.caching == cut.caching(2)
    assert {each.name for each in opened.pickable("unet")} == {"canonical", "ort_cpu"}
    swapped = manifest_json.dump(made).replace('"keeps": "ort_cpu-deep-2"', '"keeps": "ort_cpu-shallow-2"')
    swapped = swapped.replace('"reads": "ort_cpu-shallow-2"', '"reads": "ort_cpu-deep-2"')
    assert swapped != manifest_json.dump(made)
    with pytest.raises(FormatError):
        manifest_json.parse(swapped, "manifest.json")


def test_the_share_of_the_work_grows_with_the_depth() -> None:
    shares = shallow_shares(BUILTIN, read_manifest(BUILTIN))
    assert list(shares) == [1, 2]
    assert 0.05 < shares[1] < 0.15 < shares[2] < 0.4


def test_what_has_no_up_block_is_refused(builtin: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(builtin, tmp_path / "package"))
    shutil.copyfile(folder / "text_encoder/model.onnx", folder / "unet/model.onnx")
    shutil.copyfile(folder / "text_encoder/model.safetensors", folder / "unet/model.safetensors")
    with pytest.raises(ExportError, match="this denoiser has no up block to cut at"):
        shallow_shares(folder, read_manifest(folder))


# --- the search, with errors that are made up ---


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[VariantRun]:
    """Runs whose images differ by what the variant leaves out, and the runs that were tried."""
    tried: list[VariantRun] = []

    def fake(folder: Path, manifest: Manifest, setting: Setting, variant: Variant) -> Runs:
        run = variant.run
        tried.append(run)
        interval = 1 if run.caching is None else run.caching.interval
        depth = 1 if run.caching is None else int(run.caching.keeps[-1])
        steps = setting.steps if run.steps is None else run.steps
        level = 2.0 * (interval - 1) / depth + 20 * (1 - run.guidance_until) + (setting.steps - steps)
        return made_up_runs(setting, level + (3 if "int8" in variant.methods else 0))

    monkeypatch.setattr(trials, "draw", fake)
    return tried


def _say(text: str) -> None:
    assert text


def _cached(made: Made) -> list[tuple[str, tuple[str, ...], int, str]]:
    return [(each.name, each.methods, each.run.caching.interval, each.run.caching.keeps) for each in made.drafts]


def test_the_cheapest_schedule_within_the_budget_is_chosen(builtin: Path, made_up: list[VariantRun]) -> None:
    """34.2 dB with the margin of 2 are a difference of 4 levels of 255: interval 3 at depth 1, 5 at depth 2."""
    made = make_caching(order(builtin, "psnr=34"), progress=_say)
    assert _cached(made) == [("cached", ("caching",), 3, "ort_cpu-deep-1")]
    assert [each.name for each in made.artefacts["unet"]] == ["ort_cpu-deep-1", "ort_cpu-shallow-1"]
    assert sorted(path.name for path in (builtin / "unet").glob("*deep*")) == ["model.ort_cpu.deep-1.onnx"]
    assert len(made_up) < 8
    for each in made.artefacts["unet"]:
        (builtin / each.file).unlink()


def test_what_was_made_before_is_cut_at_the_same_depth(builtin: Path, made_up: list[VariantRun]) -> None:
    """With an error of its own already, a lossy graph is kept for fewer rows."""
    before = Draft("int8", ("int8",), {"unet": Way("openvino", "canonical", "fp32", ())}, WHOLE_RUN, "with 3 layers")
    made = make_caching(order(builtin, "psnr=30", before), progress=_say)
    assert _cached(made) == [
        ("cached", ("caching",), 4, "ort_cpu-deep-1"),
        ("int8-cached", ("int8", "caching"), 2, "deep-1"),
    ]
    assert made.drafts[1].ways["unet"] == Way("openvino", "deep-1", "fp32", ())
    assert made.drafts[1].note == "with 3 layers, with deep features kept for 2 rows at depth 1"
    for each in made.artefacts["unet"]:
        (builtin / each.file).unlink()


def test_where_nothing_holds_the_mildest_is_measured(builtin: Path, made_up: list[VariantRun]) -> None:
    before = Draft("int8", ("int8",), {"unet": Way("openvino", "canonical", "fp32", ())}, WHOLE_RUN)
    made = make_caching(order(builtin, "psnr=90", before), progress=_say)
    assert _cached(made) == [("cached", ("caching",), 2, "ort_cpu-deep-2")]
    for each in made.artefacts["unet"]:
        (builtin / each.file).unlink()


def test_guidance_ends_as_early_as_it_may(builtin: Path, made_up: list[VariantRun]) -> None:
    cache = dataclasses.replace(exact_draft(), name="cached", methods=("caching",))
    cut = write_cut(builtin, read_manifest(builtin), read_manifest(builtin).components["unet"].artefacts[1], 1)
    cache = cached(exact_draft(), cut, 2, 1, "unet")
    made = make_guidance(order(builtin, "psnr=30", cache), progress=_say)
    assert [(each.name, each.methods, each.run.guidance_until) for each in made.drafts] == [
        ("guidance", ("guidance",), 0.7),
        ("cached-guidance", ("caching", "guidance"), 0.8),
    ]
    assert made.drafts[1].run.caching == cut.caching(2) and not made.artefacts
    caching.remove_cut(builtin, cut)


def test_steps_are_as_few_as_may_be(builtin: Path, made_up: list[VariantRun]) -> None:
    made = make_steps(order(builtin, "psnr=30"), progress=_say)
    assert [(each.name, each.methods, each.run.steps) for each in made.drafts] == [("steps", ("steps",), 14)]


def test_steps_are_not_left_out_where_the_runs_that_are_compared_have_fewer(
    builtin: Path, made_up: list[VariantRun]
) -> None:
    """8 of 10 steps say nothing of a model that draws in 20: the exact image would be that of 10."""
    given = order(builtin)
    shorter = dataclasses.replace(given, setting=dataclasses.replace(given.setting, steps=10))
    with pytest.raises(ExportError, match="draws in 20 steps, .* its runs are compared in 10"):
        make_steps(shorter, progress=_say)
    assert made_up == []


def test_a_model_without_guidance_has_none_to_end(builtin: Path) -> None:
    known = read_manifest(builtin)
    defaults = dataclasses.replace(known.contract.defaults, guidance=1.0)
    without = dataclasses.replace(known, contract=dataclasses.replace(known.contract, defaults=defaults))
    with pytest.raises(ExportError, match="with guidance 1 this model evaluates no negative prompt"):
        make_guidance(dataclasses.replace(order(builtin), manifest=without), progress=_say)


def test_a_budget_of_trials_leaves_a_margin() -> None:
    assert MARGIN == 2.0
    assert stricter(read_budget("psnr=30"), MARGIN).value == 32.0
    assert stricter(read_budget("ssim=0.9"), MARGIN).value == pytest.approx(1 - 0.1 * 10**-0.2)


# --- the gate ---

Damage = Callable[[Path, Manifest], Manifest]


@pytest.fixture(scope="module")
def varied(proven: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A tiny proven package with a measured variant that keeps deep features; read only."""

    def make(folder: Path) -> tuple[Path, Manifest]:
        package = Path(shutil.copytree(proven("sd15"), folder / "package"))
        known = read_manifest(package)
        cut = write_cut(package, known, known.components["unet"].artefacts[1], 1)
        known = with_artefacts(package, known, {"unet": [cut.deep, cut.shallow]})
        setting = dataclasses.replace(setting_of(package, known, OWN.held_out[:2], 101), steps=4)
        draft = cached(exact_draft(), cut, 2, 1, "unet")
        measured = measure_variant(package, known, draft, setting, draw(package, known, setting))
        return package, with_files(package, dataclasses.replace(known, variants=(measured,)))

    return make_once(tmp_path_factory, "sd15-cached", make)


def gate(folder: Path, manifest: Manifest) -> VariantResult:
    package = Package(folder, manifest, "", "size")
    reference = reference_file.read(folder / reference_file.FILE)
    ((result, _),) = verify_variants(package, proving_engines(), reference, _say)
    return result


@pytest.mark.slow
def test_a_cached_variant_passes_the_gate(varied: tuple[Path, Manifest]) -> None:
    result = gate(*varied)
    assert result.passed, result
    after = [case for case in result.cases if case.artefact == "ort_cpu-shallow-1, after ort_cpu-deep-1"]
    assert len(after) > 1 and all(case.passed for case in after)
    error = varied[1].variants[0].error
    assert error.psnr is not None and error.latents[0] < 1e-5 < error.latents[-1]


def _wrong_place(folder: Path, manifest: Manifest) -> Manifest:
    """Keep the skip in place of the deep features: of the same shape."""
    (deep,) = (each for each in manifest.components["unet"].artefacts if each.name == "ort_cpu-deep-1")
    model = read_graph(folder / deep.file)
    (join,) = (node for node in model.graph if KEPT in {value.name for value in node.inputs if value is not None})
    kept, skip = join.inputs
    model.graph.outputs[1], kept.name, skip.name = skip, "deep", KEPT
    assert kept.shape == skip.shape
    write_graph(model, folder / deep.file)
    return manifest


def _longer(folder: Path, manifest: Manifest) -> Manifest:
    (variant,) = manifest.variants
    rows = dataclasses.replace(variant.run.caching, interval=3)
    return dataclasses.replace(
        manifest, variants=(dataclasses.replace(variant, run=dataclasses.replace(variant.run, caching=rows)),)
    )


def _swapped(folder: Path, manifest: Manifest) -> Manifest:
    deep, shallow = (folder / f"unet/model.ort_cpu.{name}-1.onnx" for name in ("deep", "shallow"))
    first = deep.read_bytes()
    deep.write_bytes(shallow.read_bytes())
    shallow.write_bytes(first)
    return manifest


def _another_norm(folder: Path, manifest: Manifest) -> Manifest:
    """A norm of the shallow graph with another epsilon."""
    path = folder / "unet/model.ort_cpu.shallow-1.onnx"
    model = read_graph(path)
    node = next(each for each in model.graph if each.op_type == "InstanceNormalization")
    node.attributes["epsilon"] = type(node.attributes["epsilon"])("epsilon", node.attributes["epsilon"].type, 0.1)
    write_graph(model, path)
    return manifest


@pytest.mark.slow
@pytest.mark.parametrize("damage", [_wrong_place, _longer, _swapped, _another_norm])
def test_the_gate_sees(varied: tuple[Path, Manifest], tmp_path: Path, damage: Damage) -> None:
    folder = Path(shutil.copytree(varied[0], tmp_path / "package"))
    assert not gate(folder, damage(folder, varied[1])).passed
