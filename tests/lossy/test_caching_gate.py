"""The gate sees what is wrong with a variant that keeps deep features."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.lossy.caching import cached, write_cut
from ldm_export.lossy.measure import draw, measure_variant, setting_of
from ldm_export.lossy.prompts import OWN
from ldm_export.optimise.cut_at import KEPT
from ldm_export.package.write import with_artefacts, with_files
from ldm_export.verify import reference_file
from ldm_export.verify.gate import proving_engines
from ldm_export.verify.report import VariantResult
from ldm_export.verify.variants import verify_variants
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.open import Package, read_manifest
from tests.lossy.trial_runs import exact_draft, say
from tests.once import make_once

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
    ((result, _),) = verify_variants(package, proving_engines(), reference, say)
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
