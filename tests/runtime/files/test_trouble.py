"""A disk that is full, and its like, in one sentence."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldm_runtime.errors import LdmError
from ldm_runtime.files import atomic
from ldm_runtime.files.atomic import (
    atomic_file,
    atomic_folder,
    refuse_existing,
)
from ldm_runtime.package import safetensors
from tests.runtime.files.outputs import LINUX, POSIX, ROOT


def save_with_torch(path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.zeros(2**20)}, path)


WRITERS = {
    "plain": lambda path: path.write_bytes(bytes(2**22)),
    "torch": save_with_torch,
    "PNG": lambda path: Image.effect_noise((2048, 2048), 90).save(path, "PNG"),
    "GIF": lambda path: Image.effect_noise((2048, 2048), 90).save(path, "GIF"),
    "safetensors": lambda path: safetensors.write(path.with_name("w"), {"w": np.zeros(2**22, np.uint8)}),
}


@contextlib.contextmanager
def little_room() -> Iterator[None]:
    """No file may have more than 1 MiB: met like a full disk, in the middle of a write, and no root is needed."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@POSIX
@pytest.mark.parametrize("writer", WRITERS)
def test_no_more_room_is_one_sentence_whatever_the_writer_raises(tmp_path, writer):
    (tmp_path / "a.png").write_text("old")
    with pytest.raises(LdmError) as caught, little_room(), atomic_file(tmp_path / "a.png") as temporary:
        WRITERS[writer](temporary)
    place = "w" if writer == "safetensors" else "a.png"
    assert str(caught.value).startswith(f"cannot write {tmp_path / place}: File too large; nothing was left behind")
    assert (tmp_path / "a.png").read_text() == "old" and os.listdir(tmp_path) == ["a.png"]


@pytest.fixture
def small_disk(tmp_path):
    """2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount here: {mounted.stderr.decode()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@LINUX
@ROOT
@pytest.mark.parametrize("kind", ["own error", "another library's error", "in a file of the folder"])
def test_a_full_disk_names_the_output_and_leaves_nothing(small_disk, kind):
    def fill(partial: Path) -> None:
        if kind == "in a file of the folder":
            safetensors.write(partial / "w", {"w": np.zeros(2**22, np.uint8)})
        try:
            (partial / "w").write_bytes(bytes(2**22))
        except OSError:
            if kind == "own error":
                raise
            raise RuntimeError("[enforce fail] unexpected pos 64 vs 0") from None

    with pytest.raises(LdmError) as caught, atomic_folder(small_disk / "out") as partial:
        fill(partial)
    assert str(caught.value).startswith(f"cannot write {small_disk / 'out'}")
    assert "No space left on device; nothing was left behind" in str(caught.value)
    assert os.listdir(small_disk) == []


def test_another_librarys_error_with_room_on_the_disk_stays_itself(tmp_path):
    with pytest.raises(RuntimeError, match="^a bug$"), atomic_file(tmp_path / "a"):
        raise RuntimeError("a bug")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    with pytest.raises(LdmError, match="No space left on device; nothing"), atomic_folder(tmp_path / "a") as partial:
        (partial / "file").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []


def test_what_could_not_be_removed_is_said(tmp_path, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(LdmError) as caught, atomic_folder(tmp_path / "a") as partial:
        patch.setattr(atomic, "remove", fail)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert f"{partial} was left behind" in str(caught.value) and "nothing" not in str(caught.value)
    refuse_existing(tmp_path / "b", force=False)  # the next call for any output there
    assert os.listdir(tmp_path) == []
