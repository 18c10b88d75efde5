"""Names of Hugging Face's hub and of the files that a repository lists."""

import pytest

from ldm_export.checkpoint.hub import HubName, choose, parse_hub_name, require_plain_names
from ldm_export.errors import CheckpointError


def test_a_name_is_read_with_and_without_a_revision() -> None:
    assert parse_hub_name("hf:stabilityai/sd-turbo") == HubName("stabilityai/sd-turbo", None)
    assert parse_hub_name("hf:stabilityai/sd-turbo@refs/pr/1") == HubName("stabilityai/sd-turbo", "refs/pr/1")


@pytest.mark.parametrize(
    "text", ["hf:", "hf:a", "hf:../a", "hf:a/..", "hf:a/b/c", "hf:a/b@", "hf:a/b@../c", "hf:a/b\n"]
)
def test_another_name_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="is not a name of the hub"):
        parse_hub_name(text)


@pytest.mark.parametrize("name", ["../a", "/a", "a//b", "a/./b", "a\\b", "C:a", "a\nb", "", "a/.."])
def test_a_listed_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="expected names inside its folder"):
        require_plain_names(["unet/config.json", name])


LISTING = ["model_index.json", "README.md", "x.ckpt", "unet/config.json", "vae/diffusion_pytorch_model.bin"]
UNET = [f"unet/diffusion_pytorch_model{each}" for each in (".bin", ".fp16.safetensors", ".safetensors")]


def test_one_set_of_weights_is_chosen_safetensors_before_pickles() -> None:
    plain = choose([*LISTING, *UNET], None, "hf:a/b")
    assert set(plain) == {*LISTING, UNET[2]} - {"x.ckpt"}
    assert set(choose([*LISTING, *UNET], "fp16", "hf:a/b")) == {*LISTING, UNET[1]} - {"x.ckpt"}


def test_a_repository_without_a_pipeline_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no model_index.json"):
        choose(["x.ckpt"], None, "hf:a/b")
