"""Weights alone in eight or four bits: what is stored, how far it is off, and that the gate holds each graph to it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ldm_export.lossy import make, weights
from ldm_export.lossy.blocks import pack_blocks, unpack_blocks
from ldm_export.lossy.layers import narrow, quantisable
from ldm_export.lossy.method import Made
from ldm_export.lossy.table import LOSSY
from ldm_export.lossy.trials import Trials
from ldm_export.verify.gate import verify_package
from ldm_runtime.budget import read_budget
from ldm_runtime.package import safetensors
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.open import open_package, read_manifest
from tests.lossy.making import FEW, hasten, prove
from tests.once import make_once
from tests.optimise.graphs import normal
from tests.verify import perturbations
from tests.verify.test_variants import edit_data, passes, spoil

NAMES = ("w8", "w8-openvino", "w4", "w4-openvino")
COMPONENTS = ("text_encoder", "unet", "vae_encoder", "vae_decoder")


def _say(text: str) -> None: ...


@pytest.fixture(scope="module")
def shrunk(proven: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny proven package with weights in eight and four bits; read only."""

    def build(folder: Path) -> Path:
        package = Path(shutil.copytree(proven("sd15"), folder / "package"))
        with pytest.MonkeyPatch.context() as patch:
            hasten(patch)
            made = make.make_variants(package, read_manifest(package), read_budget("psnr=10"), ("w8", "w4"), FEW, _say)
        return prove(package, made.manifest)

    return make_once(tmp_path_factory, "shrunk", build)


@pytest.fixture(scope="module")
def manifest(shrunk: Path) -> Manifest:
    return open_package(shrunk).manifest


def test_methods_for_memory_are_made_where_they_are_named_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, method in LOSSY.items():
        monkeypatch.setitem(LOSSY, name, method.__class__(lambda: None, method.make, method.is_for_speed))
    assert not {"w8", "w4"} & set(make.choose_methods((), _say))
    assert make.choose_methods(("w4", "int8"), _say) == ("int8", "w4")


@pytest.mark.slow
def test_every_component_has_a_graph_for_each_engine_and_one_file_of_its_own(manifest: Manifest) -> None:
    assert tuple(variant.name for variant in manifest.variants) == NAMES
    for variant in manifest.variants:
        assert tuple(variant.ways) == tuple(manifest.components) and set(variant.ways) == set(COMPONENTS)
        for component, way in variant.ways.items():
            files = {each.name: each.files for each in manifest.components[component].artefacts}[way.artefact]
            bits = variant.name[:2]
            assert files == (f"{component}/model.{variant.name}.onnx", f"{component}/model.{bits}.safetensors")
            assert way.units == ()


@pytest.mark.slow
def test_the_weights_are_stored_in_few_bits(shrunk: Path, manifest: Manifest) -> None:
    sizes = {}
    for method in ("w8", "w4"):
        for component in COMPONENTS:
            stored = safetensors.read_header(shrunk / component / f"model.{method}.safetensors").tensors
            whole = safetensors.read_header(shrunk / manifest.components[component].weights).tensors
            shrunken = {name.rpartition("/")[0] for name, info in stored.items() if info.dtype in ("I8", "U8")}
            assert shrunken and not shrunken & stored.keys()
            four_bits = {name for name, info in stored.items() if info.dtype == "U8"}
            assert bool(four_bits) == (method == "w4" and component in ("unet", "text_encoder"))
            left = {name for name in stored.keys() & whole if len(whole[name].shape) > 1}
            left -= {"text_model.embeddings.position_embedding.weight"}  # it is no product, nor looked up
            assert all(min(whole[name].shape[:2]) < 16 for name in left)  # of an image's or a latent's channels
            sizes[method, component] = sum(info.length for info in stored.values())
    assert sizes["w4", "unet"] < sizes["w8", "unet"]
    assert sizes["w4", "vae_decoder"] == sizes["w8", "vae_decoder"]


@pytest.mark.slow
def test_eight_bits_are_nearer_than_four_and_engines_agree(manifest: Manifest) -> None:
    errors = {variant.name: variant.error for variant in manifest.variants}
    for component in ("unet", "text_encoder"):
        found = {name: error.components[component].relative_rms for name, error in errors.items()}
        assert 1e-5 < found["w8"] < 0.03 < 2 * found["w4"]
        for method in ("w8", "w4"):  # both compute in float32
            assert found[method] == pytest.approx(found[f"{method}-openvino"], rel=1e-3)
    assert errors["w8"].psnr is not None and errors["w4"].psnr is not None
    assert errors["w8"].psnr > errors["w4"].psnr


@pytest.fixture
def copy(shrunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return perturbations.copy(shrunk, tmp_path / "package")


@pytest.mark.slow
def test_what_was_built_passes(copy: Path) -> None:
    report = verify_package(copy)
    assert report.passed and tuple(each.name for each in report.variants) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_scale_in_one_layer_fails(copy: Path, name: str, component: str) -> None:
    data = f"{component}/model.{name[:2]}.safetensors"
    good = (copy / data).read_bytes()
    assert passes(copy, name, component)
    for share in (0.2, 0.8):
        what = edit_data(copy, data, spoil("scale", 1.5, 0, share))
        assert not passes(copy, name, component), what
        (copy / data).unlink()
        (copy / data).write_bytes(good)


@pytest.mark.slow
def test_a_wrong_half_of_a_byte_fails(copy: Path) -> None:
    """The two weights of a byte change places, as in a reader of the other order."""

    def swap(tensors: dict[str, np.ndarray]) -> str:
        name = min(name for name in tensors if name.endswith("/int4"))
        tensors[name][...] = tensors[name] >> 4 | tensors[name] << 4
        return name

    edit_data(copy, "unet/model.w4.safetensors", swap)
    assert not passes(copy, "w4", "unet") and not passes(copy, "w4-openvino", "unet")


# --- what gets eight bits after all ---------------------------------------------------------------------------------


@pytest.fixture
def search(proven: Callable[[str], Path], tmp_path: Path) -> weights._Maker:
    package = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    order: Any = SimpleNamespace(folder=package, manifest=read_manifest(package), methods=("w4",), margin=2.0)
    return weights._Maker(order, "w4", Trials(order, _say))


def stored_types(made: Made, folder: Path) -> dict[str, int]:
    """Component -> its weights in four bits."""
    return {
        name: sum(
            info.dtype == "U8" for info in safetensors.read_header(folder / artefacts[0].files[1]).tensors.values()
        )
        for name, artefacts in made.artefacts.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("least", [0, 3])
def test_few_products_get_eight_bits_the_text_encoders_first(
    search: weights._Maker, monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    tried: list[dict[str, int]] = []

    def holds(self: Trials, draft: Any, manifest: Manifest) -> bool:
        folder = search.order.folder
        tried.append(
            stored_types(
                Made([draft], {name: [each.artefacts[-1]] for name, each in manifest.components.items()}), folder
            )
        )
        return sum(tried[0].values()) - sum(tried[-1].values()) >= (
            0 if least == 0 else tried[0]["text_encoder"] + least - 1
        )

    monkeypatch.setattr(Trials, "holds", holds)
    made = search.made()
    found, most = stored_types(made, search.order.folder), tried[0]
    assert most["unet"] > 8 and most["text_encoder"] > 4 and most["vae_decoder"] == most["vae_encoder"] == 0
    assert found["text_encoder"] == (0 if least else most["text_encoder"])
    assert found["unet"] == most["unet"] - max(0, least - 1)
    in_eight = sum(most.values()) - sum(found.values())
    assert [draft.note for draft in made.drafts] == [
        f"with {in_eight} of {sum(most.values())} products in eight bits"
    ] * 2
    assert not list(search.order.folder.rglob("*trial*"))


@pytest.mark.slow
def test_layers_of_few_channels_stay_in_float32(manifest: Manifest, shrunk: Path) -> None:
    for component in COMPONENTS:
        kept = manifest.components[component].artefacts[-1].kept
        model = weights.read_graph(shrunk / component / "model.onnx")
        assert set(kept) == narrow(model)
        assert all(min(layer.channels) < 16 for layer in quantisable(model) if layer.name in kept)


def test_what_is_packed_is_unpacked() -> None:
    weight = normal(5, 70, seed=3)
    packed, scales = pack_blocks(weight)
    left = unpack_blocks(packed, scales, 70)
    assert left.shape == weight.shape and 0.02 < np.abs(left - weight).max() / np.abs(weight).max() < 0.2
    again, _ = pack_blocks(left)
    np.testing.assert_array_equal(again, packed)
