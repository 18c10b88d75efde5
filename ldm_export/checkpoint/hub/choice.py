"""Which files of a repository are needed: small ones, and exactly one set of weights for each part.

What is chosen is what opening the folder would read (`weight_files`): safetensors before pickles, a variant where a
part has one. Weights of other frameworks, graphs, safety checkers and images are never chosen.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from ldm_export.checkpoint import defaults, tokenizer
from ldm_export.checkpoint.checkpoint import DOCUMENTS, MAX_DOCUMENT_BYTES, MAX_DOCUMENTS
from ldm_export.checkpoint.hub.listing import Listing
from ldm_export.checkpoint.hub.names import FILE_ENDINGS, HubName
from ldm_export.checkpoint.json_files import MAX_JSON_BYTES
from ldm_export.checkpoint.replaced import CONFIG
from ldm_export.checkpoint.stored import listed
from ldm_export.checkpoint.weight_files import candidates
from ldm_export.errors import CheckpointError
from ldm_export.families import FAMILIES
from ldm_runtime.checks import shown

INDEX = "model_index.json"
_TOKENIZERS = (
    tokenizer.TOKENIZER,
    tokenizer.VOCABULARY,
    tokenizer.MERGES,
    tokenizer.CONFIG,
    tokenizer.SPECIAL,
    tokenizer.ADDED,
)
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")


class Needed(NamedTuple):
    """What of a repository is fetched. place: the file or folder in its snapshot that is then opened."""

    place: str
    small: tuple[str, ...]
    weights: tuple[str, ...]


def one_file(name: HubName, listing: Listing) -> Needed:
    """Choose the file that was named."""
    assert name.file is not None
    if name.file not in listing.sizes:
        raise CheckpointError(f"{name} is not in its repository{_files(name, listing)}", code="hub.not-found")
    return Needed(name.file, (), (name.file,))


def of_pipeline(name: HubName, listing: Listing) -> Needed:
    """Choose the small files of a diffusers pipeline, whatever its family; its `weights` come later."""
    if INDEX not in listing.sizes:
        what = f" but, with its {CONFIG}, maybe a part (--vae, --unet)" if CONFIG in listing.sizes else ""
        raise CheckpointError(
            f"{name} has no {INDEX}, so it is no diffusers pipeline{what}{_files(name, listing)}", code="hub.files"
        )
    documents = [
        file
        for file, size in listing.sizes.items()
        if "/" not in file and file.lower().startswith(DOCUMENTS) and (size or 0) <= MAX_DOCUMENT_BYTES
    ]
    wanted = {INDEX, defaults.FILE, *sorted(documents)[:MAX_DOCUMENTS], "scheduler/scheduler_config.json"}
    for family in FAMILIES.values():
        wanted |= {f"{part}/{CONFIG}" for part in family.parts}
        wanted |= {f"{folder}/{file}" for folder in family.tokenizers for file in _TOKENIZERS}
    return Needed(".", _small(name, listing, wanted), ())


def of_part(name: HubName, listing: Listing, part: str, variant: str | None) -> Needed:
    """Choose one part: of a repository that is one, or of a pipeline's."""
    stem = next((family.parts[part].stem for family in FAMILIES.values() if part in family.parts), part)
    for folder in (".", part):
        chosen = _weights(listing.sizes, folder, stem, variant)
        config = CONFIG if folder == "." else f"{folder}/{CONFIG}"
        if config in listing.sizes and chosen is not None:
            return Needed(folder, _small(name, listing, {config}), chosen[0])
    raise CheckpointError(
        f"{name} has no {part}: neither {CONFIG} and weights, nor {part}/{CONFIG} and weights{_files(name, listing)}",
        code="hub.files",
    )


def weights_of_pipeline(
    name: HubName, listing: Listing, stems: Mapping[str, str], variant: str | None
) -> tuple[str, ...]:
    """Choose one set of weights for each part, whose files begin with a stem."""
    found = {part: _weights(listing.sizes, part, stem, variant) for part, stem in stems.items()}
    for part, chosen in found.items():
        if chosen is None:
            inside = [file for file in listing.sizes if file.startswith(f"{part}/")]
            others = f"it has {listed('files there', inside)}" if inside else ""
            raise CheckpointError(
                f"{name} has no weights of {part} with a name of diffusers' ({part}/{stems[part]}.safetensors); "
                f"{others}choose a variant (--variant), another revision or another repository",
                code="hub.files",
            )
    if variant is not None and not any(is_variant for _, is_variant in filter(None, found.values())):
        raise CheckpointError(
            f"{name} has no weights of the variant {shown(variant)}, in none of {', '.join(stems)}; leave the variant "
            f"out, or name one that it has",
            code="hub.files",
        )
    return tuple(file for files, _ in filter(None, found.values()) for file in files)


def _small(name: HubName, listing: Listing, wanted: Iterable[str]) -> tuple[str, ...]:
    """Return those of the wanted files that are there."""
    found = tuple(sorted(file for file in wanted if file in listing.sizes))
    for file in found:
        size = listing.sizes[file] or 0
        if size > MAX_JSON_BYTES:
            raise CheckpointError(
                f"{name} lists {file} with {size} bytes; expected at most {MAX_JSON_BYTES}: it is not such a file",
                code="hub.listing",
            )
    return found


def _weights(
    names: Collection[str], folder: str, stem: str, variant: str | None
) -> tuple[tuple[str, ...], bool] | None:
    """Return one set of weights in a folder, and whether it is the variant's; None if none is complete."""
    start = "" if folder == "." else f"{folder}/"
    for single, index, ending, is_variant in candidates(stem, variant):
        if start + single in names:
            return (start + single,), is_variant
        if start + index in names:
            middle = re.escape(f".{variant}") if is_variant else ""
            base = re.escape(start + index.partition(ending)[0])
            shard = re.compile(rf"{base}(?:{middle}{_SHARD.pattern}|{_SHARD.pattern}{middle}){re.escape(ending)}")
            shards = sorted(name for name in names if shard.fullmatch(name))
            totals = {int(_SHARD.findall(name)[-1][1]) for name in shards}
            return ((start + index, *shards), is_variant) if totals == {len(shards)} else None
    return None


def _files(name: HubName, listing: Listing) -> str:
    """Say which files of weights a repository has, safetensors or else pickles, and how one of them is named."""
    for ending in FILE_ENDINGS:
        found = sorted(file for file in listing.sizes if file.endswith(ending))
        if found:
            what, one = (f"{ending} file", "it") if len(found) == 1 else (f"{ending} files", "one")
            return f"; it has {listed(what, found)}to take {one}, write {name.with_file(found[0])}"
    return "; it has no file of weights: choose another repository"
