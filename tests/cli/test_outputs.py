"""Every verb refuses an output that cannot be written before any work, in one sentence, and leaves nothing."""

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import ldm_runtime
from ldm_export import bench, build
from ldm_export.cli.main import verbs
from ldm_export.train import emoji as data
from ldm_export.train import run as train
from ldm_export.tune import tuner
from ldm_export.verify import gate as verify
from ldm_runtime import image
from ldm_runtime.errors import InputError, LdmError
from ldm_runtime.files import hash_cache
from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.package import open as package
from tests.train.conftest import RECIPES

# Verb -> its arguments, the last of which is followed by the output, and the ending that it needs.
WRITERS = {
    "run": (("run", "--prompt", "a", "--out"), ".png"),
    "interpolate": (("interpolate", "--prompt", "a", "--out"), ".gif"),
    "plan": (("plan", "--plot"), ".png"),
    "verify": (("verify", "--out"), ""),
    "bench": (("bench", "--out"), ""),
    "tune": (("tune", "--out"), ""),
    "build": (("build", "--out"), ""),
    "data": (("data", "--out"), ""),
    "train": (("train", str(RECIPES / "smoke.toml"), "--runs"), ""),
}
BAD = {
    "too long": ("{}" + "a" * 300, "which cannot be looked up: File name too long"),
    "too long by one": ("{}" + "ä" * 126 + "aaaa", "which cannot be looked up: File name too long"),
    "in a file": ("{}file/a", "not a folder"),
}


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """Whatever a verb would do next fails the test."""
    for module, name in (
        (ldm_runtime, "load"),
        (package, "read_manifest"),
        (verify, "_verify"),
        (bench, "bench_package"),
        (tuner, "tune_package"),
        (build, "open_checkpoint"),
        (data, "npm_pack"),
        (train, "load_images"),
    ):
        monkeypatch.setattr(module, name, lambda *rest, **more: pytest.fail("the work began"))


def write(verb: str, out: str, *more: str) -> Result:
    arguments, ending = WRITERS[verb]
    return CliRunner().invoke(verbs, [*arguments, out + ending, *more])


def refused(result: Result, why: str) -> None:
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), (result.output, result.exception)
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert why in result.stderr


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("verb", WRITERS)
def test_an_output_that_cannot_be_is_refused_before_any_work(verb, case, tmp_path):
    (tmp_path / "file").touch()
    name, why = BAD[case]
    refused(write(verb, name.format(f"{tmp_path}/")), why)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("verb", WRITERS)
def test_a_folder_that_takes_no_files_is_found_by_trying(verb, monkeypatch):
    """By its permissions root may write there."""
    monkeypatch.chdir("/proc")
    refused(write(verb, "x"), "the folder /proc takes no files (")


@pytest.mark.parametrize("verb", sorted(WRITERS.keys() - {"data", "train"}))
def test_a_folder_that_is_missing_is_not_made(verb, tmp_path):
    refused(write(verb, f"{tmp_path}/no/a"), "does not exist; create it first")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("verb", ["run", "interpolate", "plan"])
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_an_image_never_goes_through_a_link(verb, force, tmp_path):
    (tmp_path / f"a{WRITERS[verb][1]}").symlink_to("precious")
    refused(write(verb, f"{tmp_path}/a", *force), "is a link to precious; give the place itself")
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("verb", ["run", "interpolate", "plan"])
def test_a_read_only_image_is_kept(verb, tmp_path):
    picture = tmp_path / f"a{WRITERS[verb][1]}"
    picture.touch(0o444)
    refused(write(verb, f"{tmp_path}/a", "--force"), "read-only")
    picture.chmod(0o644)
    with pytest.raises(pytest.fail.Exception, match="the work began"):
        write(verb, f"{tmp_path}/a", "--force")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_a_name_that_is_no_text_works_where_the_system_has_such_names(tmp_path):
    name = os.fsdecode(b"a\xff.png")
    assert image.output_paths(tmp_path / name, prompt="", count=1, force=False) == [tmp_path / name]
    with atomic_file(tmp_path / name) as temporary:
        temporary.write_bytes(b"new")
    assert os.listdir(os.fsencode(tmp_path)) == [b"a\xff.png"]


# --- names of several pictures --------------------------------------------------------------------------------------


def test_the_longest_of_several_names_has_to_fit(tmp_path):
    fits, longer = tmp_path / ("a" * 248 + ".png"), tmp_path / ("a" * 249 + ".png")
    assert len(image.output_paths(fits, prompt="", count=100 - 1, force=False)) == 99
    assert len(image.output_paths(longer, prompt="", count=9, force=False)) == 9
    with pytest.raises(LdmError, match="File name too long"):
        image.output_paths(longer, prompt="", count=10, force=False)


@pytest.mark.parametrize("count", [0, -1, 10**9])
def test_an_absurd_number_of_names_is_refused_at_once(count):
    with pytest.raises(InputError, match=f"count is {count}"):
        image.output_paths(None, prompt="red", count=count, force=False)


@pytest.mark.parametrize("prompt", ["a\0b", "a\ud800b", "ä" * 500, "../../etc", "a*[x]?", ""])
def test_a_name_made_from_any_prompt_can_be_written(prompt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in image.output_paths(None, prompt=prompt, count=12, force=False):
        with atomic_file(path, force=False):
            pass
    assert len(os.listdir(tmp_path)) == 12


# --- caches: where they cannot be kept, everything works without ----------------------------------------------------


@pytest.mark.parametrize("change", ["no home", "relative", "empty"])
def test_a_user_without_a_home_has_no_cache(change, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if change == "relative":
        monkeypatch.setenv("XDG_CACHE_HOME", "cache")

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", staticmethod((lambda: Path("here")) if change == "relative" else no_home))
    assert hash_cache.cache_folder() is None and hash_cache.make_cache_folder("a") is None
    (tmp_path / "x").touch()
    hashes = hash_cache.HashCache.of(tmp_path)
    hashes.measure("x")
    hashes.save()
    with pytest.raises(InputError, match="set XDG_CACHE_HOME"):
        data.fetch_emoji(tmp_path / "out", 64)
    assert os.listdir(tmp_path) == ["x"]


BAD_CACHES = {
    "a file": lambda cache: cache.write_text("a file"),
    "a link to nothing": lambda cache: cache.symlink_to("nowhere"),
    "a folder of a file": lambda cache: (cache.mkdir(), (cache / "hashes").touch(), (cache / "openvino").touch()),
}


@pytest.mark.parametrize("case", BAD_CACHES)
def test_a_cache_that_cannot_be_used_stops_nothing(case, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(hash_cache, "cache_folder", lambda: tmp_path / "ldm_runtime")
    BAD_CACHES[case](tmp_path / "ldm_runtime")
    (tmp_path / "x").touch()
    hashes = hash_cache.HashCache.of(tmp_path)
    digest = hashes.measure("x")
    hashes.save()
    assert hash_cache.HashCache.of(tmp_path).get("x") is None and len(digest) == 64
    assert hash_cache.make_cache_folder("openvino", "abc") is None


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, '{"x": 1}', '{"x": []}', '{"x": [1, 2, 3, 4, 5]}', "1" * 5000, "\xff", ""],
)
def test_hostile_hashes_count_as_none(text, tmp_path, monkeypatch):
    monkeypatch.setattr(hash_cache, "cache_folder", lambda: tmp_path / "cache")
    (tmp_path / "x").touch()
    place = hash_cache.HashCache.of(tmp_path).place
    assert place is not None
    place.parent.mkdir(parents=True)
    place.write_text(text, encoding="latin-1")
    hashes = hash_cache.HashCache.of(tmp_path)
    assert hashes.get("x") is None
    digest = hashes.measure("x")
    hashes.save()
    assert hash_cache.HashCache.of(tmp_path).get("x") == digest


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
def test_a_pipe_in_the_cache_does_not_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(hash_cache, "cache_folder", lambda: tmp_path / "cache")
    place = hash_cache.HashCache.of(tmp_path).place
    assert place is not None
    place.parent.mkdir(parents=True)
    os.mkfifo(place)
    assert hash_cache.HashCache.of(tmp_path).known == {}
