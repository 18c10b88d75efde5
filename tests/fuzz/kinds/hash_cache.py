"""The remembered hashes in the user's cache folder: whatever stands there, a sound package opens."""

import json
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

from ldm_runtime.package.open import open_package
from tests.fuzz.kind import GOLDEN, Kind
from tests.fuzz.mutate import json_input


def _prepare(folder: Path) -> tuple[Path, Path, Any]:
    """The package, the cache's file for it, and what stands there. The cache folder is the worker's own."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    package = folder / "package"
    shutil.copytree(GOLDEN / "package", package)
    open_package(package, check="cached").confirm()
    (place,) = (folder / "cache").rglob("*.json")
    return package, place, json.loads(place.read_text())


def _make(random: Random, prepared: tuple[Path, Path, Any]) -> bytes:
    """Stamps are those of a fixed time, so that an input is the same in every folder."""
    known = {name: [1, 2, 3, 4, 5, "0" * 64] for name in sorted(prepared[2])}
    return json_input(random, known)


def _read(content: bytes, prepared: tuple[Path, Path, Any]) -> None:
    package, place, _ = prepared
    os.environ["XDG_CACHE_HOME"] = str(place.parents[2])
    place.write_bytes(content)
    open_package(package, check="cached").confirm()


KINDS = [Kind("hash_cache", _prepare, _make, _read)]
