"""Checkpoints and parts that are named by the hub, fetched into its cache: all is checked before weights are.

The hub's own answers are believed as far as `huggingface_hub` believes them; what a repository holds is not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ldm_export.checkpoint.folder import read_outline
from ldm_export.checkpoint.hub import choice
from ldm_export.checkpoint.hub.listing import Listing
from ldm_export.checkpoint.hub.names import HubName, is_hub_name, parse_hub_name
from ldm_export.checkpoint.json_files import checkpoint_folder, refused
from ldm_export.checkpoint.other_files import refuse_prediction
from ldm_export.errors import CheckpointError
from ldm_export.process.isolate import run_isolated
from ldm_runtime.checks import first_line

if TYPE_CHECKING:
    from types import ModuleType

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Prepared:
    """A repository that was listed, and what of it is needed; all but the weights is in the cache."""

    name: HubName
    listing: Listing
    needed: choice.Needed


def fetched(
    source: Path | str,
    parts: Mapping[str, Path | str],
    variant: str | None,
    say: Say,
    *,
    is_file: bool = False,
) -> tuple[Path, dict[str, Path]]:
    """Return the paths of a source and of parts: of those that are names of the hub, in its cache.

    is_file: options are given that only a single file takes, so that a pipeline is refused.
    All small files are fetched first, and what they show to be unsupported is refused before any weights are fetched.
    Raises CheckpointError and ConfigError.
    """
    given: dict[str | None, Path | str] = {None: source}  # and each part
    given.update(parts)
    names = {part: parse_hub_name(text) for part, text in given.items() if is_hub_name(text)}
    if is_file and None in names and names[None].file is None:
        refuse_prediction(names[None])
    prepared = {part: _prepare(name, part, variant, say) for part, name in names.items()}
    found = {part: Path(path) for part, path in given.items()}
    for part, each in prepared.items():
        files = (*each.needed.small, *each.needed.weights)
        found[part] = _download(each.name, each.listing, files, say) / each.needed.place
    return found[None], {part: path for part, path in found.items() if part is not None}


def _prepare(name: HubName, part: str | None, variant: str | None, say: Say) -> _Prepared:
    if name.file is not None and part is None and variant is not None:
        raise CheckpointError(f"{name} is a file, which has no variant {variant!r}; leave it out")
    listing: Listing = run_isolated(_client(name).list_repository, name).value
    try:
        return _Prepared(name, listing, _choose(name, part, variant, listing, say))
    except CheckpointError as error:
        if not listing.offline:
            raise
        raise CheckpointError(
            f"{error} (HF_HUB_OFFLINE is set, so this is what the cache has; unset it to fetch the rest)",
            code="hub.offline",
        ) from error


def _choose(name: HubName, part: str | None, variant: str | None, listing: Listing, say: Say) -> choice.Needed:
    if name.file is not None:
        return choice.one_file(name, listing)
    if part is not None:
        return choice.of_part(name, listing, part, variant)
    needed = choice.of_pipeline(name, listing)
    stems = _stems(_download(name, listing, needed.small, say))
    return needed._replace(weights=choice.weights_of_pipeline(name, listing, stems, variant))


def _download(name: HubName, listing: Listing, files: tuple[str, ...], say: Say) -> Path:
    """Fetch files into the cache and return the snapshot that they are in."""
    client = _client(name)
    chosen = {file: (listing.sizes[file], listing.hashes.get(file)) for file in files}
    snapshot: Path = run_isolated(client.download, client.Wanted(name, listing.commit, chosen), progress=say).value
    return snapshot


@refused()
def _stems(snapshot: Path) -> dict[str, str]:
    """Check the pipeline in a folder without weights; return how the files of weights of each part begin."""
    family = read_outline(checkpoint_folder(snapshot)).family
    return {name: part.stem for name, part in family.parts.items()}


def _client(name: HubName) -> "ModuleType":
    """Import what calls huggingface_hub. Raises CheckpointError if that is not installed, or refuses its settings."""
    try:
        from ldm_export.checkpoint.hub import client
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise CheckpointError(
            f"{name} is a name of the hub, which needs huggingface_hub; install it with: pip install 'ldm-export[hub]'",
            code="hub.library",
        ) from None
    except ValueError as error:  # it reads its settings when it is imported
        raise CheckpointError(
            f"huggingface_hub does not take a setting ({first_line(error)}), so {name} cannot be fetched; correct or "
            f"unset the environment's variable that has it (their names begin with HF_)",
            code="hub.setting",
        ) from error
    return client
