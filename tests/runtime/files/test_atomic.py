"""Outputs appear whole or not at all, and what stood there before survives every failure."""

import concurrent.futures
import errno
import os
import pickle
import shutil
from pathlib import Path

import pytest

from ldm_runtime.errors import LdmError, OutputError
from ldm_runtime.files import journal
from ldm_runtime.files.atomic import (
    atomic_file,
    atomic_folder,
    refuse_existing,
    refuse_existing_folder,
    scratch_folder,
)
from tests.runtime.files.outputs import anything, folder_of, run

# --- whole or not at all --------------------------------------------------------------------------------------------


def test_a_file_appears_whole(tmp_path):
    with atomic_file(tmp_path / "a.png") as temporary:
        temporary.write_bytes(b"new")
        assert not (tmp_path / "a.png").exists() and temporary.suffix == ".png"
    assert (tmp_path / "a.png").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, LdmError])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, error):
    (tmp_path / "a").write_text("old")
    with pytest.raises(error), atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_an_existing_output_needs_force(tmp_path):
    folder_of(tmp_path / "a", "old")
    with pytest.raises(LdmError, match="exists already"), atomic_folder(tmp_path / "a"):
        raise AssertionError("the work must not start")
    with atomic_folder(tmp_path / "a", replace=anything) as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "file").write_text("new")
    assert (tmp_path / "a" / "sub" / "file").read_text() == "new"
    assert os.listdir(tmp_path) == ["a"] and os.listdir(tmp_path / "a") == ["sub"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, LdmError])
def test_a_failed_folder_keeps_the_old_one(tmp_path, error):
    folder_of(tmp_path / "a", "old")
    with pytest.raises(error), atomic_folder(tmp_path / "a", replace=anything) as partial:
        (partial / "file").write_text("half")
        raise error
    assert (tmp_path / "a" / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_an_error_of_ours_names_the_output_and_not_its_place_on_the_way(tmp_path):
    with pytest.raises(LdmError) as caught, atomic_folder(tmp_path / "package") as partial:
        raise LdmError(f"cannot write {partial / 'unet'}: too bad")
    assert str(caught.value) == f"cannot write {tmp_path / 'package' / 'unet'}: too bad"


def test_trouble_with_another_file_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "a"):
        Path("/nowhere/input").read_text()
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "a"):
        (tmp_path / "input").read_text()
    with pytest.raises(OSError, match="^broken picture$"), atomic_folder(tmp_path / "a"):
        raise OSError("broken picture")


def test_files_get_the_permissions_that_any_new_file_gets(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_file(tmp_path / "ours") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_scratch_folder_goes(tmp_path):
    with scratch_folder(tmp_path) as folder:
        (folder / "file").write_text("x")
        assert folder.parent == tmp_path
    assert os.listdir(tmp_path) == []


# --- side by side ---------------------------------------------------------------------------------------------------


def test_a_second_writer_does_not_replace_what_the_first_made_meanwhile(tmp_path):
    for name, write in (("file", atomic_file), ("folder", atomic_folder)):
        keywords = {"force": False} if write is atomic_file else {}
        with pytest.raises(LdmError, match="exists already"), write(tmp_path / name, **keywords) as second:
            (second / "x" if name == "folder" else second).write_text("second")
            with write(tmp_path / name, **keywords) as first:
                (first / "x" if name == "folder" else first).write_text("first")
        made = tmp_path / name / "x" if name == "folder" else tmp_path / name
        assert made.read_text() == "first"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


STRESS = """
(Path(sys.argv[1]) / f"{os.getpid()}.ready").touch()
while len(list(Path(sys.argv[1]).glob("*.ready"))) < 3: pass
for number in range(40):
    with atomic_folder(Path(sys.argv[1], "out", "a"), replace=known) as partial:
        for name in "xyz":
            (partial / name).write_text(f"{os.getpid()} {number}")
"""
KNOWN = """
def known(folder):
    replacing.refuse_foreign(folder, set("xyz").__contains__, "the thing")
    if sorted(os.listdir(folder)) != list("xyz"):
        raise LdmError(f"{folder} is incomplete")
"""


def test_of_many_processes_that_replace_one_folder_the_last_one_wins_and_none_fails(tmp_path):
    (tmp_path / "out").mkdir()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: run(KNOWN + STRESS, tmp_path), range(3)))
    assert [each.stderr for each in done] == [""] * 3
    assert os.listdir(tmp_path / "out") == ["a"]
    assert len({(tmp_path / "out" / "a" / name).read_text() for name in "xyz"}) == 1


MEANWHILE = {
    "listdir": lambda path: shutil.move(path, path.with_name("gone")),
    "rename aside": lambda path: shutil.move(path, path.with_name("gone")),
    "rename": lambda path: folder_of(path, "another writer's"),
}


@pytest.mark.parametrize("moment", MEANWHILE)
def test_a_writer_goes_on_when_another_one_comes_between(tmp_path, monkeypatch, moment):
    """Right before a call of the exchange, another writer moves the old folder away or puts a new one there."""
    path, name = folder_of(tmp_path / "a", "old"), moment.partition(" ")[0]
    real = getattr(os, name)

    def between(*paths):
        aside = str(paths[-1]).endswith(".old")
        if name == "listdir" or aside == moment.endswith("aside"):
            monkeypatch.setattr(os, name, real)
            MEANWHILE[moment](path)
        return real(*paths)

    with atomic_folder(path, replace=anything) as partial:
        (partial / "file").write_text("new")
        monkeypatch.setattr(journal.Journal, "sync", lambda self: monkeypatch.setattr(os, name, between))
    assert getattr(os, name) is real
    assert (path / "file").read_text() == "new"
    assert set(os.listdir(tmp_path)) - {"gone"} == {"a"}


def test_a_folder_that_is_exchanged_during_a_check_is_checked_again(tmp_path):
    def replace(folder: Path) -> None:
        asked.append((folder / "file").read_text())
        if len(asked) == 1:
            shutil.move(folder, tmp_path / "gone")
            folder_of(folder, "another writer's")
            raise LdmError(f"{folder} is half one thing and half another")

    asked: list[str] = []
    folder_of(tmp_path / "a", "old")
    refuse_existing_folder(tmp_path / "a", replace=replace)
    assert asked == ["old", "another writer's"]


def test_an_exchange_without_end_is_given_up(tmp_path, monkeypatch):
    def never(source, target):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(source), None, str(target))

    with pytest.raises(LdmError, match="again and again; nothing was left"), atomic_folder(tmp_path / "a"):
        monkeypatch.setattr(os, "rename", never)
    assert os.listdir(tmp_path) == []


def refuse_removal(monkeypatch, times: int) -> None:
    """Let the file system refuse so many times to remove a journal."""
    refusals = iter(range(times))
    unlink = Path.unlink

    def refusing(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".journal" and next(refusals, None) is not None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(self))
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refusing)


def test_a_journal_that_cannot_be_removed_is_one_sentence_and_the_output_is_there(tmp_path, monkeypatch):
    refuse_removal(monkeypatch, times=2)
    sentence = r"a is complete, but \S+\.journal cannot be removed \(Operation not permitted\); remove it$"
    with pytest.raises(OutputError, match=sentence), atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new"
    refuse_removal(monkeypatch, times=3)  # the first is the one that is left
    with pytest.raises(OutputError, match=r"b can be written, but \S+\.journal cannot be removed"):
        refuse_existing(tmp_path / "b", force=False)


def test_a_journal_that_is_removed_at_the_second_try_is_no_error(tmp_path, monkeypatch):
    refuse_removal(monkeypatch, times=1)
    with atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert os.listdir(tmp_path) == ["a"]


def test_an_error_of_the_work_says_more_than_a_journal_that_cannot_be_removed(tmp_path, monkeypatch):
    refuse_removal(monkeypatch, times=2)
    with pytest.raises(LdmError, match="^the work failed$"), atomic_file(tmp_path / "a"):
        raise LdmError("the work failed")


def test_an_error_about_an_output_crosses_a_process(tmp_path):
    with pytest.raises(LdmError) as caught:
        refuse_existing(tmp_path / "no" / "a", force=False)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
