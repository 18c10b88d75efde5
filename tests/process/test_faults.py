"""A fault of the program itself: one sentence, a private file with the traceback, exit code 70; in every verb."""

import re
import stat
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from ldm_export.cli.main import verbs
from ldm_export.process import faults
from ldm_export.process.isolate import run_isolated
from ldm_runtime.errors import InputError, printable


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def needed(command: click.Command) -> list[str]:
    """Just what a verb asks for."""
    arguments = []
    for parameter in command.params:
        if parameter.required:
            arguments += ["x"] if isinstance(parameter, click.Argument) else [parameter.opts[0], "x"]
    return arguments


def call(*arguments: str) -> Result:
    return CliRunner().invoke(verbs, arguments)


def plant(monkeypatch: pytest.MonkeyPatch, verb: str, error: BaseException) -> None:
    def planted(**options: object) -> None:
        raise error

    monkeypatch.setattr(verbs.commands[verb], "callback", planted)


def kept(result: Result) -> Path:
    """The file of a fault that was answered as it should be."""
    assert result.exit_code == faults.EXIT_CODE == 70
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1
    found = re.fullmatch(
        r"error: an unexpected fault \(.*\); its traceback is in (\S+); please report .*\n", result.stderr
    )
    assert found is not None, result.stderr
    return Path(found[1])


@pytest.mark.parametrize("verb", sorted(verbs.commands))
def test_a_fault_in_any_verb_is_one_sentence_and_a_private_file(verb, monkeypatch, tmp_path):
    plant(monkeypatch, verb, RuntimeError("planted"))
    file = kept(call(verb, *needed(verbs.commands[verb])))
    assert file.parent == tmp_path / "cache" / "ldm_runtime" / "faults"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert text.startswith(f"ldm-export '{verb}'") and "RuntimeError: planted" in text and "in planted\n" in text


@pytest.mark.parametrize("verb", sorted(verbs.commands))
def test_debug_shows_the_traceback_before_or_after_the_verb(verb, monkeypatch):
    plant(monkeypatch, verb, RuntimeError("planted"))
    for arguments in (("--debug", verb), (verb, "--debug")):
        result = call(*arguments, *needed(verbs.commands[verb]))
        assert result.exit_code == 70 and "Traceback" in result.stderr and "in planted\n" in result.stderr
    assert "Traceback" not in call(verb, *needed(verbs.commands[verb])).stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 1),
        (MemoryError(), 1),
        (RuntimeError("std::bad_alloc"), 1),
        (KeyboardInterrupt(), 130),
        (ModuleNotFoundError("x", name="torch"), 1),
    ],
)
def test_what_has_an_exit_of_its_own_is_no_fault(error, code, monkeypatch, tmp_path):
    plant(monkeypatch, "engines", error)
    assert call("engines").exit_code == code
    assert "Traceback" not in call("engines").stderr and "Traceback" in call("engines", "--debug").stderr
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("error", [ModuleNotFoundError("x", name="left_pad"), EOFError(), OSError(28, "full")])
def test_what_no_extra_brings_and_what_click_would_take_for_its_own_are_faults(error, monkeypatch):
    plant(monkeypatch, "engines", error)
    kept(call("engines"))


def test_a_fault_while_a_module_is_imported_and_while_options_are_read(monkeypatch):
    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "ldm_export.package.describe":
                raise RuntimeError("planted")

    monkeypatch.delitem(sys.modules, "ldm_export.package.describe", raising=False)
    monkeypatch.setattr("sys.meta_path", [Broken(), *sys.meta_path])
    assert "planted" in kept(call("inspect")).read_text()
    option = next(each for each in verbs.commands["bench"].params if each.name == "rounds")
    monkeypatch.setattr(option, "type_cast_value", lambda context, value: 1 / 0)
    assert "ZeroDivisionError" in kept(call("bench")).read_text()


def divide() -> None:
    raise ZeroDivisionError("a bug")


def test_the_file_has_the_traceback_of_an_isolated_stage(monkeypatch):
    monkeypatch.setattr(verbs.commands["engines"], "callback", lambda **options: run_isolated(divide))
    text = kept(call("engines")).read_text()
    assert "in the isolated stage divide" in text and "in divide\n" in text


def test_without_any_folder_to_write_to_the_traceback_goes_to_stderr(monkeypatch, tmp_path):
    plant(monkeypatch, "engines", RuntimeError("planted"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert kept(call("engines")).parent == Path(faults.tempfile.gettempdir())
    monkeypatch.setattr(faults.tempfile, "tempdir", str(tmp_path / "nowhere"))
    result = call("engines")
    assert result.exit_code == 70 and "RuntimeError: planted" in result.stderr and "Traceback" in result.stderr


class Mute(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def test_a_fault_that_cannot_tell_its_text_is_a_fault_like_others(monkeypatch):
    plant(monkeypatch, "engines", Mute())
    result = call("engines", "--debug")
    assert "Mute" in result.stderr and "Traceback" in result.stderr and result.exit_code == 70
    assert "(Mute: its text cannot be read, ZeroDivisionError)" in call("engines").stderr
    assert "in planted\n" in kept(call("engines")).read_text()


def test_a_usage_error_is_no_fault():
    result = call("run", "--magic")
    assert result.exit_code == 2 and result.stderr.startswith("Usage: ")


def test_the_message_of_a_fault_cannot_command_a_terminal(monkeypatch):
    plant(monkeypatch, "engines", RuntimeError("\x1b[2J\udcff" + "x" * 5000))
    result = call("engines")
    assert printable(result.stderr) == result.stderr and len(result.stderr) < 1000
    kept(result)
