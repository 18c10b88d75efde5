"""The command line as a whole: faults, what is not installed, how it starts and stops."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from ldm_export.cli.main import verbs
from ldm_runtime.errors import FormatError
from tests.cli.calling import ROOT, call
from tests.wall import run_behind_wall


def test_a_plain_fact_without_advice_is_a_fault_of_the_program(monkeypatch, tmp_path):
    def read(path, *options, **more):
        raise FormatError(str(path), "is cut off", "weights.layout")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("ldm_export.package.describe.describe", read)
    result = call("inspect", tmp_path)
    assert result.exit_code == 70 and "unexpected fault (FormatError: " in result.stderr


@pytest.mark.parametrize(
    ("command", "extra"),
    [(("build", "x", "--out", "y"), "export"), (("train", "x.toml"), "train"), (("inspect", "x"), "export")],
)
def test_a_missing_extra_is_named(command, extra, tmp_path):
    """In a process of its own: modules that were imported anew would be other ones for the tests that follow."""
    (tmp_path / "x").mkdir()
    words = [str(tmp_path / word) if word in ("x", "y", "x.toml") else word for word in command]
    body = f"sys.modules['torch'] = None\nsys.argv[1:] = {words!r}\nfrom ldm_export.cli.main import main\nmain()"
    done = run_behind_wall(body, blocked=[], paths=[ROOT, ROOT / "runtime"])
    assert done.returncode == 1 and f"pip install 'ldm-export[{extra}]'" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [("verify",), ("build", "--out", "y")])
def test_a_proof_without_an_engine_is_refused_at_once(command, tmp_path):
    words = [str(tmp_path / word) if word == "y" else word for word in command]
    body = f"sys.modules['onnxruntime'] = None\nsys.argv[1:] = {words!r}\nfrom ldm_export.cli.main import main\nmain()"
    done = run_behind_wall(body, blocked=[], paths=[ROOT, ROOT / "runtime"])
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: no engine runs here: ONNX Runtime cannot be imported") and "[cpu]" in last
    assert "exporting" not in done.stderr and list(tmp_path.iterdir()) == []


def test_the_command_line_starts_without_numpy():
    """Help and completion stay quick: what a verb needs is imported when it runs."""
    heavy = ["numpy", "PIL", "onnx", "torch"]
    body = f"import sys, ldm_export.cli.main\nprint([name for name in {heavy!r} if name in sys.modules])"
    done = run_behind_wall(body, blocked=[], paths=[ROOT, ROOT / "runtime"])
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("began", [True, False])
def test_an_interrupted_analysis_says_what_goes_on_if_anything_was_kept(
    began: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ldm_export.analyze import run

    def stopped(*arguments: object, out: Path, **options: object) -> None:
        if began:
            (out / "kept").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "analyze", stopped)
    result = CliRunner().invoke(verbs, ["analyze", "--data", str(tmp_path), "--out", str(tmp_path / "a")])
    assert result.exit_code == 130
    lines = result.stderr.splitlines()
    assert lines[-1] == "interrupted"
    assert lines[:-1] == (
        [f"what is done is kept in {tmp_path / 'a' / 'kept'}: the same command goes on there"] if began else []
    )
