"""A process that ends in the middle of an output, however it ends, loses nothing and leaves nothing."""

import contextlib
import errno
import gc
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ldm_runtime.errors import LdmError
from ldm_runtime.files import journal
from ldm_runtime.files.atomic import (
    atomic_file,
    atomic_folder,
    refuse_existing,
    refuse_existing_folder,
    scratch_folder,
)
from tests.runtime.files.outputs import POSIX, anything, folder_of, killed, run

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


@pytest.mark.parametrize("change", ["host", "format", "target", "half a character", "deep"])
def test_the_journal_of_another_host_or_format_stays(tmp_path, change):
    token = "c" * 32
    content = {"format": journal._FORMAT, "host": platform.node(), "target": "a"}
    wrong = {"target": "\ud800"} if change == "half a character" else {change: "../a"}
    text = json.dumps(content | wrong) if change != "deep" else "[" * 9000
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


# --- requests to end ------------------------------------------------------------------------------------------------


class EndRequestedError(BaseException):
    """As a handler of SIGTERM or SIGINT raises it: where Python enters a function or has called one."""


# Functions with system calls that something must be done about; elsewhere lines are moments that no signal has.
LINE_BY_LINE = {"prove_name", "discard_old", "_exchange", "_take_name", "_make_way"}


@contextlib.contextmanager
def request_at(number: int) -> Iterator[list[str]]:
    """Raise at the `number`-th moment: a call of any Python function, or a line of those `LINE_BY_LINE`.

    Yields where the moments were.
    """
    moments: list[str] = []

    def trace(frame, event, argument):
        if event in ("call", "line"):
            moments.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
            if len(moments) == number:
                raise EndRequestedError
        return trace if frame.f_code.co_name in LINE_BY_LINE else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield moments
    finally:
        sys.settrace(before)


def write_output(kind: str, path: Path) -> None:
    if kind == "file":
        with atomic_file(path) as temporary:
            temporary.write_bytes(b"whole")
    elif kind == "check":
        refuse_existing_folder(path, replace=anything)
    elif kind in ("folder", "replaced"):
        with atomic_folder(path, replace=anything) as partial:
            (partial / "part").write_bytes(b"whole")
    else:
        with scratch_folder(path.parent) as folder:
            (folder / "part").write_bytes(b"whole")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "folder", "replaced", "scratch", "check"])
def test_a_request_to_end_at_any_moment_leaves_nothing_on_its_way(tmp_path: Path, kind: str) -> None:
    number = 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        if kind == "replaced":
            folder_of(folder / "output", "old")
        try:
            with request_at(number) as moments:
                write_output(kind, folder / "output")
        except EndRequestedError:
            pass
        left = {file.name for file in folder.iterdir()}
        if left - {"output"}:
            gc.collect()  # as the end of the process does: `with` may keep a generator in a cycle of its exception
            left = {file.name for file in folder.iterdir()}
        assert left <= {"output"}, (number, moments[-3:], left)
        if kind == "replaced":
            assert os.listdir(folder / "output") in (["file"], ["part"]), (number, moments[-3:])
        if len(moments) < number:
            break
    assert number > 40
    assert left == (set() if kind in ("scratch", "check") else {"output"})


def test_a_request_to_end_that_a_library_hides_behind_an_error_is_heard(tmp_path: Path, monkeypatch) -> None:
    """`shutil.rmtree` closes a descriptor twice if a request comes between the first time and its note of it."""

    def rmtree(path, *rest, **options):
        try:
            raise SystemExit(143)
        finally:
            raise OSError(errno.EBADF, "Bad file descriptor")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", rmtree)
        with pytest.raises(SystemExit), scratch_folder(tmp_path):
            pass
        patch.setattr(shutil, "rmtree", lambda *rest: fail(errno.EBUSY))
        with pytest.raises(KeyboardInterrupt), scratch_folder(tmp_path):  # an error of its own hides no other request
            raise KeyboardInterrupt


def fail(number: int) -> None:
    raise OSError(number, os.strerror(number))
