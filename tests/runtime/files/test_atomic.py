"""Outputs appear whole or not at all, and what stood there before survives every failure."""

import concurrent.futures
import contextlib
import errno
import gc
import json
import os
import pickle
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldm_runtime.errors import LdmError
from ldm_runtime.files import atomic, journal
from ldm_runtime.files.atomic import (
    atomic_file,
    atomic_folder,
    refuse_existing,
    refuse_existing_folder,
    refuse_existing_in,
    refuse_unwritable,
    scratch_folder,
)
from ldm_runtime.package import safetensors

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
ROOT = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts need root")


def anything(folder: Path) -> None:
    """The kind of folder that may always be replaced."""


def run(program: str, *arguments: object, **kwargs) -> subprocess.CompletedProcess:
    """A program in a process of its own, which imports what these tests import."""
    start = (
        "import os, signal, sys; from pathlib import Path; from ldm_runtime.files import atomic, journal\n"
        "from ldm_runtime.files.atomic import *\nfrom ldm_runtime.errors import LdmError\n"
        "anything = lambda folder: None\n"
        "def die(*arguments): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", start + program, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, **kwargs)


def killed(program: str, *arguments: object) -> None:
    done = run(program, *arguments)
    assert done.returncode == -signal.SIGKILL, done.stderr


def folder_of(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


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
    known = lambda folder: atomic.refuse_foreign(folder, {"file"}.__contains__, "the thing")  # noqa: E731
    folder_of(tmp_path / "a", "old")
    wrong = pytest.raises(LdmError, match=r"holds .*thesis\.txt, which is not part of the thing")
    with wrong, atomic_folder(tmp_path / "a", replace=known):
        (tmp_path / "a" / "thesis.txt").write_text("precious")
    assert (tmp_path / "a" / "thesis.txt").read_text() == "precious"
    assert os.listdir(tmp_path) == ["a"]


def test_what_came_into_the_folder_at_the_last_moment_is_kept(tmp_path, monkeypatch):
    """After the last look at the folder in its place, and right before it is moved aside."""

    def known(folder: Path) -> None:
        atomic.refuse_foreign(folder, {"file"}.__contains__, "the thing")

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


# --- a disk that is full --------------------------------------------------------------------------------------------


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


# --- killed ---------------------------------------------------------------------------------------------------------

KILLED = {
    "at the start": "journal.os.write = die",
    "with a journal alone": "atomic._work = die",
    "in a file": "atomic._sync = die",
    "before the exchange": "journal.Journal.sync = die",
    "between the two renames": "os.rename = lambda a, b, rename=os.rename: (rename(a, b), die())",
    "before the old one is removed": "atomic.remove = die",
    "while the old one is removed": "atomic.remove = lambda p: (os.unlink(p / 'file'), die())",
}


@POSIX
@pytest.mark.parametrize("moment", KILLED)
@pytest.mark.parametrize("next_call", ["a", "another"])
def test_a_kill_loses_neither_the_old_folder_nor_the_new_one(tmp_path, moment, next_call):
    folder_of(tmp_path / "a", "old")
    program = f"""
{KILLED[moment]}
with atomic_folder(Path(sys.argv[1]), replace=anything) as partial:
    (partial / "file").write_text("new")
"""
    killed(program, tmp_path / "a")
    assert len(os.listdir(tmp_path)) > 1
    refuse_existing_folder(tmp_path / next_call, replace=anything)
    assert os.listdir(tmp_path) == ["a"]
    expected = "new" if "old one" in moment else "old"
    assert (tmp_path / "a" / "file").read_text() == expected


@POSIX
def test_what_a_check_that_was_killed_left_is_swept(tmp_path):
    killed("journal.open = die; refuse_existing(Path(sys.argv[1]), force=True)", tmp_path / "a")
    assert sorted(Path(name).suffix for name in os.listdir(tmp_path)) == [".journal", ".probe"]
    refuse_existing(tmp_path / "b", force=False)
    assert os.listdir(tmp_path) == []


@POSIX
@pytest.mark.parametrize("made", ["atomic_file", "atomic_folder", "scratch_folder"])
def test_what_a_killed_process_left_is_swept(tmp_path, made):
    killed(f"with {made}(Path(sys.argv[1])): die()", tmp_path / "a.pt" if made != "scratch_folder" else tmp_path)
    assert len(os.listdir(tmp_path)) == 2
    with atomic_file(tmp_path / "b") as temporary:
        temporary.write_text("whole")
    assert os.listdir(tmp_path) == ["b"]


FOREIGN = [
    ".a.partial-1",
    ".a.old-999999999",
    ".state.pt.partial-abcdef",
    ".ldm-0123456789abcdef0123456789abcdef.partial",  # without a journal
    ".ldm-0123456789abcdef0123456789abcdef.old",
    ".ldm-0123.journal",
    "ldm-0123456789abcdef0123456789abcdef.journal",
]


@pytest.mark.parametrize("name", ["a", "a*", "[a-z]", "*", "?", "{a,b}"])
def test_files_of_others_are_never_swept(tmp_path, name):
    for foreign in FOREIGN:
        folder_of(tmp_path / foreign, "precious")
        (tmp_path / f"{foreign}.txt").write_text("precious")
    (tmp_path / f".ldm-{'b' * 32}.journal").write_text("my own diary")
    (tmp_path / f".ldm-{'b' * 32}.partial").write_text("precious")
    before = sorted(os.listdir(tmp_path))
    with atomic_folder(tmp_path / name) as partial:
        (partial / "file").write_text("new")
    with atomic_folder(tmp_path / name, replace=anything) as partial:
        (partial / "file").write_text("newer")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, name])


@pytest.mark.parametrize("change", ["host", "format", "target", "deep"])
def test_the_journal_of_another_host_or_format_stays(tmp_path, change):
    token = "c" * 32
    content = {"format": journal._FORMAT, "host": platform.node(), "target": "a"}
    text = json.dumps(content | {change: "../a"}) if change != "deep" else "[" * 9000
    (tmp_path / f".ldm-{token}.journal").write_text(text)
    folder_of(tmp_path / f".ldm-{token}.partial", "precious")
    refuse_existing(tmp_path / "b", force=False)
    assert (tmp_path / f".ldm-{token}.partial" / "file").read_text() == "precious"
    (tmp_path / f".ldm-{token}.journal").write_text(json.dumps(content))
    refuse_existing(tmp_path / "b", force=False)
    assert os.listdir(tmp_path) == []


@POSIX
def test_a_file_that_is_replaced_hands_on_its_permissions(tmp_path):
    path = tmp_path / "private.png"
    path.touch()
    path.chmod(0o640)
    with atomic_file(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("why", ["another host", "a file system without locks"])
def test_a_folder_that_made_way_for_a_writer_that_nobody_can_judge_is_named(tmp_path, monkeypatch, why):
    folder_of(tmp_path / "a", "old")
    killed(
        f"{KILLED['between the two renames']}\nwith atomic_folder(Path(sys.argv[1]), replace=anything): pass",
        tmp_path / "a",
    )
    if why == "another host":
        monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    else:
        monkeypatch.setattr(journal, "lock", lambda descriptor: None)
    with pytest.raises(LdmError, match=r"what it held is in .*\.old: if no such process lives, move that back"):
        refuse_existing_folder(tmp_path / "a", replace=anything)
    monkeypatch.undo()
    refuse_existing_folder(tmp_path / "a", replace=anything)  # who can judge brings it back
    assert (tmp_path / "a" / "file").read_text() == "old"


@POSIX
def test_a_living_writer_is_never_swept(tmp_path):
    with atomic_folder(tmp_path / "a") as partial:
        assert run("refuse_existing(Path(sys.argv[1]), force=False)", tmp_path / "b").returncode == 0
        refuse_existing(tmp_path / "c", force=False)  # from the same process
        (partial / "file").write_text("whole")
    assert os.listdir(tmp_path) == ["a"]


def test_an_old_folder_whose_name_was_taken_is_named_and_kept(tmp_path):
    folder_of(tmp_path / "a", "old")
    killed(
        f"{KILLED['between the two renames']}\nwith atomic_folder(Path(sys.argv[1]), replace=anything): pass",
        tmp_path / "a",
    )
    folder_of(tmp_path / "a", "made by hand meanwhile")
    with pytest.raises(LdmError, match=r"what it held before is in .*\.old: move that") as caught:
        refuse_existing_folder(tmp_path / "a", replace=anything)
    old = next(Path(word.rstrip(":")) for word in str(caught.value).split() if word.endswith(".old:"))
    assert (old / "file").read_text() == "old"
    refuse_existing(tmp_path / "b", force=False)  # others go on
    shutil.move(old, tmp_path / "rescued")
    (tmp_path / old.name.replace(".old", ".partial")).rmdir()
    refuse_existing_folder(tmp_path / "a", replace=anything)
    assert sorted(os.listdir(tmp_path)) == ["a", "rescued"]


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
    atomic.refuse_foreign(folder, set("xyz").__contains__, "the thing")
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


def test_an_error_about_an_output_crosses_a_process(tmp_path):
    with pytest.raises(LdmError) as caught:
        refuse_existing(tmp_path / "no" / "a", force=False)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# --- requests to end ------------------------------------------------------------------------------------------------


class EndRequestedError(BaseException):
    """As a handler of SIGTERM or SIGINT raises it: where Python enters a function, whichever it is."""


@contextlib.contextmanager
def request_at(number: int) -> Iterator[list[str]]:
    """Raise at the `number`-th call of any Python function; yield a list whose length is the number of calls."""
    calls: list[str] = []

    def trace(frame, event, argument):
        if event == "call":
            calls.append(frame.f_lineno)
            if len(calls) == number:
                raise EndRequestedError

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield calls
    finally:
        sys.settrace(before)


def write_output(kind: str, path: Path) -> None:
    if kind == "file":
        with atomic_file(path) as temporary:
            temporary.write_bytes(b"whole")
    elif kind == "folder":
        with atomic_folder(path, replace=anything) as partial:
            (partial / "part").write_bytes(b"whole")
    else:
        with scratch_folder(path.parent) as folder:
            (folder / "part").write_bytes(b"whole")


@pytest.mark.parametrize("kind", ["file", "folder", "scratch"])
def test_a_request_to_end_at_any_moment_leaves_nothing_on_its_way(tmp_path: Path, kind: str) -> None:
    number = 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            with request_at(number) as calls:
                write_output(kind, folder / "output")
        except EndRequestedError:
            pass
        left = {file.name for file in folder.iterdir()}
        if left - {"output"}:
            gc.collect()  # as the end of the process does: `with` may keep a generator in a cycle of its exception
            left = {file.name for file in folder.iterdir()}
        assert left <= {"output"}, (number, calls[-3:], left)
        if len(calls) < number:
            break
    assert number > 40
    assert left == (set() if kind == "scratch" else {"output"})
