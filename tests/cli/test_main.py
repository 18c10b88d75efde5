"""The command line as a whole: faults, what is not installed, how it starts and stops; and the verb `inspect`."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ldm_export.cli.main import verbs
from ldm_runtime.errors import FormatError
from ldm_runtime.pipeline import builtin_package
from tests.cli.calling import GOLDEN, ROOT, call, refused
from tests.runtime.package.varied_package import add_variants
from tests.wall import run_behind_wall


def test_a_plain_fact_without_advice_is_a_fault_of_the_program(monkeypatch, tmp_path):
    def read(path, *options, **more):
        raise FormatError(str(path), "is cut off", "weights.layout")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("ldm_export.package.describe.describe", read)
    result = call("inspect", tmp_path)
    assert result.exit_code == 70 and "unexpected fault (FormatError: " in result.stderr


def test_inspect_tells_what_a_package_is():
    facts = json.loads(call("inspect", builtin_package(), "--json").stdout)
    assert facts["kind"] == "package" and set(facts["components"]) >= {"unet", "vae_decoder"}
    assert "unet" in call("inspect", builtin_package()).stdout


def test_inspect_tells_of_variants_and_of_their_artefacts(tmp_path):
    package = add_variants(Path(shutil.copytree(GOLDEN / "package", tmp_path / "package")))
    facts = json.loads(call("inspect", package, "--json").stdout)
    variants, artefacts = facts["variants"], facts["components"]["unet"]["artefacts"]
    assert list(variants) == ["int8-bf16", "cached", "mixed"]
    assert variants["int8-bf16"]["ways"]["unet"]["precision"] == "bf16"
    assert variants["int8-bf16"]["error"]["psnr"] == 34.1 and variants["cached"]["run"]["caching"]["interval"] == 2
    assert artefacts["shallow"]["inputs"][1] == "deep float32 [batch, 4, height, width]"
    assert artefacts["int8"]["kept"] == ["conv_in", "conv_out"] and artefacts["fp16"]["rescaled"] == 64.0
    assert "units: avx512_bf16; avx512_vnni" in call("inspect", package).stdout
    assert "variants" not in json.loads(call("inspect", GOLDEN / "package", "--json").stdout)


@pytest.mark.slow
def test_inspect_tells_the_precision_of_the_weights(tiny_build):
    for kind, dtype in (("sd15", "F32"), ("sd15-fp16", "F16")):
        built = tiny_build(kind)
        for folder in (built.source, built.package):
            components = json.loads(call("inspect", folder, "--json").stdout)["components"]
            assert all(list(component["weights"]) == [dtype] for component in components.values())
            assert components["unet"]["weights"] == {dtype: built.checkpoint.parameter_count("unet")}
            assert re.search(rf"weights: {dtype} [\d,]+\n", call("inspect", folder).stdout)


def test_inspect_tells_what_a_checkpoint_is(tiny_build):
    facts = json.loads(call("inspect", tiny_build("sd15").source, "--json").stdout)
    assert facts["kind"] == "checkpoint" and facts["components"]["unet"]["parameters"] > 1000


def test_inspect_refuses_a_path_that_is_not_there_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    result = call("inspect", str(tmp_path / "nosuch"))
    assert result.exit_code == 1
    assert "nosuch does not exist; expected a package, a diffusers folder or a single-file" in result.stderr


def test_inspect_refuses_options_of_a_checkpoint_for_a_package():
    refused(call("inspect", "--variant", "fp16", "--zero-snr"), "is a package, which has no --variant or --zero-snr")


def test_inspect_refuses_a_folder_that_is_neither(tmp_path):
    refused(call("inspect", tmp_path), "neither")


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
