"""Deep features as a lossy method: what is written for it, and the schedules that are chosen."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from ldm_export.errors import ExportError
from ldm_export.lossy import caching
from ldm_export.lossy.caching import cached, make_caching, shallow_shares, write_cut
from ldm_export.lossy.measure import provisional
from ldm_export.lossy.method import Draft, Made
from ldm_export.optimise.cut_at import KEPT
from ldm_export.package.write import with_artefacts
from ldm_runtime.errors import FormatError
from ldm_runtime.package import manifest_json
from ldm_runtime.package.open import open_package, read_manifest
from ldm_runtime.package.variants import WHOLE_RUN, VariantRun, Way
from tests.lossy.trial_runs import exact_draft, order, say


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
    variant = provisional(cached(exact_draft(), cut, 2, 2, "unet"))
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


def test_the_share_of_the_work_grows_with_the_depth(builtin: Path) -> None:
    shares = shallow_shares(builtin, read_manifest(builtin))
    assert list(shares) == [1, 2]
    assert 0.05 < shares[1] < 0.15 < shares[2] < 0.4


def test_what_has_no_up_block_is_refused(builtin: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(builtin, tmp_path / "package"))
    shutil.copyfile(folder / "text_encoder/model.onnx", folder / "unet/model.onnx")
    shutil.copyfile(folder / "text_encoder/model.safetensors", folder / "unet/model.safetensors")
    with pytest.raises(ExportError, match="this denoiser has no up block to cut at"):
        shallow_shares(folder, read_manifest(folder))


def _cached(made: Made) -> list[tuple[str, tuple[str, ...], int, str]]:
    return [(each.name, each.methods, each.run.caching.interval, each.run.caching.keeps) for each in made.drafts]


def test_the_cheapest_schedule_within_the_budget_is_chosen(builtin: Path, made_up: list[VariantRun]) -> None:
    """34.2 dB with the margin of 2 are a difference of 4 levels of 255: interval 3 at depth 1, 5 at depth 2."""
    made = make_caching(order(builtin, "psnr=34"), progress=say)
    assert _cached(made) == [("cached", ("caching",), 3, "ort_cpu-deep-1")]
    assert [each.name for each in made.artefacts["unet"]] == ["ort_cpu-deep-1", "ort_cpu-shallow-1"]
    assert sorted(path.name for path in (builtin / "unet").glob("*deep*")) == ["model.ort_cpu.deep-1.onnx"]
    assert len(made_up) < 8
    for each in made.artefacts["unet"]:
        (builtin / each.file).unlink()


def test_what_was_made_before_is_cut_at_the_same_depth(builtin: Path, made_up: list[VariantRun]) -> None:
    """With an error of its own already, a lossy graph is kept for fewer rows."""
    before = Draft("int8", ("int8",), {"unet": Way("openvino", "canonical", "fp32", ())}, WHOLE_RUN, "with 3 layers")
    made = make_caching(order(builtin, "psnr=30", before), progress=say)
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
    made = make_caching(order(builtin, "psnr=90", before), progress=say)
    assert _cached(made) == [("cached", ("caching",), 2, "ort_cpu-deep-2")]
    for each in made.artefacts["unet"]:
        (builtin / each.file).unlink()
