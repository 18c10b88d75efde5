"""The rule for links: into the repository's own `blobs`, or within the folder; to anywhere else never."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ldm_runtime
from ldm_runtime.errors import InputError, PackageError
from ldm_runtime.files.hash_cache import HashCache
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package.open import open_package, read_manifest
from tests import hub_cache
from tests.runtime.package.test_open import flip_a_bit

WEIGHTS = "unet/model.safetensors"


@pytest.fixture
def snapshot(tiny: Path, tmp_path: Path) -> Path:
    """The good package in a hub's cache."""
    return hub_cache.make(tiny, tmp_path / "hub")


def model_folder(path: Path) -> ModelFolder:
    return ModelFolder(path, "package", PackageError)


def relink(file: Path, target: Path | str) -> None:
    file.unlink()
    file.symlink_to(target)


# --- what opens ---------------------------------------------------------------------------------


@pytest.mark.parametrize("check", ["cached", "full", "size"])
def test_a_package_in_a_hubs_cache_draws_what_its_files_draw(snapshot: Path, tiny: Path, check: str) -> None:
    assert all(file.is_symlink() for file in snapshot.rglob("*") if not file.is_dir())
    pictures = []
    for folder in (snapshot, tiny):
        with ldm_runtime.load(folder, check=check) as pipe:  # type: ignore[arg-type]
            pictures.append(np.asarray(pipe("red", seed=1, steps=1)[0]))
    assert np.array_equal(*pictures)


@pytest.mark.parametrize("check", ["cached", "full", "size"])
def test_the_hash_proves_what_is_kept_in_blobs(snapshot: Path, check: str) -> None:
    flip_a_bit((snapshot / WEIGHTS).resolve())
    with pytest.raises(PackageError, match=rf"{WEIGHTS} has changed: its SHA-256 is"):
        open_package(snapshot, check=check).confirm()  # type: ignore[arg-type]


def test_a_download_into_a_folder_of_its_own_opens(package_copy: Path) -> None:
    """`hf download --local-dir` leaves its notes in the folder."""
    notes = package_copy / ".cache" / "huggingface" / "download" / "unet"
    notes.mkdir(parents=True)
    (notes / "model.safetensors.metadata").write_text("0123\nabcd\n1700000000.0\n")
    (notes / "model.safetensors.lock").touch()
    (package_copy / ".cache" / "huggingface" / ".gitignore").write_text("*")
    open_package(package_copy).confirm()


def test_a_link_to_the_snapshot_and_a_part_of_it_open(snapshot: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(snapshot)
    open_package(tmp_path / "linked").confirm()
    assert model_folder(snapshot / "unet").read("model.onnx", 2**20) == (snapshot / "unet/model.onnx").read_bytes()


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("inside")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "link").symlink_to("b/file")
    assert model_folder(tmp_path).read("link", 100) == b"inside"
    assert model_folder(tmp_path).file("link") == tmp_path.resolve() / "a" / "file"


def test_a_hard_link_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "folder").mkdir()
    os.link(tmp_path / "file", tmp_path / "folder" / "linked")
    assert model_folder(tmp_path / "folder").read("linked", 100) == b"content"


# --- what does not ------------------------------------------------------------------------------


def to_another_repository(snapshot: Path) -> Path:
    blobs = snapshot.parents[2] / "models--someone--else" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc").write_text("SECRET")
    return blobs / "abc"


def below_blobs(snapshot: Path) -> Path:
    folder = hub_cache.blobs(snapshot) / "deeper"
    folder.mkdir()
    (folder / "abc").write_text("SECRET")
    return folder / "abc"


def through_a_blob_that_is_a_link(snapshot: Path) -> Path:
    (snapshot.parents[3] / "secret").write_text("SECRET")
    (hub_cache.blobs(snapshot) / "abc").symlink_to(snapshot.parents[3] / "secret")
    return hub_cache.blobs(snapshot) / "abc"


def to_another_snapshot(snapshot: Path) -> Path:
    other = snapshot.parent / "fedcba"
    other.mkdir()
    (other / "file").write_text("SECRET")
    return other / "file"


def to_the_references(snapshot: Path) -> Path:
    return snapshot.parent.parent / "refs" / "main"


@pytest.mark.parametrize(
    "target",
    [to_another_repository, below_blobs, through_a_blob_that_is_a_link, to_another_snapshot, to_the_references],
)
@pytest.mark.parametrize("name", [WEIGHTS, "manifest.json"])
def test_a_link_in_a_hubs_cache_to_anything_but_its_blobs_is_refused(
    snapshot: Path, target: Callable[[Path], Path], name: str
) -> None:
    relink(snapshot / name, target(snapshot))
    with pytest.raises(PackageError, match=rf"{name} is a link to .*, outside the package"):
        open_package(snapshot)


def test_blobs_that_are_a_link_themselves_are_refused(snapshot: Path, tmp_path: Path) -> None:
    hub_cache.blobs(snapshot).rename(tmp_path / "elsewhere")
    hub_cache.blobs(snapshot).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PackageError, match="is a link to .*elsewhere.*, outside the package"):
        open_package(snapshot)


@pytest.mark.parametrize("repository", ["somewhere", "models--"])
def test_a_folder_that_only_looks_like_a_hubs_cache_is_none(snapshot: Path, repository: str) -> None:
    moved = snapshot.parents[1].rename(snapshot.parents[2] / repository)
    with pytest.raises(PackageError, match="outside the package"):
        open_package(moved / "snapshots" / snapshot.name)


def socket_instead(file: Path) -> None:
    here = os.getcwd()
    os.chdir(file.parent)  # a socket's address is short
    try:
        socket.socket(socket.AF_UNIX).bind(file.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: os.mkfifo(file), "is not a regular file"),
        (socket_instead, "is not a regular file"),
        (lambda file: file.mkdir(), "is not a regular file"),
        (lambda file: file.symlink_to("/dev/zero"), "is a link to /dev/zero, outside"),
        (
            lambda file: file.symlink_to(file.name),
            "cannot read .*file.*; check its permissions, its links and the disk",
        ),
        (lambda file: file.symlink_to("absent"), "file is missing"),
        (lambda file: file.symlink_to("/etc/passwd"), "is a link to /etc/passwd, outside"),
        (lambda file: file.symlink_to("../outside"), "is a link to .*outside, outside"),
    ],
)
def test_what_is_no_file_of_the_folder_is_refused_and_not_opened(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    (tmp_path / "outside").write_text("SECRET")
    (tmp_path / "folder").mkdir()
    make(tmp_path / "folder" / "file")
    folder = model_folder(tmp_path / "folder")
    for read in (folder.file, folder.size, lambda name: folder.read(name, 100)):
        with pytest.raises(PackageError, match=message):
            read("file")


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc/passwd", "a\0b", "n" * 5000])
def test_a_name_that_leaves_the_folder_or_is_none_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_text("SECRET")
    (tmp_path / "folder" / "a").mkdir(parents=True)
    with pytest.raises(PackageError, match="outside the package|cannot read"):
        model_folder(tmp_path / "folder").read(name, 100)


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 11)
    with pytest.raises(PackageError, match="has 11 bytes; expected at most 10"):
        model_folder(tmp_path).read("file", 10)
    assert model_folder(tmp_path).read("file", 11) == b"x" * 11


def test_a_folder_of_endless_files_is_refused(tmp_path: Path) -> None:
    for index in range(6):
        (tmp_path / str(index)).touch()
    with pytest.raises(PackageError, match="has 6 files; expected at most 5"):
        model_folder(tmp_path).names(most=5)
    assert len(model_folder(tmp_path).names(most=6)) == 6


# --- what changes meanwhile -----------------------------------------------------------------------


def test_a_file_that_is_replaced_between_opening_and_reading_is_noticed(package_copy: Path) -> None:
    package = open_package(package_copy)
    package.confirm()
    file = package_copy / WEIGHTS
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)
    with pytest.raises(PackageError, match=rf"{WEIGHTS} has changed since the package was opened"):
        package.file(WEIGHTS)
    with pytest.raises(PackageError, match=rf"{WEIGHTS} has changed since the package was opened"):
        package.confirm()
    assert package.file("unet/model.onnx") == package_copy / "unet/model.onnx"


def test_a_link_that_is_turned_to_elsewhere_after_opening_is_noticed(snapshot: Path, tmp_path: Path) -> None:
    package = open_package(snapshot)
    package.confirm()
    copied = tmp_path / "elsewhere"
    copied.write_bytes((snapshot / WEIGHTS).read_bytes())
    relink(snapshot / WEIGHTS, copied)
    with pytest.raises(PackageError, match="has changed since the package was opened"):
        package.file(WEIGHTS)


@pytest.mark.parametrize("name", ["a" * 300, "a" * 5000])
def test_a_name_that_no_file_system_takes_is_one_sentence(name: str) -> None:
    with pytest.raises(InputError, match=r"path is 'a+\.\.\., which cannot be looked up: File name too long"):
        ldm_runtime.load(name)


def test_the_contract_is_read_without_hashing_what_a_cache_keeps(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = open_package(snapshot, check="full").manifest.contract
    monkeypatch.setattr(HashCache, "measure", lambda cache, name: pytest.fail(f"hashed {name}"))
    (snapshot / "unet" / "model.safetensors").unlink()
    assert read_manifest(snapshot).contract == contract
    (snapshot / "manifest.json").unlink()
    with pytest.raises(PackageError, match="it has no manifest.json"):
        read_manifest(snapshot)
