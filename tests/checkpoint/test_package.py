"""A package opens as a checkpoint: the manifest's key map turns its initialisers back into parameters."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ldm_runtime
from ldm_export.bench import bench_package
from ldm_export.build import build_package
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families.stable_diffusion import STABLE_DIFFUSION
from ldm_export.package.describe import describe
from ldm_export.recipes.build import BuildRecipe
from ldm_runtime.errors import PackageError
from ldm_runtime.package import safetensors
from tests.oracles import build_tiny_sd
from tests.runtime import tiny_package

PARTS = STABLE_DIFFUSION.parts

# Which parameters of the VAE are in which folder of a package.
SIDES = {"vae_encoder": ("encoder.", "quant_conv."), "vae_decoder": ("decoder.", "post_quant_conv.")}


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sd(tmp_path_factory.mktemp("sources") / "sd21", "sd21")


@pytest.fixture(scope="session")
def packaged(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with the weights of `source`, matrices stored transposed; read only."""
    folder = tiny_package.make(tmp_path_factory.mktemp("packages") / "sd21")
    checkpoint = open_checkpoint(source)
    for part, each in PARTS.items():
        for component in each.components:
            shutil.copy(source / part / "config.json", folder / component / "config.json")
    tiny_package.write_manifest(folder, tiny_package.CONTRACT)
    for part, each in PARTS.items():
        state = checkpoint.load(part).state_dict()
        for component in each.components:
            stored: dict[str, np.ndarray] = {}
            keys: dict[str, Any] = {}
            for name, value in state.items():
                if name.startswith(SIDES.get(component, "")):
                    matrix = value.ndim == 2
                    stored[f"{name}.T" if matrix else name] = value.numpy().T if matrix else value.numpy()
                    keys[name] = {
                        "initialiser": f"{name}.T" if matrix else name,
                        "transpose": [1, 0] if matrix else None,
                        "dtype": "F32",
                    }
            safetensors.write(folder / component / "model.safetensors", stored)
            tiny_package.edit_manifest(folder, "components", component, "keys", value=keys)
    tiny_package.edit_manifest(folder, "dropped", value=["safety_checker"])
    schedule = checkpoint.schedule.to_dict()
    tiny_package.edit_manifest(folder, "contract", "schedule", value=schedule)
    tiny_package.rehash(folder)
    return folder


@pytest.fixture
def copy(packaged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packaged, tmp_path / "package"))


def test_package_is_the_checkpoint_it_was_built_from(packaged: Path, source: Path) -> None:
    got, wanted = open_checkpoint(packaged), open_checkpoint(source)
    assert got.configs == wanted.configs
    assert got.schedule == wanted.schedule
    assert got.dropped == ("safety_checker",)
    got.check()
    for part in PARTS:
        assert got.parameter_count(part) == wanted.parameter_count(part)
        expected = wanted.load(part).state_dict()
        state = got.load(part).state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], value) for name, value in expected.items())
        assert all(value.is_contiguous() for value in state.values())
    assert [file.parent.name for file in got.weight_files["vae"]] == ["vae_decoder", "vae_encoder"]


def test_package_has_no_variant(packaged: Path) -> None:
    with pytest.raises(CheckpointError, match="is a package, which has no variant 'fp16'"):
        open_checkpoint(packaged, "fp16")


def test_key_without_its_tensor_is_refused(copy: Path) -> None:
    place = ("components", "unet", "keys", "conv_in.bias", "initialiser")
    tiny_package.edit_manifest(copy, *place, value="gone")
    with pytest.raises(CheckpointError, match=r"has no tensor 'gone', where the manifest puts 'conv_in\.bias'"):
        open_checkpoint(copy)


def test_missing_key_is_refused(copy: Path) -> None:
    tiny_package.edit_manifest(copy, "components", "vae_decoder", "keys", "decoder.conv_in.bias", remove=True)
    with pytest.raises(CheckpointError, match=r"1 missing \(decoder\.conv_in\.bias\)"):
        open_checkpoint(copy).check()


def test_transpose_of_another_rank_is_refused(copy: Path) -> None:
    place = ("components", "unet", "keys", "conv_in.bias", "transpose")
    tiny_package.edit_manifest(copy, *place, value=[1, 0])
    with pytest.raises(CheckpointError, match=r"'conv_in\.bias' of shape \[16\].*by \[1, 0\]"):
        open_checkpoint(copy)


def test_wrong_transpose_is_a_wrong_shape(copy: Path) -> None:
    place = ("components", "unet", "keys", "time_embedding.linear_1.weight", "transpose")
    tiny_package.edit_manifest(copy, *place, value=None)
    with pytest.raises(CheckpointError, match=r"1 of another shape \(time_embedding\.linear_1\.weight"):
        open_checkpoint(copy).check()


def test_broken_manifest_is_refused(copy: Path) -> None:
    tiny_package.edit_manifest(copy, "schema_version", value=99)
    with pytest.raises(PackageError, match="schema_version 99"):
        open_checkpoint(copy)


def test_damaged_weights_are_refused(copy: Path) -> None:
    file = copy / "unet" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(PackageError, match=r"unet/model\.safetensors is truncated"):
        open_checkpoint(copy)


@pytest.mark.parametrize("name", ["unet/model.safetensors", "unet/config.json", "tokenizer/tokenizer.json"])
def test_a_changed_byte_anywhere_is_refused_by_its_hash(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[-2] ^= 0x80
    (copy / name).write_bytes(data)
    with pytest.raises(PackageError, match=rf"{re.escape(name)} has changed: its SHA-256"):
        open_checkpoint(copy)


def build(package: Path) -> None:
    build_package(package, package.parent / "built", recipe=BuildRecipe())


@pytest.mark.parametrize("use", [build, bench_package, describe, ldm_runtime.load, open_checkpoint])
def test_no_verb_takes_a_package_of_which_one_sign_is_flipped(copy: Path, use: Callable[[Path], object]) -> None:
    data = bytearray((copy / "unet" / "model.safetensors").read_bytes())
    data[-1] ^= 0x80
    (copy / "unet" / "model.safetensors").write_bytes(data)
    with pytest.raises(PackageError, match=r"unet/model\.safetensors has changed: its SHA-256"):
        use(copy)
    assert not (copy.parent / "built").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("unet/config.json", "no hash of unet/config.json"), ("tokenizer/tokenizer_config.json", "no hash of tokenizer/")],
)
def test_a_file_that_the_manifest_does_not_list_is_not_read(copy: Path, name: str, message: str) -> None:
    (copy / name).write_text("{}")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"].pop(name, None)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(copy)


def test_documents_of_a_package_are_those_that_it_lists(copy: Path) -> None:
    (copy / "README.md").write_text("not the author's")
    (copy / "LICENSE").write_text("the author's")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["LICENSE"] = {"sha256": "0" * 64, "size": 0}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    tiny_package.rehash(copy)
    assert open_checkpoint(copy).documents == (copy / "LICENSE",)


def test_a_file_that_changes_after_the_package_was_opened_is_noticed(copy: Path) -> None:
    checkpoint = open_checkpoint(copy)
    checkpoint.load("unet")
    os.utime(copy / "unet" / "model.safetensors")
    with pytest.raises(PackageError, match=r"unet/model\.safetensors has changed since the package was opened"):
        checkpoint.load("unet")


def test_config_that_is_missing_or_unsupported_is_named(copy: Path) -> None:
    config = copy / "unet" / "config.json"
    data = json.loads(config.read_text())
    config.write_text(json.dumps(data | {"num_class_embeds": 10}))
    tiny_package.rehash(copy)
    with pytest.raises(ConfigError, match=r"unet/config\.json has num_class_embeds = 10"):
        open_checkpoint(copy)
    config.unlink()
    with pytest.raises(PackageError, match=r"unet/config\.json is missing"):
        open_checkpoint(copy)
