"""Names of Hugging Face's hub, `hf:OWNER/NAME[@REVISION]`, and which files of a repository a pipeline needs."""

import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ldm_export.checkpoint.checkpoint import DOCUMENTS
from ldm_export.errors import CheckpointError
from ldm_export.families import FAMILIES
from ldm_runtime.checks import shown

_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?"
_NAME = re.compile(rf"hf:({_WORD}/{_WORD})(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?")


@dataclass(frozen=True)
class HubName:
    """A repository of models and its revision, a branch, tag or commit."""

    repository: str
    revision: str | None


def parse_hub_name(text: str) -> HubName:
    """Read `hf:OWNER/NAME[@REVISION]`. Raises CheckpointError."""
    found = _NAME.fullmatch(text)
    if found is None or ".." in text or "//" in text or text.endswith("/"):
        raise CheckpointError(
            f"{shown(text)} is not a name of the hub; expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION"
        )
    return HubName(found[1], found[2])


def require_plain_names(names: Iterable[str]) -> None:
    """Raise CheckpointError for a listed name that could lead out of the folder."""
    for name in names:
        parts = name.split("/")
        if not name.isprintable() or "\\" in name or ":" in name or not all(parts) or {".", ".."} & set(parts):
            raise CheckpointError(f"the repository lists a file {shown(name)}; expected names inside its folder")


def is_hub_name(source: Path | str) -> bool:
    """Return whether a source is a name of the hub rather than a path."""
    return str(source).startswith("hf:")


def fetch(text: str, variant: str | None, say: Callable[[str], None]) -> Path:
    """Download what a pipeline needs into the hub's cache and return the snapshot's folder.

    Raises CheckpointError: not a name, no such repository, no access, no connection, no pipeline, not enough disk.
    """
    name = parse_hub_name(text)
    try:
        import huggingface_hub as hub
        from huggingface_hub import constants
    except ImportError:
        raise CheckpointError(f"{text} needs huggingface_hub; run: pip install 'ldm-export[hub]'") from None
    try:
        if constants.HF_HUB_OFFLINE:
            return Path(hub.snapshot_download(name.repository, revision=name.revision, local_files_only=True))
        info = hub.HfApi(library_name="ldm-export").model_info(
            name.repository, revision=name.revision, files_metadata=True
        )
        sizes = {each.rfilename: each.size or 0 for each in info.siblings or ()}
        require_plain_names(sizes)
        files = choose(sizes, variant, text)
        total, free = sum(sizes[file] for file in files), _free(Path(constants.HF_HUB_CACHE))
        say(f"{text} at {info.sha}: {len(files)} files, {total / 1e9:.2f} GB")
        if total > free:
            raise CheckpointError(f"{text} needs {total} bytes in {constants.HF_HUB_CACHE}, which has {free} free")
        for file in files:
            say(f"fetching {file} ({sizes[file] / 1e6:.1f} MB)")
            place = Path(hub.hf_hub_download(name.repository, file, revision=info.sha))
            if place.stat().st_size != sizes[file]:
                raise CheckpointError(f"{place} has {place.stat().st_size} bytes; the hub lists {sizes[file]}")
        return place.parents[file.count("/")]
    except (OSError, ValueError) as error:  # the library's errors are of these kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"cannot fetch {text}: {type(error).__name__}: {reason}") from error


def choose(names: Iterable[str], variant: str | None, text: str) -> list[str]:
    """Return the files of a diffusers pipeline: configs, tokenizers, documents, and one set of weights per folder."""
    names = sorted(names)
    if "model_index.json" not in names:
        raise CheckpointError(f"{text} has no model_index.json; expected the repository of a diffusers pipeline")
    known = {folder for family in FAMILIES.values() for folder in (*family.folders, "scheduler")}
    chosen = [name for name in names if "/" not in name and name.lower().startswith((*DOCUMENTS, "model_index.json"))]
    for folder in sorted(known):
        inside = [name for name in names if name.rpartition("/")[0] == folder]
        chosen += [name for name in inside if name.endswith((".json", ".txt")) and ".index." not in name]
        chosen += _weights(inside, variant)
    return chosen


def _weights(names: list[str], variant: str | None) -> list[str]:
    """Return one set of weights of a folder, with its index: the variant's first, safetensors before pickles."""
    for wanted in dict.fromkeys((variant, None)):
        middle = "" if wanted is None else re.escape(f".{wanted}")
        for ending in ("safetensors", "bin"):
            stem = r".*/(diffusion_pytorch_model|model|pytorch_model)"
            single = [name for name in names if re.fullmatch(rf"{stem}{middle}\.{ending}", name)]
            if single:
                return single
            shard = rf"{stem}({middle}-\d+-of-\d+|-\d+-of-\d+{middle})?\.{ending}(\.index{middle}\.json)?"
            shards = [name for name in names if re.fullmatch(shard, name)]
            if any(".index" in name for name in shards):
                return shards
    return []


def _free(folder: Path) -> int:
    """Return the free bytes where a folder is or will be."""
    return shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
