"""What stands where an output shall be survives, and is refused before the work."""

import contextlib
import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ldm_runtime.errors import LdmError
from ldm_runtime.files import journal, replacing
from ldm_runtime.files.atomic import (
    atomic_file,
    atomic_folder,
    refuse_existing,
    refuse_existing_folder,
    refuse_existing_in,
    refuse_unwritable,
    scratch_folder,
)
from tests.runtime.files.outputs import LINUX, POSIX, ROOT, anything, folder_of, run

# --- what may be replaced -------------------------------------------------------------------------------------------


def test_a_folder_is_replaced_only_if_its_kind_allows_it(tmp_path):
    def refuse(folder: Path) -> None:
        raise LdmError(f"{folder} holds a thesis")

    folder_of(tmp_path / "a", "thesis")
    for call in (refuse_existing_folder, atomic_folder):
        with pytest.raises(LdmError, match="holds a thesis"), contextlib.ExitStack() as stack:
            made = call(tmp_path / "a", replace=refuse)
            stack.enter_context(made)
    assert (tmp_path / "a" / "file").read_text() == "thesis"
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty", replace=refuse) as partial:
        (partial / "file").write_text("new")
    assert sorted(os.listdir(tmp_path)) == ["a", "empty"]


def test_what_came_into_the_folder_during_the_work_is_kept(tmp_path):
    """Asked again after the work: someone may have put a file there."""
    known = lambda folder: replacing.refuse_foreign(folder, {"file"}.__contains__, "the thing")  # noqa: E731
    folder_of(tmp_path / "a", "old")
    wrong = pytest.raises(LdmError, match=r"holds .*thesis\.txt, which is not part of the thing")
    with wrong, atomic_folder(tmp_path / "a", replace=known):
        (tmp_path / "a" / "thesis.txt").write_text("precious")
    assert (tmp_path / "a" / "thesis.txt").read_text() == "precious"
    assert os.listdir(tmp_path) == ["a"]


def test_what_came_into_the_folder_at_the_last_moment_is_kept(tmp_path, monkeypatch):
    """After the last look at the folder in its place, and right before it is moved aside."""

    def known(folder: Path) -> None:
        replacing.refuse_foreign(folder, {"file"}.__contains__, "the thing")

    def put_one(*paths):
        monkeypatch.setattr(os, "rename", rename)
        (tmp_path / "a" / "thesis.txt").write_text("precious")
        rename(*paths)

    rename = os.rename
    folder_of(tmp_path / "a", "old")
    wrong = pytest.raises(
        LdmError, match=r"a is not replaced: it holds .*a/thesis\.txt, which is not part of the thing"
    )
    with wrong as caught, atomic_folder(tmp_path / "a", replace=known) as partial:
        (partial / "file").write_text("new")
        monkeypatch.setattr(os, "rename", put_one)
    assert ".ldm-" not in str(caught.value)
    assert (tmp_path / "a" / "thesis.txt").read_text() == "precious"
    assert (tmp_path / "a" / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_that_nobody_changed_is_not_asked_about_while_it_has_no_name(tmp_path):
    """The question may be the hash of gigabytes, and meanwhile there would be no folder."""
    asked = []
    folder_of(tmp_path / "a", "old")
    with atomic_folder(tmp_path / "a", replace=asked.append) as partial:
        (partial / "file").write_text("new")
    assert asked == [tmp_path / "a"] * 2
    assert (tmp_path / "a" / "file").read_text() == "new"


@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_an_output_never_goes_through_a_link(tmp_path, kind):
    {"file": lambda p: p.write_text("old"), "folder": lambda p: folder_of(p, "old"), "nothing": id}[kind](
        tmp_path / "target"
    )
    (tmp_path / "out").symlink_to(tmp_path / "target")
    before = sorted(os.listdir(tmp_path))
    for refuse in (
        lambda: refuse_existing(tmp_path / "out", force=True),
        lambda: refuse_existing(tmp_path / "out", force=False),
        lambda: refuse_existing_folder(tmp_path / "out", replace=anything),
        lambda: atomic_file(tmp_path / "out").__enter__(),
        lambda: atomic_folder(tmp_path / "out", replace=anything).__enter__(),
    ):
        with pytest.raises(LdmError, match="is a link to .*target; give the place itself"):
            refuse()
    assert sorted(os.listdir(tmp_path)) == before


def test_reports_go_into_a_folder_by_whatever_name_but_not_into_nothing(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    refuse_existing_in(tmp_path / "link", ("a.json",), force=False)
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").touch()
    for name in ("dangling", "file"):
        with pytest.raises(LdmError, match="expected a folder for a.json"):
            refuse_existing_in(tmp_path / name, ("a.json",), force=True)


@POSIX
@pytest.mark.parametrize("out", [".", "..", "/", "../here", "../../{}/here"])
def test_the_current_folder_and_those_that_hold_it_are_not_replaced(tmp_path, monkeypatch, out):
    here = folder_of(tmp_path / "here", "old")
    monkeypatch.chdir(here)
    with pytest.raises(LdmError, match="no name of its own|current folder"):
        refuse_existing_folder(Path(out.format(tmp_path.name)), replace=anything)
    assert (here / "file").read_text() == "old"


@POSIX
def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(LdmError, match="not a regular file"):
        refuse_existing(tmp_path / "pipe", force=True)
    with pytest.raises(LdmError, match="a folder has that name"):
        refuse_existing(tmp_path / "folder", force=True)
    (tmp_path / "file").touch()
    with pytest.raises(LdmError, match="a file has that name"):
        refuse_existing_folder(tmp_path / "file", replace=anything)


def test_a_read_only_file_is_refused_before_the_work(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(0o444)
    with pytest.raises(LdmError, match="read-only"):
        refuse_existing(tmp_path / "a", force=True)
    (tmp_path / "a").chmod(0o644)
    refuse_existing(tmp_path / "a", force=True)


@LINUX
@ROOT
def test_a_mount_point_is_refused_before_the_work(tmp_path):
    folder_of(tmp_path / "a", "old")
    mounted = subprocess.run(["mount", "--bind", tmp_path / "a", tmp_path / "a"], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount here: {mounted.stderr.decode()}")
    try:
        with pytest.raises(LdmError, match="mount point"):
            refuse_existing_folder(tmp_path / "a", replace=anything)
    finally:
        subprocess.run(["umount", tmp_path / "a"], check=True)
    refuse_existing_folder(tmp_path / "a", replace=anything)


# --- refused before the work ----------------------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize("length", [1, 200, 239, 250, 255])
def test_every_legal_length_of_a_name_works(tmp_path, length):
    for name in ("a" * length, "ä" * (length // 2) + "a" * (length % 2), ".png".rjust(length, "b")):
        with atomic_file(tmp_path / name) as temporary:
            temporary.write_text("new")
        assert (tmp_path / name).read_text() == "new"
        (tmp_path / name).unlink()
        with atomic_folder(tmp_path / name) as partial:
            (partial / "file").write_text("new")
        (tmp_path / name).rename(tmp_path / "done")
        shutil.rmtree(tmp_path / "done")
    assert os.listdir(tmp_path) == []


@POSIX
@pytest.mark.parametrize(
    "name, why",
    [
        ("a" * 256, "File name too long"),
        ("a" * 5000, "File name too long"),
        ("ä" * 128, "File name too long"),
        ("a\0b", "null"),
        ("a\ud800b", "characters that the system cannot write"),
        ("no/a", "does not exist; create it first"),
        ("file/a", "is not a folder"),
    ],
)
def test_a_name_that_cannot_be_is_refused_before_the_work(tmp_path, name, why):
    (tmp_path / "file").touch()
    for refuse in (
        lambda: refuse_existing(tmp_path / name, force=False),
        lambda: refuse_existing_folder(tmp_path / name, replace=None),
        lambda: atomic_file(tmp_path / name).__enter__(),
        lambda: atomic_folder(tmp_path / name).__enter__(),
    ):
        with pytest.raises(LdmError, match=f"cannot write .*{why}"):
            refuse()
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_a_name_that_only_a_rename_finds_too_long_is_one_sentence(tmp_path, monkeypatch, write):
    """On some file systems a name may be looked up that cannot be made."""

    def refuse(source, target):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(source), None, str(target))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        patch.setattr(os, "replace", refuse)
        with pytest.raises(LdmError) as caught, write(tmp_path / "a"):
            pass
    assert str(caught.value).startswith(f"cannot write {tmp_path / 'a'}: File name too long; nothing was left behind")
    assert os.listdir(tmp_path) == []


def test_a_name_is_tried_before_the_work_and_not_again(tmp_path, monkeypatch):
    def count(self):
        tried.append(self.target)

    tried: list[str] = []
    monkeypatch.setattr(journal.Journal, "prove_name", count)
    refuse_existing(tmp_path / "a", force=False)
    refuse_existing_folder(tmp_path / "b", replace=None)
    refuse_existing_in(tmp_path, ("c", "ccc", "cc"), force=False)
    refuse_unwritable(tmp_path / "d" / "e")
    assert tried == ["a", "b", "ccc", "e", "d"]
    with atomic_file(tmp_path / "a"), atomic_folder(tmp_path / "b"), scratch_folder(tmp_path):
        assert len(tried) == 5


@LINUX
def test_a_folder_that_takes_no_files_is_refused_whatever_its_permissions_say(monkeypatch):
    monkeypatch.chdir("/proc")  # a root user may write there, by its permissions
    for refuse in (
        lambda: refuse_existing(Path("a.png"), force=False),
        lambda: refuse_existing_folder(Path("a"), replace=None),
        lambda: refuse_existing_in(Path("a"), ("b",), force=False),
        lambda: refuse_existing_in(Path("."), ("b",), force=False),
        lambda: refuse_unwritable(Path("a/b/c")),
        lambda: refuse_unwritable(Path(".")),
    ):
        with pytest.raises(LdmError, match=r"cannot write .*the folder /proc takes no files \(.+\)"):
            refuse()


@POSIX
def test_a_current_folder_that_is_gone_is_one_sentence(tmp_path):
    gone = folder_of(tmp_path / "gone", "")
    program = """
import shutil; shutil.rmtree(sys.argv[1])
for refuse in (lambda: refuse_existing(Path("a"), force=True), lambda: refuse_unwritable(Path("a/b")),
               lambda: refuse_existing_folder(Path("a"), replace=anything)):
    try: refuse()
    except LdmError as error: print(error)
"""
    done = run(program, gone, cwd=gone)
    assert done.stdout.count("cannot write") == 3, (done.stdout, done.stderr)


def test_a_folder_may_be_missing_with_its_parents_if_it_can_be_made(tmp_path):
    refuse_unwritable(tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    for bad in (tmp_path / "file", tmp_path / "file" / "a", tmp_path / "a" / ("b" * 300) / "c"):
        with pytest.raises(LdmError):
            refuse_unwritable(bad)
