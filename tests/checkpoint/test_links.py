"""What is read of a checkpoint: the files of its folder and its repository's blobs, of bounded size; nothing else."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ldm_export.build import build_package
from ldm_export.checkpoint.checkpoint import MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, Checkpoint
from ldm_export.checkpoint.json_files import MAX_CONFIG_BYTES, MAX_JSON_BYTES
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.save import save_checkpoint
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.package.write import finish_package, write_manifest
from ldm_export.recipes.build import BuildRecipe
from ldm_runtime.errors import LdmError, PackageError
from tests import hub_cache
from tests.oracles import build_tiny_sd
from tests.verify import perturbations

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
READ = [
    "model_index.json",
    "unet/config.json",
    "scheduler/scheduler_config.json",
    WEIGHTS,
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "README.md",
]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_tiny_sd(tmp_path_factory.mktemp("checkpoints") / "sd15")
    (folder / "README.md").write_text("A model card.")
    return folder


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.fixture
def snapshot(tiny: Path, tmp_path: Path) -> Path:
    return hub_cache.make(tiny, tmp_path / "hub")


def packaged_texts(checkpoint: Checkpoint, tiny_build: Callable, folder: Path) -> dict[str, str]:
    """Text files that `build` would make of the checkpoint's, without the graphs' work."""
    built = tiny_build("sd15")
    for name in built.exports:
        shutil.copytree(built.package / name, folder / name)
    write_manifest(folder, finish_package(folder, checkpoint, built.exports, recipe=BuildRecipe(name="tiny")))
    return {file.name: file.read_text() for file in folder.rglob("*") if file.suffix in (".md", ".json", ".txt")}


# --- what opens ---------------------------------------------------------------------------------


def test_a_checkpoint_in_a_hubs_cache_is_the_one_of_its_files(snapshot: Path, tiny: Path) -> None:
    got, wanted = open_checkpoint(snapshot), open_checkpoint(tiny)
    assert got.configs == wanted.configs and got.documents == (snapshot / "README.md",)
    for component in ("text_encoder", "unet", "vae"):
        state, expected = got.load(component).state_dict(), wanted.load(component).state_dict()
        assert all(state[name].equal(value) for name, value in expected.items())


def test_its_package_has_its_tokenizer_and_documents(snapshot: Path, tiny_build: Callable, tmp_path: Path) -> None:
    texts = packaged_texts(open_checkpoint(snapshot), tiny_build, tmp_path / "package")
    assert texts["README.md"] == "A model card."
    assert json.loads(texts["vocab.json"]) == json.loads((snapshot / "tokenizer/vocab.json").read_text())
    assert not any(file.is_symlink() for file in (tmp_path / "package").rglob("*"))


def test_shards_in_a_hubs_cache_open(tiny: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny, tmp_path / "sharded"))
    from ldm_runtime.package import safetensors

    names = list(safetensors.read_header(source / WEIGHTS).tensors)
    (source / WEIGHTS).rename(source / "unet/part-1.safetensors")
    index = {"weight_map": dict.fromkeys(names, "part-1.safetensors")}
    (source / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    open_checkpoint(hub_cache.make(source, tmp_path / "hub")).check()


def test_a_download_into_a_folder_of_its_own_opens(copy: Path) -> None:
    notes = copy / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "README.md.metadata").write_text("0123\nabcd\n1700000000.0\n")
    assert open_checkpoint(copy).documents == (copy / "README.md",)


# --- links to elsewhere -------------------------------------------------------------------------


@pytest.mark.parametrize("name", READ)
def test_a_link_to_elsewhere_is_refused_whatever_would_be_read(copy: Path, tmp_path: Path, name: str) -> None:
    shutil.move(copy / name, tmp_path / "elsewhere")
    (copy / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=rf"{name} is a link to .*elsewhere, outside the checkpoint"):
        open_checkpoint(copy)


@pytest.mark.parametrize("name", READ)
def test_a_link_out_of_a_hubs_cache_is_refused(snapshot: Path, tmp_path: Path, name: str) -> None:
    shutil.copyfile(snapshot / name, tmp_path / "elsewhere")
    (snapshot / name).unlink()
    (snapshot / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=rf"{name} is a link to .*elsewhere, outside the checkpoint"):
        open_checkpoint(snapshot)


@pytest.mark.parametrize("folder", ["unet", "vae", "text_encoder", "scheduler", "tokenizer"])
def test_a_folder_that_is_a_link_to_elsewhere_is_refused(copy: Path, tmp_path: Path, folder: str) -> None:
    shutil.move(copy / folder, tmp_path / "elsewhere")
    (copy / folder).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=rf"{folder}/.* is a link to .*elsewhere/.*, outside the checkpoint"):
        open_checkpoint(copy)


def test_a_shard_that_is_a_link_to_elsewhere_is_refused(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / WEIGHTS, tmp_path / "elsewhere")
    (copy / "unet/part.safetensors").symlink_to(tmp_path / "elsewhere")
    index = {"weight_map": {"conv_in.bias": "part.safetensors"}}
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"part\.safetensors is a link to .*elsewhere, outside"):
        open_checkpoint(copy)


@pytest.mark.parametrize("shard", ["a\0.safetensors", "\x1b[2J.safetensors", "../part.safetensors"])
def test_a_shard_with_a_name_that_is_none_is_refused(copy: Path, shard: str) -> None:
    (copy / WEIGHTS).unlink()
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"conv_in.bias": shard}}))
    with pytest.raises(CheckpointError, match="names the shard"):
        open_checkpoint(copy)


@pytest.mark.parametrize("name", READ)
def test_a_pipe_or_a_folder_instead_of_a_file_is_refused_and_does_not_hang(copy: Path, name: str) -> None:
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(CheckpointError, match=f"{name} is not a regular file"):
        open_checkpoint(copy)


def test_a_saved_checkpoint_takes_no_tokenizer_file_from_elsewhere(tiny: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny)
    tokenizer = Path(shutil.copytree(tiny / "tokenizer", tmp_path / "tokenizer"))
    (tmp_path / "secret").write_text("SECRET")
    (tokenizer / "notes.txt").symlink_to(tmp_path / "secret")
    modules = {component: checkpoint.load(component) for component in ("text_encoder", "unet", "vae")}
    with pytest.raises(CheckpointError, match=r"notes\.txt is a link to .*secret, outside"):
        save_checkpoint(tmp_path / "saved", modules, schedule=checkpoint.schedule, tokenizer_folder=tokenizer)
    assert not (tmp_path / "saved").exists()


def test_a_document_that_becomes_a_link_after_opening_is_not_read(
    copy: Path, tiny_build: Callable, tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(copy)
    (tmp_path / "secret").write_text("SECRET")
    (copy / "README.md").unlink()
    (copy / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match=r"README\.md is a link to .*secret, outside"):
        packaged_texts(checkpoint, tiny_build, tmp_path / "package")


# --- sizes and names ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("README.md", MAX_DOCUMENT_BYTES),
        ("model_index.json", MAX_CONFIG_BYTES),
        ("vae/config.json", MAX_CONFIG_BYTES),
        ("scheduler/scheduler_config.json", MAX_CONFIG_BYTES),
        ("tokenizer/merges.txt", MAX_JSON_BYTES),
        ("tokenizer/unknown.bin", MAX_JSON_BYTES),
    ],
)
def test_an_immense_file_is_refused_by_its_size(copy: Path, name: str, limit: int) -> None:
    (copy / name).touch()
    os.truncate(copy / name, 2**40)  # a sparse file
    with pytest.raises(CheckpointError, match=f"{name} has {2**40} bytes; expected at most {limit}"):
        open_checkpoint(copy)


def test_thousands_of_documents_are_refused(copy: Path) -> None:
    for index in range(MAX_DOCUMENTS):
        (copy / f"LICENSE.{index}").touch()
    with pytest.raises(CheckpointError, match=f"has {MAX_DOCUMENTS + 1} documents such as LICENSE.0; expected at most"):
        open_checkpoint(copy)
    (copy / "LICENSE.0").unlink()
    assert len(open_checkpoint(copy).documents) == MAX_DOCUMENTS


@pytest.mark.parametrize("name", [b"README\x1b[2J", b"LICENSE\xff", b"readme:stream"])
def test_a_document_that_no_package_can_hold_is_refused_before_the_work(copy: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(copy) + b"/" + name)).touch()
    with pytest.raises(CheckpointError, match="with a character that no package path may have"):
        open_checkpoint(copy)


def test_half_a_character_in_a_config_is_refused(copy: Path) -> None:
    (copy / "unet/config.json").write_text('{"_class_name": "\\ud800"}')
    with pytest.raises(CheckpointError, match=r"unet/config\.json is not acceptable JSON: it has half of a character"):
        open_checkpoint(copy)


@pytest.mark.parametrize("name", ["", "a\x1bb", "\udcff", "n" * 2000])
def test_a_package_name_that_no_manifest_can_hold_is_refused_before_the_work(name: str) -> None:
    with pytest.raises(ConfigError, match="^name must be 1 to 200 characters that can be printed; got name = "):
        BuildRecipe(name=name)


# --- what builds --------------------------------------------------------------------------------


def flip_signs(package: Path, name: str) -> None:
    data = bytearray((package / name).read_bytes())
    for place in range(len(data) // 2, len(data) // 2 + 400, 2):
        data[place + 1] ^= 0x80
    (package / name).unlink()  # a hard link
    (package / name).write_bytes(data)


def test_build_refuses_a_package_that_was_damaged(proven: Callable[[str], Path], tmp_path: Path) -> None:
    package = perturbations.copy(proven("sd15"), tmp_path / "package")
    flip_signs(package, "unet/model.safetensors")
    with pytest.raises(PackageError, match=r"unet/model\.safetensors has changed: its SHA-256"):
        build_package(package, tmp_path / "built", recipe=BuildRecipe())
    assert not (tmp_path / "built").exists()


def test_build_refuses_a_document_that_is_a_link(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("SECRET")
    (copy / "README.md").unlink()
    (copy / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(LdmError, match=r"README\.md is a link to .*secret, outside the checkpoint"):
        build_package(copy, tmp_path / "built", recipe=BuildRecipe())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "secret"]
