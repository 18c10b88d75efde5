"""Standard streams that are closed, full, narrow or gone: the work is done; what could not be printed is said once."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ldm_export.process.streams import Guarded, echo, echo_json, guard_streams
from tests.runtime import tiny_package

ROOT = Path(__file__).parents[2]
PLAN = ("plan", "--list")


def shell(redirection: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The program under a shell's redirection, such as `2>&-`."""
    program = f"{sys.executable} -P -c 'from ldm_export.cli.main import main; main()' \"$@\" {redirection}"
    paths = f"{ROOT}{os.pathsep}{ROOT / 'runtime'}"
    return subprocess.run(
        ["bash", "-c", program, "bash", *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=120,
    )


def assert_one_sentence(done: "subprocess.CompletedProcess[str]", text: str) -> None:
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"error: the work is done, but its result could not be printed: {text}"]


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&- <&-"])
def test_a_result_is_told_where_stderr_takes_nothing(redirection):
    done = shell(redirection, *PLAN)
    assert done.returncode == 0 and "dpmpp_2m_karras" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "text"),
    [(">/dev/full", "No space left on device"), (">&-", "it is closed"), (">&- <&-", "it is closed")],
)
def test_a_result_that_cannot_be_told_is_one_sentence(redirection, text):
    for arguments in (PLAN, ("--help",)):
        assert_one_sentence(shell(redirection, *arguments), text)


def test_a_reader_that_is_gone_is_one_sentence():
    done = shell("| true; exit ${PIPESTATUS[0]}", *PLAN)
    assert_one_sentence(done, "Broken pipe")


def test_a_reader_of_the_first_line_alone_gets_it():
    assert shell("| head -n 1", *PLAN).stdout.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2>&-", ">/dev/full", ">&- 2>&- <&-"])
def test_the_image_is_made_whatever_the_streams_are(redirection, tmp_path):
    out, package = tmp_path / "a.png", tiny_package.make(tmp_path / "package")
    run = ("run", str(package), "--prompt", "x", "--steps", "1", "--size", "32x32")
    done = shell(redirection, *run, "--out", str(out))
    assert out.read_bytes().startswith(b"\x89PNG")
    assert done.returncode == (0 if redirection == "2>&-" else 1)
    assert "Traceback" not in done.stderr


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """Without a stand-in the first file that is opened becomes descriptor 2, and errors are written into it."""
    program = (
        "from ldm_export.process.streams import guard_streams as g; import os; g(); print(os.open('.', os.O_RDONLY))"
    )
    done = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$0" 2>&-', program],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runtime'}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) > 2


@pytest.mark.parametrize("encoding", ["ascii:strict", "utf-8:strict"])
def test_a_narrow_encoding_shows_escapes(encoding):
    done = shell("", "inspect", "né\udcff", PYTHONIOENCODING=encoding, LANG="C", PYTHONUTF8="0")
    assert done.returncode == 1
    shown = "n\\xe9\\udcff" if encoding.startswith("ascii") else "né\\udcff"
    assert done.stderr.startswith("error: ") and shown in done.stderr


def test_a_command_line_that_commands_a_terminal_is_escaped():
    done = shell("", "run", "--\x1b[31mred")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr and "\\x1b[31mred" in done.stderr


def test_texts_are_escaped_and_lines_kept(capsys):
    echo("a\x1b[2J\rb\u202ec\udc80\nd\té")
    assert capsys.readouterr().out == "a\\x1b[2J\\x0db\\u202ec\\udc80\nd\té\n"


def test_json_stays_json(capsys):
    facts = {"name": "a\x1b\x7f\x85\u202e\ud800é😀\n"}
    for text in (json.dumps(facts), json.dumps(facts, ensure_ascii=False)):
        echo_json(text)
        out = capsys.readouterr().out
        assert out.isascii() and not set(out) & {"\x1b", "\x7f"}
        assert json.loads(out) == facts


class _WindowsConsoleIO(io.RawIOBase):
    """Has the name of what Python puts under a stream that is a console of Windows."""

    def writable(self) -> bool:
        return True


def test_a_console_of_windows_stays_and_other_streams_are_guarded(monkeypatch):
    console = io.TextIOWrapper(io.BufferedWriter(_WindowsConsoleIO()), "utf-8")
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    guard_streams()
    assert sys.stdout is console and console.errors == "backslashreplace"
    assert isinstance(sys.stderr.buffer.raw, Guarded)  # type: ignore[attr-defined]
