"""The kernels that TensorRT for RTX compiled for one plan on this GPU, kept in the user's cache folder.

A package is read-only and its files are hashed, so the cache is not beside the plan but in `tensorrt/<SHA-256 of the
plan>` of `hash_cache.cache_folder`. It fits one GPU, driver and version; TensorRT does not take another's.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm_runtime.errors import LdmError
from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.files.hash_cache import cache_folder

MAX_BYTES = 100_000_000  # beyond it NVIDIA finds a new cache faster than the old one

_LOG = logging.getLogger(__name__)


@dataclass
class JitCache:
    """Compiled kernels. `cache` is TensorRT's object, which has to live as long as the engine that uses it."""

    place: Path | None  # None: nothing is kept
    cache: Any
    saved: int = 0  # bytes in the file

    @classmethod
    def of(cls, digest: str, cache: Any) -> "JitCache":
        """Fill `cache` with the kernels that were kept for the plan with this SHA-256."""
        folder = cache_folder()
        kept = cls(None if folder is None else folder / "tensorrt" / digest, cache)
        if kept.place is None:
            return kept
        try:
            usable = kept.place.is_file() and kept.place.stat().st_size <= MAX_BYTES
            content = kept.place.read_bytes() if usable else b""
        except OSError as error:
            _LOG.debug("no compiled kernels in %s: %s", kept.place, error)
            content = b""
        if content and cache.deserialize(content):
            kept.saved = len(content)
        return kept

    def save(self) -> None:
        """Keep the kernels compiled since; where that is not possible the next load compiles again."""
        if self.place is None:
            return
        content = bytes(memoryview(self.cache.serialize()))
        if len(content) == self.saved:
            return
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.place) as temporary:
                temporary.write_bytes(content)
            self.saved = len(content)
        except (OSError, LdmError) as error:
            _LOG.debug("compiled kernels are not kept: %s", error)
