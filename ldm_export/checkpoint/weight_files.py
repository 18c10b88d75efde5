"""Which files of a part's folder hold its weights, by name: diffusers' and transformers' layouts.

`{stem}[.variant].safetensors`, or the same in shards with an index (huggingface_hub's `weight_map`); else the pickles
of older libraries, `.bin`. As in diffusers each part has the variant if there are files of it, else its plain files.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ldm_export.checkpoint.json_files import checkpoint_folder, read_object
from ldm_export.checkpoint.pickles import MAX_TENSORS, PICKLES, list_pickle
from ldm_export.checkpoint.stored import StoredTensor, listed
from ldm_export.errors import CheckpointError
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package import safetensors

# Other stems of the files of a part: transformers' pickles, which conversions have kept for safetensors too.
_OTHER_STEMS = {"model": ("pytorch_model",)}
# The name of a file of a variant: `model.fp16.safetensors`, or a shard of one.
_VARIANT = re.compile(r"(?:model|pytorch_model|diffusion_pytorch_model)\.(\w+)(?:-\d+-of-\d+)?\.(?:safetensors|bin)")


def weights_of(root: ModelFolder, part: str, stem: str, variant: str | None) -> tuple[list[StoredTensor], bool]:
    """Return what the files of a part hold, and whether they are those of the variant.

    Raises CheckpointError: no weights, another variant only, LFS stubs, truncated or malformed files, shards that do
    not hold what the index says, links to elsewhere, pickles that hold more than tensors.
    """
    folder = root.path / part
    for single, index, ending, is_variant in candidates(stem, variant):
        if os.path.lexists(folder / single):
            return stored_in(root, folder / single), is_variant
        if os.path.lexists(folder / index):
            return _sharded(root, folder / index, ending), is_variant
    raise CheckpointError(_why_no_weights(folder, folder / f"{stem}.safetensors"))


def candidates(stem: str, variant: str | None) -> Iterator[tuple[str, str, str, bool]]:
    """Yield (file, index of its shards, ending, whether it is the variant's); the first that is there is read."""
    for wanted in dict.fromkeys((variant, None)):
        middle = "" if wanted is None else f".{wanted}"
        for ending in (".safetensors", ".bin"):
            for each in (stem, *_OTHER_STEMS.get(stem, ())):
                yield f"{each}{middle}{ending}", f"{each}{ending}.index{middle}.json", ending, wanted is not None


def named_file(path: Path) -> tuple[ModelFolder, Path]:
    """Return a file that the user named, and its folder: where it is a link, those that it leads to.

    In a hub's cache the name is that of the link, not of the content, and stays.
    """
    real, folder = path.resolve(), checkpoint_folder(path.parent)
    if path.is_symlink() and real.parent != folder.path.resolve() and real.suffix == path.suffix:
        return checkpoint_folder(real.parent), real
    return folder, path


def stored_in(root: ModelFolder, file: Path) -> list[StoredTensor]:
    """Return the tensors of one file, safetensors or a pickle."""
    return read_weights(root, file)[0]


def read_weights(root: ModelFolder, file: Path) -> tuple[list[StoredTensor], Mapping[str, str]]:
    """Return the tensors and the metadata of one file, safetensors or a pickle, which has none."""
    place = root.file(file.relative_to(root.path).as_posix())
    if file.suffix in PICKLES:
        return [
            StoredTensor(file, place, each.name, each.dtype, each.shape, each.offset, each.transpose)
            for each in list_pickle(place, str(file))
        ], {}
    header = safetensors.read_header(place)
    if len(header.tensors) > MAX_TENSORS:
        raise CheckpointError(f"{file} holds {len(header.tensors)} tensors; expected at most {MAX_TENSORS}")
    return [
        StoredTensor(file, place, name, info.dtype, info.shape, info.offset) for name, info in header.tensors.items()
    ], header.metadata


def _sharded(root: ModelFolder, index: Path, ending: str) -> list[StoredTensor]:
    """Return the tensors of all shards, which must be exactly those of the index."""
    shards = read_object(index, folder=root).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise CheckpointError(f"{index} has no weight_map from tensor names to files; fetch the file again")
    for name in sorted(set(shards.values())):
        if Path(name).name != name or not name.endswith(ending) or not name.isprintable():
            raise CheckpointError(f"{index} names the shard {name!r}; expected a {ending} file beside it")
    stored = [tensor for name in sorted(set(shards.values())) for tensor in stored_in(root, index.parent / name)]
    found = {(tensor.name, tensor.file.name) for tensor in stored}
    if found != set(shards.items()):
        lost, extra = set(shards.items()) - found, found - set(shards.items())
        raise CheckpointError(
            f"the shards of {index} do not hold what it says: "
            f"{listed('missing', [f'{key} in {file}' for key, file in sorted(lost)])}"
            f"{listed('not in the index', [f'{key} in {file}' for key, file in sorted(extra)])}"
            f"fetch the folder again"
        )
    return stored


def _why_no_weights(folder: Path, expected: Path) -> str:
    """Say in one sentence what the folder has instead of `expected`."""
    if not folder.is_dir():
        return f"{folder} does not exist; expected a part's folder with {expected.name}"
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if name.endswith((".safetensors", ".bin")) or ".index" in name]
    if others:
        variants = sorted({found[1] for name in others if (found := _VARIANT.fullmatch(name)) is not None})
        add = f": add --variant {' or '.join(variants)}" if variants else ""
        return f"{folder} has no weights without a variant (expected {expected.name}); it has {', '.join(others)}{add}"
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        return f"{folder} has no weights with a name of diffusers' ({expected.name}); it has {', '.join(pickles)}"
    return f"{folder} has no weights; expected {expected.name}"
