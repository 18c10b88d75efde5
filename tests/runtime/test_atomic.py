"""Outputs appear whole or not at all, and what stood there before survives every failure."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ldm_runtime.atomic import atomic_file, atomic_folder
from ldm_runtime.errors import LdmError


def test_a_file_appears_whole(tmp_path):
    with atomic_file(tmp_path / "a.png") as temporary:
        temporary.write_bytes(b"new")
        assert not (tmp_path / "a.png").exists()
    assert (tmp_path / "a.png").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, error):
    (tmp_path / "a").write_text("old")
    with pytest.raises(error), atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_an_existing_output_needs_force(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(LdmError, match="exists already"), atomic_folder(tmp_path / "a"):
        raise AssertionError("the work must not start")
    with atomic_folder(tmp_path / "a", force=True) as partial:
        (partial / "file").write_text("new")
    assert (tmp_path / "a" / "file").read_text() == "new"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_folder_keeps_the_old_one(tmp_path, error):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("old")
    with pytest.raises(error), atomic_folder(tmp_path / "a", force=True) as partial:
        (partial / "file").write_text("half")
        raise error
    assert (tmp_path / "a" / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    with pytest.raises(LdmError, match="No space left on device"), atomic_folder(tmp_path / "a") as partial:
        (partial / "file").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []


def test_trouble_with_another_file_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "a"):
        Path("/nowhere/input").read_text()


def test_a_missing_parent_is_refused(tmp_path):
    with pytest.raises(LdmError, match="does not exist"), atomic_folder(tmp_path / "no" / "a"):
        raise AssertionError("the work must not start")


def test_what_a_killed_process_left_is_swept(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path; from ldm_runtime.atomic import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as p:\n"
        "    (p / 'file').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join(sys.path)
    killed = subprocess.run([sys.executable, "-c", script, tmp_path / "a"], env={**os.environ, "PYTHONPATH": path})
    assert killed.returncode == -9
    assert len(os.listdir(tmp_path)) == 1 and not (tmp_path / "a").exists()
    with atomic_folder(tmp_path / "a") as partial:
        (partial / "file").write_text("whole")
    assert os.listdir(tmp_path) == ["a"]


def test_an_old_folder_without_successor_comes_back(tmp_path):
    (tmp_path / ".a.old-999999999").mkdir()
    (tmp_path / ".a.old-999999999" / "file").write_text("old")
    with pytest.raises(ValueError), atomic_folder(tmp_path / "a"):
        raise ValueError
    assert (tmp_path / "a" / "file").read_text() == "old"
