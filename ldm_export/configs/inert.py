"""Keys of a config that its class does not take.

diffusers and transformers ignore them, so they change no image: what a trainer added, options of other versions. Two
kinds are refused all the same, for they may have been meant: a key that looks like a known one mistyped, and any key of
a file that a newer library wrote than the tests run.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ldm_export.errors import ConfigError
from ldm_runtime.checks import shown

# Where a file says what wrote it -> the newest version whose options are all known here.
CHECKED = {"_diffusers_version": ("diffusers", (0, 39)), "transformers_version": ("transformers", (4, 57))}
ALIKE = 0.8  # difflib's ratio: of a key of five characters one may be wrong
MAX_KEYS = 64  # that a class does not take


def require_inert(data: Mapping[str, Any], unknown: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise ConfigError for the first key of `unknown` that may have been meant; `known` are the class's own."""
    keys = list(unknown)
    if len(keys) > MAX_KEYS:
        raise ConfigError(f"{where} has {len(keys)} unknown options; expected {MAX_KEYS} at most")
    newer = _newer_library(data)
    for key in keys:
        has = f"{where} has the unknown option {short(key)} = {shown(data[key])}"
        alike = difflib.get_close_matches(short(key).lower(), sorted(known), n=1, cutoff=ALIKE)
        if alike:
            raise ConfigError(f"{has}, which looks like {alike[0]}: correct its name, or take it out")
        if newer is not None:
            raise ConfigError(f"{has}, and was written by {newer} and before: take the option out if it has no effect")


def short(key: str) -> str:
    """Return a key for a message, cut where it is long."""
    return key if len(key) <= 60 else key[:57] + "..."


def read_version(version: object) -> tuple[int, int] | None:
    """Return the first two numbers of a version such as "0.8.1" or "0.6.0.dev0"; None for what is no version."""
    numbers = re.match(r"v?(\d{1,9})(?:\.(\d{1,9}))?(?![\d!])", version) if isinstance(version, str) else None
    return None if numbers is None else (int(numbers[1]), int(numbers[2] or 0))


def _newer_library(data: Mapping[str, Any]) -> str | None:
    """Return "diffusers 0.41.0; known are the options of 0.39" where the file is newer than what is known."""
    for note, (library, checked) in CHECKED.items():
        version = read_version(data.get(note))
        if version is not None and version > checked:
            return f"{library} {data[note]}; known are the options of {checked[0]}.{checked[1]}"
    return None
