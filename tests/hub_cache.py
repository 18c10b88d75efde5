"""A model's folder as `huggingface_hub` keeps it in its cache: every file a link into `blobs`."""

import hashlib
import os
import shutil
from pathlib import Path

REVISION = "0123456789abcdef0123456789abcdef01234567"


def make(source: Path, cache: Path) -> Path:
    """Put the files of `source` into a cache and return the snapshot; blobs have SHA-256, Git's SHA-1 or an etag."""
    repository = cache / "models--someone--something"
    snapshot = repository / "snapshots" / REVISION
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    for file in sorted(source.rglob("*")):
        if file.is_file():
            blob = repository / "blobs" / blob_name(file)
            shutil.copyfile(file, blob)
            link = snapshot / file.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def blob_name(file: Path) -> str:
    content = file.read_bytes()
    if file.suffix == ".safetensors":
        return hashlib.sha256(content).hexdigest()
    if file.suffix == ".json":
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return f"etag-{hashlib.md5(content).hexdigest()}-1"  # as mirrors that are no Git host answer


def blobs(snapshot: Path) -> Path:
    return snapshot.parent.parent / "blobs"
