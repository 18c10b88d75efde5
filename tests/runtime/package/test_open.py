"""Opening a package: hashes are measured once, remembered until a file changes, measured again on demand."""

import hashlib
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from ldm_runtime.errors import InputError, PackageError
from ldm_runtime.files import hash_cache
from ldm_runtime.files.hash_cache import HashCache
from ldm_runtime.package import open as opening
from ldm_runtime.package.open import open_package


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed."""
    names: list[str] = []
    measure = HashCache.measure

    def recording(self: HashCache, name: str) -> str:
        names.append(name)
        return measure(self, name)

    monkeypatch.setattr(HashCache, "measure", recording)
    return names


def flip_a_bit(file: Path) -> None:
    """Change the last byte and put the modification time back, as a careless copy or bit rot would."""
    status = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    with open(file, "r+b") as opened:
        opened.write(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_identity_is_the_hash_of_the_manifest(tiny: Path) -> None:
    package = open_package(tiny)
    package.confirm()
    assert package.identity == hashlib.sha256((tiny / "manifest.json").read_bytes()).hexdigest()
    assert package.manifest.name == "tiny"


def test_every_listed_file_is_hashed_once(tiny: Path, measured: list[str]) -> None:
    open_package(tiny).confirm()
    assert sorted(measured) == sorted(open_package(tiny).manifest.files)
    measured.clear()
    open_package(tiny).confirm()
    assert measured == []


def test_full_hashes_again(tiny: Path, measured: list[str]) -> None:
    open_package(tiny).confirm()
    measured.clear()
    open_package(tiny, check="full").confirm()
    assert len(measured) == len(open_package(tiny, check="size").manifest.files)


def test_size_hashes_nothing(package_copy: Path, measured: list[str]) -> None:
    flip_a_bit(package_copy / "unet/model.safetensors")
    open_package(package_copy, check="size").confirm()
    assert measured == []


def test_touched_file_is_hashed_again_alone(package_copy: Path, measured: list[str]) -> None:
    open_package(package_copy).confirm()
    measured.clear()
    os.utime(package_copy / "unet/model.onnx")
    open_package(package_copy).confirm()
    assert measured == ["unet/model.onnx"]


@pytest.mark.parametrize("check", ["cached", "full"])
def test_changed_byte_is_found(package_copy: Path, check: str) -> None:
    flip_a_bit(package_copy / "unet/model.safetensors")
    package = open_package(package_copy, check=check)  # type: ignore[arg-type]
    with pytest.raises(PackageError, match=r"unet/model\.safetensors has changed: its SHA-256 is"):
        package.confirm()


def test_a_failed_check_is_found_again(package_copy: Path) -> None:
    flip_a_bit(package_copy / "unet/model.safetensors")
    for _ in range(2):
        with pytest.raises(PackageError, match="has changed"):
            open_package(package_copy).confirm()


def test_a_change_that_hides_from_the_modification_time_is_found(package_copy: Path) -> None:
    open_package(package_copy).confirm()
    flip_a_bit(package_copy / "unet/model.safetensors")
    with pytest.raises(PackageError, match="has changed"):
        open_package(package_copy).confirm()


def test_full_sees_a_change_that_hides_from_the_cache(package_copy: Path) -> None:
    open_package(package_copy).confirm()
    flip_a_bit(package_copy / "unet/model.safetensors")
    cache = HashCache.of(package_copy)
    status = (package_copy / "unet/model.safetensors").stat()
    cache.known["unet/model.safetensors"][3:5] = [status.st_mtime_ns, status.st_ctime_ns]
    cache.changed = True
    cache.save()
    open_package(package_copy).confirm()  # the same in all that `cached` looks at
    with pytest.raises(PackageError, match="has changed"):
        open_package(package_copy, check="full").confirm()


@pytest.mark.parametrize("content", ["", "[]", '{"unet/model.onnx": 3}', "\ufffd", "{" * 9])
def test_damaged_cache_counts_as_empty(tiny: Path, measured: list[str], content: str) -> None:
    open_package(tiny).confirm()
    cache = HashCache.of(tiny).place
    cache.write_text(content, encoding="utf-8")
    measured.clear()
    open_package(tiny).confirm()
    assert "unet/model.onnx" in measured


def test_cache_that_cannot_be_written_does_not_matter(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    open_package(tiny).confirm()
    open_package(tiny).confirm()
    assert measured.count("unet/model.onnx") == 2


def test_cache_holds_digests_only(tiny: Path) -> None:
    open_package(tiny).confirm()
    for entry in json.loads(HashCache.of(tiny).place.read_text()).values():
        assert len(entry) == 6 and len(entry[-1]) == 64


def test_cache_is_in_the_user_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert hash_cache.cache_folder() == tmp_path / "ldm_runtime"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hash_cache.cache_folder() == tmp_path / ".cache" / "ldm_runtime"


def test_unknown_check_is_refused(tiny: Path) -> None:
    with pytest.raises(InputError, match="check is 'none'; expected one of cached, full, size"):
        open_package(tiny, check="none")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "remembered"),
    [("package", True), (f".ldm-{'0' * 32}.partial", False), (f".ldm-{'0' * 32}.old", False), (".ldm-mine.old", True)],
)
def test_hashes_of_a_folder_on_its_way_are_not_kept_under_a_name_that_never_returns(
    tiny: Path, tmp_path: Path, name: str, remembered: bool
) -> None:
    folder = tmp_path / name
    shutil.copytree(tiny, folder)
    open_package(folder, check="full").confirm()
    place = HashCache.of(folder).place
    assert (place is not None and place.is_file()) == remembered


def test_a_forked_process_hashes_for_itself(package_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that hashes stays behind in the process that opened the package."""
    parent, check, goes_on = os.getpid(), opening._check_hashes, threading.Event()

    def check_later(*arguments: Any, **options: Any) -> None:
        if os.getpid() == parent:
            goes_on.wait(60)
        check(*arguments, **options)

    monkeypatch.setattr(opening, "_check_hashes", check_later)
    file = package_copy / "unet" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    package = open_package(package_copy, check="full")
    child = os.fork()
    if child == 0:
        try:
            package.confirm()
        except PackageError as error:
            os._exit(3 if error.code == "file.hash" else 4)
        os._exit(5)
    _, status = os.waitpid(child, 0)
    goes_on.set()
    assert os.waitstatus_to_exitcode(status) == 3
    with pytest.raises(PackageError, match="has changed"):
        package.confirm()


def test_what_the_manifest_does_not_list_is_no_file_of_the_package(package_copy: Path, tmp_path: Path) -> None:
    """A folder that is a link is not looked into, and nothing is known of what is there."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret.bin").write_bytes(b"somebody else's")
    (package_copy / "verify").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    package = open_package(package_copy)
    assert package.file("unet/model.onnx").is_file()
    with pytest.raises(PackageError, match=f"the manifest of {package_copy} does not list verify/secret.bin; build"):
        package.file("verify/secret.bin")
