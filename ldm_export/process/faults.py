"""Exceptions that are not this project's: one sentence for the user, and a private file with the traceback."""

import contextlib
import os
import platform
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from ldm_export.process.streams import echo
from ldm_runtime.files.hash_cache import cache_folder

EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h


def explain(error: BaseException, arguments: Sequence[str]) -> str:
    """Make the sentence; where no file can be written, the traceback follows it."""
    what = described(error).partition("\n")[0][:300]
    sentence = f"error: an unexpected fault ({what})"
    facts = [
        f"ldm-export {' '.join(map(repr, arguments))}",
        f"Python {platform.python_version()}, {platform.platform()}",
    ]
    text = "\n".join([*facts, "", *traceback.format_exception(error)])
    file = _keep(text)
    if file is None:
        return f"{sentence}; no file for its traceback can be written, so here it is:\n{text}"
    return f"{sentence}; its traceback is in {file}; please report it with that file, once you have looked through it"


def described(error: BaseException) -> str:
    """Return the kind and the text of an error, even if it fails to give its text."""
    try:
        text = str(error)
    except Exception as failure:
        text = f"its text cannot be read, {type(failure).__name__}"
    return f"{type(error).__name__}: {text}".rstrip(": ")


def _keep(text: str) -> Path | None:
    """Write a fresh file that only this user may read, in the cache folder, or else among the temporary files."""
    for find_folder in (_own_folder, tempfile.gettempdir):
        with contextlib.suppress(OSError):
            descriptor, name = tempfile.mkstemp(".txt", "ldm-export-fault-", find_folder())  # mode 0600
            with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return Path(name)
    return None


def _own_folder() -> str:
    cache = cache_folder()
    if cache is None:
        return tempfile.gettempdir()
    os.makedirs(cache / "faults", mode=0o700, exist_ok=True)
    return str(cache / "faults")


def print_traceback(error: BaseException) -> None:
    """Print the traceback on stderr, for `--debug`."""
    echo("".join(traceback.format_exception(error)).rstrip("\n"), err=True)
