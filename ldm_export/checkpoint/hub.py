"""Names of Hugging Face's hub, `hf:OWNER/NAME[@REVISION]`, and which files of a repository a pipeline needs."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ldm_export.errors import CheckpointError
from ldm_runtime.checks import shown

_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?"
_NAME = re.compile(rf"hf:({_WORD}/{_WORD})(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?")


@dataclass(frozen=True)
class HubName:
    """A repository of models and its revision, a branch, tag or commit."""

    repository: str
    revision: str | None


def parse_hub_name(text: str) -> HubName:
    """Read `hf:OWNER/NAME[@REVISION]`. Raises CheckpointError."""
    found = _NAME.fullmatch(text)
    if found is None or ".." in text or "//" in text or text.endswith("/"):
        raise CheckpointError(
            f"{shown(text)} is not a name of the hub; expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION"
        )
    return HubName(found[1], found[2])


def require_plain_names(names: Iterable[str]) -> None:
    """Raise CheckpointError for a listed name that could lead out of the folder."""
    for name in names:
        parts = name.split("/")
        if not name.isprintable() or "\\" in name or ":" in name or not all(parts) or {".", ".."} & set(parts):
            raise CheckpointError(f"the repository lists a file {shown(name)}; expected names inside its folder")
