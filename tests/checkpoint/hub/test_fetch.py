"""Repositories of the hub, fetched from a server that speaks its protocol; the library runs as in a build."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ldm_export import build as builds
from ldm_export.checkpoint.checkpoint import source_name
from ldm_export.checkpoint.hub.fetch import fetched
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.cli.main import verbs
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.package.describe import describe
from ldm_export.recipes.build import BuildRecipe
from tests.hub_server import COMMIT, Hub, Repository, running
from tests.once import make_once

ROOT = Path(__file__).parents[3]
UNET = "unet/diffusion_pytorch_model.safetensors"
TOKEN = "Bearer hf_secret"
# What a published folder has besides: none of it is ever fetched.
OTHERS = {
    "unet/diffusion_pytorch_model.bin": b"a pickle",
    "unet/model.onnx": b"a graph",
    "safety_checker/model.safetensors": b"a checker",
    "sd-turbo.safetensors": b"a single file",
    "image.png": b"an image",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.oracles import build_tiny_sd

    folder = make_once(tmp_path_factory, "hub-tiny", lambda folder: build_tiny_sd(folder / "sd15"))
    (folder / "README.md").write_text("A model card.")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A server, and the environment of those who use it: an empty cache, and a token."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGINGFACE_"))]:
        monkeypatch.delenv(name)
    with running() as hub:
        for name, value in {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_TOKEN": TOKEN.removeprefix("Bearer "),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        yield hub


def get(name: str, variant: str | None = None, **parts: str) -> tuple[Path, list[str]]:
    """Fetch; return the place and what was said."""
    said: list[str] = []
    return fetched(name, parts, variant, said.append)[0], said


def refused(code: str, message: str, name: str = "hf:some/thing", **parts: str) -> str:
    with pytest.raises(CheckpointError, match=message) as error:
        get(name, **parts)
    assert error.value.code == code, error.value
    assert "\n" not in str(error.value) and "hf_secret" not in str(error.value)
    return str(error.value)


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


# --- what is fetched ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_pipeline_is_fetched_once_and_opens_offline(
    hub: Hub, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the checkpoint of the folder, called after its repository."""
    whole = Repository.of(tiny)
    needed = set(whole.files)
    whole.files |= OTHERS
    hub.repositories["some/thing"] = whole
    facts = json.loads(CliRunner().invoke(verbs, ["inspect", "hf:some/thing@v1", "--json"]).stdout)
    assert facts["family"] == "stable-diffusion" and facts["documents"] == ["README.md"]
    assert hub.fetched() == needed
    assert {each.token for each in hub.asked} == {TOKEN} and {each.token for each in hub.asked_elsewhere} == {None}

    hub.forget()
    place, said = get("hf:some/thing@v1")
    assert hub.fetched() == set() and said == []
    checkpoint = open_checkpoint(place)
    assert checkpoint.configs == open_checkpoint(tiny).configs
    assert checkpoint.defaults.name == "some/thing" and source_name(checkpoint.path) == f"some/thing@{COMMIT}"

    hub.forget()
    offline(monkeypatch)
    refused("hub.offline", "not in the cache .*HF_HUB_OFFLINE is set; unset it", "hf:some/thing@v2")
    assert not hub.asked
    begun: list[str] = []

    def begin(checkpoint: Any, *_: object) -> None:
        begun.append(checkpoint.defaults.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(builds, "_export", begin)
    with pytest.raises(KeyboardInterrupt):
        builds.build_package("hf:some/thing@v1", tmp_path / "out", recipe=BuildRecipe())
    assert begun == ["some/thing"]
    (place / UNET).unlink()
    refused("hub.offline", "has no weights of unet .*this is what the cache has; unset it", "hf:some/thing@v1")


def small(**options: Any) -> Repository:
    """A repository of one part."""
    files = {"config.json": b"{}", "diffusion_pytorch_model.safetensors": b"weights", "README.md": b"x"}
    return Repository(files, **options)


@pytest.mark.slow
def test_a_part_and_a_file_are_fetched_alone(hub: Hub, tmp_path: Path) -> None:
    hub.repositories |= {"some/vae": small(), "some/thing": Repository({"x.safetensors": b"x", "y.safetensors": b"y"})}
    source, parts = fetched(
        "hf:some/thing/x.safetensors@main", {"vae": "hf:some/vae", "unet": tmp_path}, None, lambda text: None
    )
    assert source.read_bytes() == b"x" and source.name == "x.safetensors" and parts["unet"] == tmp_path
    assert sorted(file.name for file in parts["vae"].iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    assert hub.fetched() == {"x.safetensors", "config.json", "diffusion_pytorch_model.safetensors"}
    refused("hub.files", "2 .safetensors files .*write hf:some/thing/x.safetensors$")
    with pytest.raises(CheckpointError, match="is a file, which has no variant 'fp16'"):
        get("hf:some/thing/x.safetensors", "fp16")


@pytest.mark.slow
def test_what_is_unsupported_is_refused_before_weights(hub: Hub, tiny: Path) -> None:
    hub.repositories["some/thing"] = repository = Repository.of(tiny)
    index = json.loads(repository.files["model_index.json"])
    repository.files["model_index.json"] = json.dumps(
        {**index, "_class_name": "FluxPipeline", "unet": [None, None]}
    ).encode()
    with pytest.raises(ConfigError, match="is for a 'FluxPipeline'"):
        get("hf:some/thing")
    assert not any(name.endswith(".safetensors") for name in hub.fetched())


@pytest.mark.slow
def test_a_size_that_is_not_listed_is_asked_for(hub: Hub) -> None:
    hub.repositories["some/vae"] = small(
        change=lambda listing: [each.update(size=None) for each in listing["siblings"]]
    )
    _, parts = fetched(Path(), {"vae": "hf:some/vae"}, None, lambda text: None)
    assert (parts["vae"] / "config.json").read_bytes() == b"{}"


# --- what is refused ----------------------------------------------------------------------------


def siblings(change: Callable[[list[Any]], object]) -> Callable[[dict[str, Any]], None]:
    return lambda listing: None if change(listing["siblings"]) else None


def of_first(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda listing: listing["siblings"][1].update(changes)


WEIGHTS = "diffusion_pytorch_model.safetensors"
HOSTILE: dict[str, tuple[str, str, Repository]] = {
    "a name that leads out": ("hub.listing", r"lists a file '\.\./x'", small(change=of_first(rfilename="../x"))),
    "no names": ("hub.listing", "is not one of the hub", small(change=lambda each: each.update(siblings=[1]))),
    "an absurd size": (
        "hub.space",
        "needs 1,125,899,906,842,633 bytes in .*; free space, or set HF_HOME",
        small(change=siblings(lambda files: files[2].update(size=2**50 + 7))),
    ),
    "a wrong size": (
        "hub.content",
        "has 7 bytes, but 9 are listed; remove .*blobs",
        small(change=siblings(lambda files: files[2].update(size=9))),
    ),
    "other content": ("hub.content", "has the SHA-256 .* is listed; remove", small(sent={WEIGHTS: b"WEIGHTS"})),
    "content without end": ("hub.content", "is not of the size that is listed.*incomplete", small(endless=True)),
    "a pickle only": ("hub.files", r"1 \.ckpt file .*write hf:some/thing/x\.ckpt$", Repository({"x.ckpt": b"x"})),
    "gated": ("hub.access", "is gated; accept its terms at http://.*/some/thing, then set HF_TOKEN", small(gated=True)),
    "forbidden": ("hub.access", "may not be read .*set HF_TOKEN", small(status=403)),
    "out of order": ("hub.connection", "cannot reach http://.*set HF_HUB_OFFLINE=1", small(status=503)),
}


@pytest.mark.slow
@pytest.mark.parametrize(("code", "message", "repository"), HOSTILE.values(), ids=HOSTILE)
def test_it_is_refused_in_one_sentence(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, message: str, repository: Repository
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    hub.repositories["some/thing"] = repository
    if "x.ckpt" in repository.files:
        refused(code, message)
    else:
        with pytest.raises(CheckpointError, match=message) as error:
            fetched(Path(), {"vae": "hf:some/thing"}, None, lambda text: None)
        assert error.value.code == code and "\n" not in str(error.value)
    assert [file for file in tmp_path.rglob("*") if file.name in ("x", "x.ckpt")] == []


@pytest.mark.parametrize("options", [["inspect", "hf:x"], ["build", "x", "--vae", "hf:x/y/../z.bin", "--out", "o"]])
def test_a_command_line_with_a_name_that_is_none_is_refused(options: list[str]) -> None:
    result = CliRunner().invoke(verbs, options)
    assert result.exit_code == 1 and result.stderr.startswith("error: 'hf:x") and result.stderr.count("\n") == 1


@pytest.mark.slow
def test_what_is_not_there_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["some/thing"] = small()
    hub.repositories["some/secret"] = small(private=True)
    monkeypatch.delenv("HF_TOKEN")
    refused("hub.not-found", "no repository some/secret, or it is private; .* HF_TOKEN", "hf:some/secret")
    refused("hub.not-found", "no repository no/thing, or it is private", "hf:no/thing")
    refused("hub.not-found", "some/thing has no revision v3; give a branch", "hf:some/thing@v3")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    refused("hub.connection", "cannot reach http://127.0.0.1:1 for hf:some/thing .*check the connection")


@pytest.mark.slow
def test_the_token_stays_with_the_hub(hub: Hub) -> None:
    hub.repositories["some/vae"] = small(moved=True)
    fetched(Path(), {"vae": "hf:some/vae"}, None, lambda text: None)
    assert len(hub.asked_elsewhere) > 1 and {each.token for each in hub.asked_elsewhere} == {None}


def test_without_the_library_it_is_said_how_to_install_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.startswith(("huggingface_hub", "ldm_export.checkpoint.hub.client"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("ldm_export.checkpoint.hub.client", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused("hub.library", r"needs huggingface_hub; install it with: pip install 'ldm-export\[hub\]'")


# --- once, and again ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_hash_is_compared_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes in the cache is found, offline too."""
    hub.repositories["some/thing"] = Repository({"x.safetensors": b"x" * 9})
    name = "hf:some/thing/x.safetensors"
    place, said = get(name)
    assert [text for text in said if "SHA-256" in text] == ["comparing x.safetensors with its SHA-256"]
    offline(monkeypatch)
    place.resolve().write_bytes(b"y" * 9)
    refused("hub.content", "has the SHA-256 .* is listed; remove .*/blobs/", name)


def wait_for(process: "subprocess.Popen[bytes]", condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)


PROGRAM = f"""
from ldm_export.checkpoint.hub.client import HubName, Wanted, download
download(Wanted(HubName("some/thing"), "{COMMIT}", {{"x.safetensors": (12 << 20, None)}}), print)
"""


@pytest.mark.slow
def test_a_killed_download_goes_on(hub: Hub, tmp_path: Path) -> None:
    content = os.urandom(12 << 20)  # the library writes pieces of 10 MiB
    hub.repositories["some/thing"] = Repository({"x.safetensors": content}, stalls_at=11 << 20)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runtime'}"}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment) as process:
        try:
            wait_for(process, hub.stalled.is_set)
            wait_for(process, lambda: any(file.stat().st_size >= 10 << 20 for file in tmp_path.rglob("*.incomplete")))
        finally:
            process.send_signal(signal.SIGKILL)
    hub.go_on.set()
    hub.forget()
    place, said = get("hf:some/thing/x.safetensors")
    assert place.read_bytes() == content
    begins = [each.begin for each in hub.asked_elsewhere if each.method == "GET"]
    assert set(begins) == {f"bytes={10 << 20}-"}
    assert "1 file to fetch, 0.00 GB" in said[0]


def test_a_setting_that_the_library_does_not_take_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "a minute")
    for module in [each for each in sys.modules if each.partition(".")[0] == "huggingface_hub" or "hub.client" in each]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr(sys.modules["ldm_export.checkpoint.hub"], "client", raising=False)
    refused("hub.setting", "huggingface_hub does not take a setting .*'a minute'.* variable")


def test_what_only_a_file_takes_is_refused_for_a_pipeline_before_anything_is_asked(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["some/thing"] = small()
    with pytest.raises(CheckpointError, match="hf:some/thing is a folder.*leave --prediction and --zero-snr out"):
        builds.build_package("hf:some/thing", tmp_path / "out", recipe=BuildRecipe(), prediction="v_prediction")
    with pytest.raises(CheckpointError, match="hf:some/thing is a folder"):
        describe("hf:some/thing", zero_snr=True)
    assert not hub.asked
