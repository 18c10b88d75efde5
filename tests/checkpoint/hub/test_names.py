"""Names of Hugging Face's hub and of the files that a repository lists."""

from pathlib import Path

import pytest

from ldm_export.checkpoint.checkpoint import folder_name, source_name
from ldm_export.checkpoint.hub.names import HubName, cached_name, is_hub_name, parse_hub_name, require_plain
from ldm_export.errors import CheckpointError
from tests import hub_cache


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf:stabilityai/sd-turbo", HubName("stabilityai/sd-turbo")),
        ("hf:stabilityai/sd-turbo@refs/pr/1", HubName("stabilityai/sd-turbo", None, "refs/pr/1")),
        ("hf:Lykon/dreamshaper_8@v1.0", HubName("Lykon/dreamshaper_8", None, "v1.0")),
        ("hf:a/b/c.safetensors", HubName("a/b", "c.safetensors")),
        ("hf:a/b/d e/c+.safetensors@fp16", HubName("a/b", "d e/c+.safetensors", "fp16")),
    ],
)
def test_a_name_is_read_and_written(text: str, name: HubName) -> None:
    assert parse_hub_name(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    ["hf:", "hf:a", "hf:../a", "hf:a/..", "hf:a/b@", "hf:a/b@../c", "hf:a/b@c//d", "hf:a/b\n", "hf:a--b/c", "hf:a/-b"]
    + ["hf:a/b.", "hf:a/" + "b" * 95, "hf:a/b/", "hf:a/b@c d"],
)
def test_another_name_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="is not a name of the hub") as error:
        parse_hub_name(text)
    assert error.value.code == "hub.name"


@pytest.mark.parametrize("file", ["c", "unet", "c.onnx", "../c.bin", "/c.bin", "d//c.bin", "d\\c.bin", "C:c.bin"])
def test_another_file_is_refused(file: str) -> None:
    with pytest.raises(CheckpointError, match="expected a file of weights") as error:
        parse_hub_name(f"hf:a/b/{file}")
    assert error.value.code == "hub.name"


@pytest.mark.parametrize("name", ["../a", "/a", "a//b", "a/./b", "a\\b", "C:a", "a\nb", "", "a/..", 3, None, "a\x1b"])
def test_a_listed_name_that_leads_elsewhere_is_refused(name: object) -> None:
    assert require_plain("unet/config.json", "hf:a/b") == "unet/config.json"
    with pytest.raises(CheckpointError, match="hf:a/b lists a file .* expected names inside its folder") as error:
        require_plain(name, "hf:a/b")
    assert error.value.code == "hub.listing"


def test_a_path_is_no_name_of_the_hub() -> None:
    assert is_hub_name("hf:a/b") and not is_hub_name("./hf:a/b") and not is_hub_name(Path("hf:a/b"))


def test_what_lies_in_the_cache_is_named_after_its_repository(tmp_path: Path) -> None:
    (tmp_path / "source" / "vae").mkdir(parents=True)
    (tmp_path / "source" / "vae" / "a.safetensors").write_bytes(b"x")
    snapshot = hub_cache.make(tmp_path / "source", tmp_path / "cache")
    (tmp_path / "link").symlink_to(snapshot)
    for path in (snapshot, snapshot / "vae", tmp_path / "link"):
        assert cached_name(path) == ("someone/something", hub_cache.REVISION)
        assert folder_name(path) == "someone/something"
        assert source_name(path) == f"someone/something@{hub_cache.REVISION}"
    assert folder_name(snapshot / "vae/a.safetensors") == "a"
    assert source_name(snapshot / "vae/a.safetensors") == f"someone/something@{hub_cache.REVISION}"
    assert cached_name(tmp_path / "source") is None and source_name(tmp_path / "source") == "source"
