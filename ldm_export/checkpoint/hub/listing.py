"""What a repository of the hub holds at one commit, as the hub lists it, or as its cache has it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm_export.checkpoint.hub.names import HubName, is_commit, require_plain
from ldm_export.errors import CheckpointError
from ldm_runtime.checks import shown

MAX_LISTED = 10_000  # files; a pipeline has a few dozen
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Listing:
    """The files of a repository. sizes: bytes, or None where the hub does not say. hashes: SHA-256 of large ones."""

    commit: str
    sizes: Mapping[str, int | None]
    hashes: Mapping[str, str]
    offline: bool = False  # it is of the cache


def read_listing(name: HubName, commit: Any, files: Iterable[tuple[Any, Any, Any]]) -> Listing:
    """Check what the hub lists: (name, size, SHA-256 or None) of each file. Raises CheckpointError."""
    if not is_commit(commit):
        raise CheckpointError(f"{name} is at {shown(commit)}; expected a commit of 40 digits", code="hub.listing")
    sizes: dict[str, int | None] = {}
    hashes = {}
    for file, size, digest in files:
        file = require_plain(file, str(name))
        if file in sizes or len(sizes) == MAX_LISTED:
            what = f"{shown(file)} twice" if file in sizes else f"more than {MAX_LISTED} files"
            raise CheckpointError(f"{name} lists {what}; nothing of it is fetched", code="hub.listing")
        if size is not None and (type(size) is not int or size < 0):
            raise CheckpointError(
                f"{name} lists {shown(file)} with {shown(size)} bytes; nothing of it is fetched", code="hub.listing"
            )
        sizes[file] = size
        if digest is not None:
            if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
                raise CheckpointError(
                    f"{name} lists {shown(file)} with the SHA-256 {shown(digest)}, which is none; nothing of it is "
                    f"fetched",
                    code="hub.listing",
                )
            hashes[file] = digest
    return Listing(commit, sizes, hashes)


def cached_listing(snapshot: Path) -> Listing:
    """List what the cache has of a repository; a file in `blobs` that is called like a SHA-256 should have it."""
    files = [file for file in sorted(snapshot.rglob("*")) if file.is_file()]
    sizes = {file.relative_to(snapshot).as_posix(): file.stat().st_size for file in files}
    blobs = {file.relative_to(snapshot).as_posix(): file.resolve().name for file in files}
    hashes = {name: blob for name, blob in blobs.items() if _DIGEST.fullmatch(blob)}
    return Listing(snapshot.name, sizes, hashes, offline=True)
