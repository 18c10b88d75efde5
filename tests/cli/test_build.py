"""The verbs `build` and `train` on bad input: one sentence, and nothing on disk is lost."""

import re
import shutil
import signal

import pytest

from ldm_runtime.pipeline import builtin_package
from tests.cli.calling import call, refused, snapshot, start, wait_for


@pytest.mark.parametrize("verb", [("build", "--out", "out"), ("inspect",)])
def test_a_source_that_is_no_model_is_refused(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    name, *options = verb
    refused(call(name, "empty", *options), "model_index.json")
    refused(call(name, "nowhere", *options), "does not exist")
    assert [file.name for file in tmp_path.iterdir()] == ["empty"]


def test_build_keeps_an_existing_package_without_force(tiny_build, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("kept")
    refused(call("build", tiny_build("sd15").source, "--out", tmp_path / "out"), "exists already")
    assert snapshot(tmp_path) == {"out/precious": b"kept"}


def test_build_refuses_before_it_starts_what_would_not_fit(tiny_build, tmp_path):
    result = call("build", tiny_build("sd15").source, "--out", tmp_path / "out", "--max-memory", "0.1")
    refused(result, r"needs about \d+\.\d GB, but --max-memory allows 0\.1 GB")
    assert snapshot(tmp_path) == {}
    refused(call("build", tiny_build("sd15").source, "--out", tmp_path / "out", "--max-memory", "nan"), "nan")


def test_build_refuses_a_recipe_with_an_unknown_key(tiny_build, tmp_path):
    (tmp_path / "recipe.toml").write_text('sampler = "ddim"\nmagic = 1\n')
    options = ("--out", tmp_path / "out", "--config", tmp_path / "recipe.toml")
    refused(call("build", tiny_build("sd15").source, *options), "magic")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_what_was_there(number, tiny_build, tmp_path):
    shutil.copytree(builtin_package(), tmp_path / "out")
    before = snapshot(tmp_path)
    process = start("build", tiny_build("sd15").source, "--out", "out", "--force", cwd=tmp_path)
    wait_for(process, "tracing")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert snapshot(tmp_path) == before


@pytest.mark.slow
def test_a_full_disk_in_the_middle_of_a_build_is_one_sentence(tiny_build, tmp_path):
    """A limit on the size of files stands for the full disk: the same calls fail the same way."""

    def limit_files() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = start("build", tiny_build("sd15").source, "--out", "out", cwd=tmp_path, preexec_fn=limit_files)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert re.search(r"^error: .*File too large", errors, flags=re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_train_refuses_a_recipe_that_is_not_there_or_not_toml(tmp_path):
    refused(call("train", tmp_path / "no.toml", "--runs", tmp_path), "no.toml")
    (tmp_path / "bad.toml").write_text("= nothing")
    refused(call("train", tmp_path / "bad.toml", "--runs", tmp_path), "TOML")
