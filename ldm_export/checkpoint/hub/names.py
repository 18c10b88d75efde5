"""Names of Hugging Face's hub, `hf:OWNER/NAME[/FILE][@REVISION]`, and of what lies in its cache."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from ldm_export.errors import CheckpointError
from ldm_runtime.checks import shown

PREFIX = "hf:"
FILE_ENDINGS = (".safetensors", ".ckpt", ".bin")
MAX_REPOSITORY = 96  # characters, as at the hub

_WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"hf:({_WORD}/{_WORD})(?:/([^@]+))?(?:@([A-Za-z0-9][A-Za-z0-9._/+-]*))?")
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class HubName:
    """A repository of models, maybe one file of it, and its revision: a branch, tag or commit (None: the main one)."""

    repository: str
    file: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        return self.with_file(self.file)

    def with_file(self, file: str | None) -> str:
        """Return how a file of this repository and revision is named."""
        inside = "" if file is None else f"/{file}"
        return f"{PREFIX}{self.repository}{inside}{'' if self.revision is None else f'@{self.revision}'}"


def is_hub_name(source: object) -> TypeGuard[str]:
    """Return whether a source is a name of the hub; a `Path` never is, so `./hf:a` names a folder."""
    return isinstance(source, str) and source.startswith(PREFIX)


def parse_hub_name(text: str) -> HubName:
    """Read `hf:OWNER/NAME[/FILE][@REVISION]`. Raises CheckpointError."""
    found = _NAME.fullmatch(text)
    forbidden = found is None or any(each in f"{found[1]} {found[3]}" for each in ("..", "--", "//"))
    if found is None or forbidden or len(found[1]) > MAX_REPOSITORY or text.endswith("/"):
        raise CheckpointError(
            f"{shown(text)} is not a name of the hub; expected hf:OWNER/NAME, hf:OWNER/NAME@REVISION or "
            f"hf:OWNER/NAME/FILE.safetensors",
            code="hub.name",
        )
    if found[2] is not None and not (_is_plain(found[2]) and found[2].endswith(FILE_ENDINGS)):
        raise CheckpointError(
            f"{shown(text)} names {shown(found[2])}; expected a file of weights ({', '.join(FILE_ENDINGS)}) after "
            f"hf:OWNER/NAME/, or nothing",
            code="hub.name",
        )
    return HubName(found[1], found[2], found[3])


def require_plain(name: object, listed_by: str) -> str:
    """Return a listed name. Raises CheckpointError if it could lead out of the repository's folder."""
    if not isinstance(name, str) or not _is_plain(name):
        raise CheckpointError(
            f"{listed_by} lists a file {shown(name)}; expected names inside its folder: nothing of it is fetched",
            code="hub.listing",
        )
    return name


def _is_plain(name: str) -> bool:
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and ":" not in name and all(parts) and not {".", ".."} & set(parts)


def is_commit(text: object) -> TypeGuard[str]:
    """Return whether a revision is a whole commit."""
    return isinstance(text, str) and _COMMIT.fullmatch(text) is not None


def cached_name(path: Path) -> tuple[str, str] | None:
    """Return (OWNER/NAME, commit) of a file or folder in a snapshot of the hub's cache; None elsewhere."""
    for place in (Path(os.path.abspath(path)), path.resolve()):
        for folder in (place, *place.parents):
            kind, *owner_and_name = folder.parent.parent.name.split("--")
            if folder.parent.name == "snapshots" and kind == "models" and len(owner_and_name) == 2:
                return "/".join(owner_and_name), folder.name
    return None
