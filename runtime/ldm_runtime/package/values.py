"""Checks of single values of a manifest: names, paths, digests, bounds. Each raises FormatError."""

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

from ldm_runtime.checks import shown, shown_integer
from ldm_runtime.errors import UNPRINTABLE, FormatError

if TYPE_CHECKING:
    from ldm_runtime.package.manifest import Manifest

CONTROL = re.compile(f"[\t\n]|{UNPRINTABLE.pattern}")  # what no name has: control and hidden characters
MAX_AXIS = 2**20
MAX_PIXELS = 2**26  # one image; 8192 x 8192
MAX_SIDE = 2**16  # of an image that is read: what decoders need for each row counts too
MAX_BYTES = 2**50  # of a file or of memory
MAX_AMOUNT = 10**12  # of an error that was measured
_MAX_NAME = 1024


def check_name(name: str, where: str) -> None:
    """Raise FormatError unless `name` can be a package's: not empty, and safe to print and to write."""
    if not name:
        fail(where, "should not be empty", "manifest.name")
    if len(name) > _MAX_NAME or CONTROL.search(name) is not None:
        fail(
            where,
            f"is {shown(name)}, expected 1 to {_MAX_NAME} characters and no control characters or hidden ones",
            "manifest.name",
        )


def check_label(name: str, where: str, code: str) -> None:
    """Raise FormatError unless `name` is one of an artefact or a variant, which may be a folder's."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name) is None:
        fail(where, f"is {shown(name)}; expected up to 200 letters, digits and . _ -", code)


def check_short_name(name: str, example: str, where: str, code: str) -> None:
    """Raise FormatError unless `name` is one such as formats have."""
    if re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name) is None:
        fail(where, f"is {shown(name)}; expected a short name such as {shown(example)}", code)


def check_short_names(names: Sequence[str], example: str, where: str, code: str) -> None:
    """Raise FormatError unless all are such names, each once."""
    for name in names:
        check_short_name(name, example, where, code)
    twice = [name for name, other in itertools.pairwise(sorted(names)) if name == other]
    if twice:
        fail(where, f"has {shown(twice[0])} twice; expected each once", code)


def is_engine_name(name: str) -> bool:
    """Return whether `name` has the form of an engine's, with its provider behind a colon if it has one."""
    return re.fullmatch(r"[a-z][a-z0-9_]{0,31}(:[a-z][a-z0-9_]{0,31})?", name) is not None


def check_relative_path(path: str, where: str) -> None:
    """Raise FormatError unless `path` is a plain relative posix path, inside the package on any OS."""
    if not path or len(path) > 1024:
        fail(where, f"has a path of {len(path)} characters; expected 1 to 1024", "manifest.path")
    if any(character in '\\:*?"<>|' for character in path) or CONTROL.search(path):
        fail(where, f"has the path {shown(path)} with a character that no package path may have", "manifest.path")
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.endswith((" ", ".")) or len(part) > 255 for part in parts):
        fail(
            where,
            f"has the path {shown(path)}, which leaves the package or is not a plain relative path",
            "manifest.path",
        )


def check_digest(text: str, where: str) -> None:
    if re.fullmatch("[0-9a-f]{64}", text) is None:
        fail(where, "should be 64 hexadecimal digits in lower case", "manifest.digest")


def check_listed(path: str, manifest: "Manifest", where: str) -> None:
    if path not in manifest.files:
        fail(where, f"names the file {shown(path)}, which files does not list", "manifest.file")


def check_same_names(got: Iterable[str], expected: Iterable[str], where: str) -> None:
    if set(got) != set(expected):
        found = ", ".join(sorted(got)) or "nothing"
        fail(where, f"has {found}; expected exactly {', '.join(sorted(set(expected)))}", "manifest.role")


def check_between(value: int, low: int, high: int, where: str) -> None:
    if not low <= value <= high:
        fail(where, f"is {shown_integer(value)}; expected {low} to {high}", "manifest.range")


def check_amount(value: float, where: str) -> None:
    """Check a figure of a measurement: what is computed with it stays finite."""
    check_span(value, 0, MAX_AMOUNT, where)


def check_span(value: float, low: int, high: int, where: str) -> None:
    if not low <= value <= high:
        fail(where, f"is {value}; expected {low} to {high}", "manifest.range")


def fail(where: str, what: str, code: str) -> NoReturn:
    raise FormatError(where, what, code)
