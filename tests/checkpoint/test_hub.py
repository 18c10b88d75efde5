"""Names of Hugging Face's hub and of the files that a repository lists."""

import pytest

from ldm_export.checkpoint.hub import HubName, parse_hub_name, require_plain_names
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
