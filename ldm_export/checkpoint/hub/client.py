"""Calls of `huggingface_hub`, in processes of their own: its cache, token, mirror and offline mode are as it has them.

This module alone imports it. A listing is read with limited memory, and no file grows far beyond the size that was
listed. Of a large file the SHA-256 is compared once and remembered (`hash_cache`). A download that was interrupted
goes on where it was, which the library does.
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import huggingface_hub as hub
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import disable_progress_bars

from ldm_export.checkpoint.hub.explain import explanation
from ldm_export.checkpoint.hub.listing import Listing, cached_listing, read_listing
from ldm_export.checkpoint.hub.names import HubName, is_commit
from ldm_export.errors import CheckpointError
from ldm_export.process.limits import limit_files, limit_memory
from ldm_runtime import __version__
from ldm_runtime.checks import first_line
from ldm_runtime.errors import LdmError
from ldm_runtime.files.hash_cache import HashCache

LISTING_BYTES = 2**30  # of address space to read a listing; one of 10,000 files has three million
SLACK_BYTES = 2**26  # that a file may take beyond what was listed, before it is refused
_PROGRAM: Any = {"library_name": "ldm-export", "library_version": __version__}
# The root of the errors of the HTTP client: requests', or httpx's from version 1.0 on.
_HTTPError: type[Exception] = cast(Any, HfHubHTTPError).__bases__[0]


@dataclass(frozen=True)
class Wanted:
    """Files of a repository at one commit: name -> (bytes or None, SHA-256 or None)."""

    name: HubName
    commit: str
    files: Mapping[str, tuple[int | None, str | None]]


def list_repository(name: HubName) -> Listing:
    """List a repository, from the cache where the library is offline. Raises CheckpointError."""
    with explained(name):
        if constants.HF_HUB_OFFLINE:
            found = hub.snapshot_download(name.repository, revision=name.revision, local_files_only=True)
            return cached_listing(Path(found))
        limit_memory(LISTING_BYTES)
        api = hub.HfApi(**_PROGRAM)
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        return read_info(
            name,
            lambda: api.model_info(name.repository, revision=name.revision, files_metadata=True, timeout=timeout),
        )


def read_info(name: HubName, ask: "Callable[[], hub.ModelInfo]") -> Listing:
    """Return the listing in what `ask` returns, or raises of it. Raises CheckpointError."""
    try:
        info = ask()
        files = ((each.rfilename, each.size, getattr(each.lfs, "sha256", None)) for each in info.siblings or ())
        return read_listing(name, info.sha, files)
    except MemoryError:
        raise CheckpointError(
            f"the listing of {name} would take more than {LISTING_BYTES >> 30} GB; nothing of it is fetched",
            code="hub.listing",
        ) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:  # the library's reading of it
        raise CheckpointError(
            f"the listing of {name} is not one of the hub ({type(error).__name__}: {first_line(error)}); check "
            f"HF_ENDPOINT",
            code="hub.listing",
        ) from error


def download(wanted: Wanted, progress: Callable[[str], None]) -> Path:
    """Fetch what the cache lacks, and return the snapshot. Raises CheckpointError."""
    if not sys.stderr.isatty():
        disable_progress_bars()
    with explained(wanted.name):
        sizes = {file: _size(wanted, file, size) for file, (size, _) in wanted.files.items()}
        left = _uncached(wanted, sizes)
        _require_space(wanted.name, sum(left.values()))
        if left:
            total = f"{len(left)} {'file' if len(left) == 1 else 'files'} to fetch, {sum(left.values()) / 1e9:.2f} GB"
            progress(f"{wanted.name.repository} is at {wanted.commit}: {total}")
        noted = constants.HF_HUB_OFFLINE or is_commit(wanted.name.revision)
        for file, size in sizes.items():
            if file in left:
                progress(f"fetching {file} ({size / 1e6:.1f} MB)")
            limit_files(size + SLACK_BYTES)
            if not noted:  # in the cache, for the offline mode: which commit the revision is
                noted = _place(wanted, file, wanted.name.revision).exists()
            snapshot = _fetch(wanted, file, size)
            _require_hash(snapshot, file, wanted.files[file][1], progress)
        return snapshot


def _fetch(wanted: Wanted, file: str, size: int) -> Path:
    """Fetch one file, unless the cache has it, and return the snapshot that it is in."""
    place = _place(wanted, file, wanted.commit)
    if place.stat().st_size != size:
        raise CheckpointError(
            f"{place} has {place.stat().st_size} bytes, but {size} are listed; remove {place.resolve()} and run again",
            code="hub.content",
        )
    return place.parents[file.count("/")]


def _place(wanted: Wanted, file: str, revision: str | None) -> Path:
    """Return the place of a file in the cache, fetched if it is not there."""
    return Path(hub.hf_hub_download(wanted.name.repository, file, revision=revision, **_PROGRAM))


def _size(wanted: Wanted, file: str, listed: int | None) -> int:
    """Return the size of a file, asked for where the listing does not have it."""
    if listed is not None:
        return listed
    url = hub.hf_hub_url(wanted.name.repository, file, revision=wanted.commit)
    size = hub.get_hf_file_metadata(url).size
    if size is None:
        raise CheckpointError(f"{wanted.name}: the hub has no size of {file}; try again later", code="hub.listing")
    return size


def _uncached(wanted: Wanted, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the files that are not in the cache, with the bytes that they still lack."""
    blobs = Path(constants.HF_HUB_CACHE) / f"models--{wanted.name.repository.replace('/', '--')}" / "blobs"
    left = {}
    for file, size in sizes.items():
        digest = wanted.files[file][1]
        found = hub.try_to_load_from_cache(wanted.name.repository, file, revision=wanted.commit)
        if isinstance(found, str) or (digest is not None and (blobs / digest).exists()):
            continue
        begun = blobs / f"{digest}.incomplete"
        left[file] = max(0, size - (begun.stat().st_size if begun.exists() else 0))
    return left


def _require_space(name: HubName, needed: int) -> None:
    cache = Path(constants.HF_HUB_CACHE).absolute()
    free = shutil.disk_usage(next(each for each in (cache, *cache.parents) if each.exists())).free
    if needed > free:
        raise CheckpointError(
            f"{name} needs {needed:,} bytes in {cache}, which has {free:,} free; free space, or set HF_HOME to a "
            f"folder on a larger disk",
            code="hub.space",
        )


def _require_hash(snapshot: Path, file: str, digest: str | None, progress: Callable[[str], None]) -> None:
    """Raise CheckpointError unless a file has its SHA-256, which is measured once until it changes."""
    if digest is None:
        return
    known = HashCache.of(snapshot)
    measured = known.get(file)
    if measured is None:
        progress(f"comparing {file} with its SHA-256")
        measured = known.measure(file)
        known.save()
    if measured != digest:
        raise CheckpointError(
            f"{snapshot / file} has the SHA-256 {measured}, but {digest} is listed; remove "
            f"{(snapshot / file).resolve()} and run again",
            code="hub.content",
        )


@contextmanager
def explained(name: HubName) -> Iterator[None]:
    """Raise what the library raises as a CheckpointError of one sentence.

    Its errors are OSErrors and ValueErrors, those of hf_xet RuntimeErrors, those of its HTTP client `_HTTPError`s.
    """
    try:
        yield
    except LdmError:
        raise
    except (OSError, ValueError, RuntimeError, _HTTPError) as error:
        raise explanation(name, error, constants) from error
