"""SHA256SUMS: the hashes of a finished folder's files, in the form that `sha256sum --check` reads."""

from collections.abc import Iterable
from pathlib import Path

from ldm_runtime.checks import shown
from ldm_runtime.errors import FormatError
from ldm_runtime.files import strict_json
from ldm_runtime.files.hash_cache import HashCache
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package.values import check_digest, check_relative_path

HASHES_FILE = "SHA256SUMS"
MAX_BYTES = 2**26  # half a million files


def record_hashes(folder: Path) -> None:
    """Write down the hash of each file of a folder."""
    hashes = HashCache(folder, None, {})
    lines = "".join(f"{hashes.measure(name)}  {name}\n" for name in hashed_files(folder))
    (folder / HASHES_FILE).write_text(lines, encoding="utf-8", newline="\n")


def require_hashes(folder: ModelFolder, names: Iterable[str]) -> None:
    """Raise FormatError unless the record has the hash of each of these files, and no other file."""
    record = folder.path / HASHES_FILE
    named = dict.fromkeys(names, False)  # name -> whether a line has named it
    hashes = HashCache(folder.path, None, {})
    lines = strict_json.decode(folder.read(HASHES_FILE, MAX_BYTES), str(record)).removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        digest, _, name = line.partition("  ")
        check_digest(digest, f"{record}, line {number}")
        check_relative_path(name, f"{record}, line {number}")
        folder.file(name)  # is there, and no link leads elsewhere
        if named.get(name, True):
            raise FormatError(f"{record}, line {number}", f"should name another file, got {shown(name)}", "file.hash")
        if hashes.measure(name) != digest:
            raise FormatError(str(folder.path / name), f"has another SHA-256 than {HASHES_FILE} says", "file.hash")
        named[name] = True
    for name, is_named in named.items():
        if not is_named:
            raise FormatError(str(record), f"should have the hash of {name}", "file.hash")


def hashed_files(folder: Path) -> list[str]:
    """List the files of a folder whose hashes are recorded: all but the record."""
    names = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return sorted(name for name in names if name != HASHES_FILE)
