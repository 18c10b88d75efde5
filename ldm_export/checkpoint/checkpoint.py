"""An opened checkpoint, whatever its layout: all but the values of its weights, which are loaded part by part."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ldm_export.checkpoint.clip_vocabulary import ClipVocabulary
from ldm_export.checkpoint.defaults import OwnDefaults, default_steps, read_defaults
from ldm_export.checkpoint.hub.names import cached_name
from ldm_export.checkpoint.json_files import MAX_CONFIG_BYTES, MAX_JSON_BYTES, read_object, refused
from ldm_export.checkpoint.pickles import PICKLES
from ldm_export.checkpoint.stored import Tensors, listed
from ldm_export.checkpoint.streaming import stream
from ldm_export.checkpoint.tensors import read_tensors, require_finite
from ldm_export.checkpoint.tokenizer import MAX_FILES as MAX_TOKENIZER_FILES
from ldm_export.configs.inert import short
from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families.family import Configs, Family
from ldm_export.families.spec import ComponentSpec
from ldm_runtime.errors import refused_as
from ldm_runtime.files.atomic import scratch_folder
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package.manifest import Defaults, ImageSpec
from ldm_runtime.package.open import Package
from ldm_runtime.package.values import CONTROL, check_relative_path
from ldm_runtime.sampling.schedule import Schedule
from ldm_runtime.sampling.solvers import Sampler

TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
# Beginnings of documents' names, in lower case; the most that is passed on.
DOCUMENTS = ("readme", "license", "licence", "notice", "copying", "recipe.toml", "prompts.txt")
MAX_DOCUMENTS, MAX_DOCUMENT_BYTES = 64, 2**22
MAX_FILES = 4096  # in a folder


@dataclass(frozen=True)
class PackageDefaults:
    """The name, image size and defaults of `run` of a package whose recipe leaves them to the checkpoint."""

    name: str
    image: ImageSpec
    run: Defaults


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: everything but the weights' values, which `load` reads."""

    path: Path  # the folder, or the one file that it is
    folder: ModelFolder  # reads its files, and knows whether one has changed since
    family: Family
    configs: Configs
    schedule: Schedule
    sampler: Sampler  # the solver that scheduler_config.json names, with its options
    scheduler_config: dict[str, Any]  # scheduler_config.json as it stands
    tokenizers: Mapping[str, Path | ClipVocabulary]  # folder in the pipeline -> where it is, or what it would hold
    documents: tuple[Path, ...]  # README, licences, training recipe, prompts: passed on with the model
    dropped: tuple[str, ...]  # components of the pipeline that this project does not use, such as a safety checker
    notes: tuple[str, ...]  # what else the reader should know about it: sentences
    tensors: dict[str, Tensors]  # part -> parameter name -> where it lies
    defaults: PackageDefaults
    package: Package | None  # that it is, if it is one
    layout: str  # what kind of checkpoint it is, for people
    replaced: Mapping[str, ModelFolder] = field(default_factory=dict)  # part that is from elsewhere -> its folder

    @property
    def specs(self) -> dict[str, ComponentSpec]:
        """Return the inputs and outputs of the graphs cut from this checkpoint, by component."""
        return self.family.specs(self.configs)

    @property
    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each file of a package, by its manifest; other checkpoints have none."""
        return {} if self.package is None else {name: each.sha256 for name, each in self.package.manifest.files.items()}

    @property
    def weight_files(self) -> dict[str, tuple[Path, ...]]:
        """Return the files that hold each part's weights."""
        return {
            part: tuple(sorted({stored.file for stored in tensors.values()})) for part, tensors in self.tensors.items()
        }

    @contextmanager
    def tokenizer_folder(self, name: str) -> Iterator[Path]:
        """Give a tokenizer's folder, for as long as it is read."""
        tokenizer = self.tokenizers[name]
        if isinstance(tokenizer, Path):
            yield tokenizer
            return
        with scratch_folder(Path(tempfile.gettempdir())) as folder:
            tokenizer.write(folder)
            yield folder

    def folder_of(self, part: str) -> ModelFolder:
        """Return the folder that a part's weights are read from."""
        return self.replaced.get(part, self.folder)

    def _where(self, part: str) -> Path:
        if part not in self.replaced:
            return self.path
        files = self.weight_files[part]
        return files[0] if len(files) == 1 else self.replaced[part].path

    def require_unchanged(self) -> None:
        """Raise CheckpointError or PackageError if a file is not the one that was opened."""
        for folder in (self.folder, *self.replaced.values()):
            folder.require_unchanged()

    def parameter_count(self, part: str) -> int:
        """Return the number of weights of a part, such as "unet"."""
        return sum(stored.count for stored in self.tensors[part].values())

    @refused()
    def load(self, part: str, dtype: torch.dtype | None = torch.float32) -> nn.Module:
        """Return the model of a part with its weights as `dtype` (None: as stored), in eval mode.

        Weights that need no conversion are not copied: their memory is the file's until it is written to.

        Raises:
            CheckpointError: keys missing, unexpected or of another shape than the config says, all listed.
            CheckpointError, PackageError: a file is not the one that was opened.
        """
        module = self.empty(part)
        require_total(module, self.tensors[part], f"the weights of {part} in {self._where(part)}")
        self.require_unchanged()  # before places in the files are believed
        module.load_state_dict(read_tensors(self.tensors[part], dtype), strict=True, assign=True)
        self.require_unchanged()
        return module.eval()

    @refused()
    def stream(self, part: str) -> nn.Module:
        """Return the model of a part in float32 that reads its weights as it runs, a block at a time.

        Raises what `load` does.
        """
        module = self.empty(part)
        require_total(module, self.tensors[part], f"the weights of {part} in {self._where(part)}")
        self.require_unchanged()  # before places in the files are believed
        return stream(module, self.tensors[part])

    def check(self) -> None:
        """Raise what `load` of each part would raise, from the headers alone."""
        for part, tensors in self.tensors.items():
            require_total(self.empty(part), tensors, f"the weights of {part} in {self._where(part)}")

    @refused()
    def require_finite(self) -> None:
        """Raise CheckpointError, naming the tensor, if a weight is NaN, infinite or too large for float32."""
        for part, tensors in self.tensors.items():
            require_finite(tensors, part)

    def require_hashes(self) -> None:
        """Hash all files of a package now. Raises PackageError unless they are what was opened and its hashes say."""
        if self.package is not None:
            self.package.require_hashes()

    def empty(self, part: str) -> nn.Module:
        """Return the model of a part without memory for its weights."""
        with torch.device("meta"):
            return self.family.parts[part].make(self.configs[part])


def assemble(
    folder: ModelFolder,
    family: Family,
    configs: Configs,
    sampling: tuple[Schedule, Sampler],
    scheduler_config: dict[str, Any],
    dropped: tuple[str, ...],
    tensors: dict[str, Tensors],
    documents: list[str],
    package: Package | None = None,
    defaults: PackageDefaults | None = None,
    notes: tuple[str, ...] = (),
    zero_negative: bool = False,
    layout: str = "diffusers",
    path: Path | None = None,
    tokenizers: Mapping[str, ClipVocabulary] | None = None,
) -> Checkpoint:
    """Make a Checkpoint of what was read, and check what is passed on with it: tokenizers and documents.

    path, tokenizers: where they are not the folder and its own.
    """
    for name in family.tokenizers if tokenizers is None else ():
        tokenizer = folder.path / name
        if not any(os.path.lexists(tokenizer / file) for file in TOKENIZER_FILES):
            raise CheckpointError(f"{tokenizer} has no tokenizer; expected {' or '.join(TOKENIZER_FILES)}")
        _require_passable(folder, tokenizer_files(folder, name), MAX_JSON_BYTES)
    if len(documents) > MAX_DOCUMENTS:
        raise CheckpointError(
            f"{folder.path} has {len(documents)} documents such as {documents[0]}; expected at most {MAX_DOCUMENTS}"
        )
    _require_passable(folder, documents, MAX_DOCUMENT_BYTES)
    return Checkpoint(
        path=folder.path if path is None else path,
        folder=folder,
        family=family,
        configs=configs,
        schedule=sampling[0],
        sampler=sampling[1],
        scheduler_config=scheduler_config,
        tokenizers={name: folder.path / name for name in family.tokenizers} if tokenizers is None else tokenizers,
        documents=tuple(folder.path / name for name in documents),
        dropped=dropped,
        notes=notes,
        tensors=tensors,
        defaults=defaults_of(folder, path, family, configs, sampling[1], zero_negative)
        if defaults is None
        else defaults,
        package=package,
        layout=layout,
    )


def notes_on(tensors: Mapping[str, Tensors]) -> tuple[str, ...]:
    """Return a sentence about the pickles among the files of a checkpoint, if there are any."""
    files = {stored.file for part in tensors.values() for stored in part.values()}
    pickles = sorted(str(file) for file in files if file.suffix in PICKLES)
    if not pickles:
        return ()
    what, where = ("a pickle, which is", "it") if len(pickles) == 1 else ("pickles, which are", "them")
    return (f"{', '.join(pickles)}: {what} read as tensors alone; no code in {where} runs",)


def unused_notes(
    root: Path, ignored: Mapping[Path, tuple[str, ...]], left_out: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Say what of a checkpoint is not used: keys `ignored` of config files in `root`, tensors `left_out` of parts."""
    keys = [
        f"{file.relative_to(root)} has {', '.join(map(short, keys))}, which diffusers ignores too"
        for file, keys in ignored.items()
        if keys
    ]
    tensors = [
        f"{listed(f'tensors of {part} are not of its model', map(short, names))}diffusers leaves them out too"
        for part, names in left_out.items()
        if names
    ]
    return (*keys, *tensors)


def folder_name(path: Path) -> str:
    """Return the name of a file without its ending, of a repository of the hub (OWNER/NAME), or of a folder.

    It has no control and hidden characters, and is all UTF-8.
    """
    cached = cached_name(path)
    name = path.stem if path.is_file() else path.resolve().name if cached is None else cached[0]
    return CONTROL.sub("", name) or "model"


def source_name(path: Path) -> str:
    """Return the name of a folder or file, of one in the hub's cache the repository and commit: OWNER/NAME@COMMIT."""
    cached = cached_name(path)
    return folder_name(path) if cached is None else CONTROL.sub("", "@".join(cached))


def defaults_of(
    folder: ModelFolder,
    file: Path | None,
    family: Family,
    configs: Configs,
    sampler: Sampler,
    zero_negative: bool,
) -> PackageDefaults:
    """Return the checkpoint's own defaults, which a `file` does not have, or else those of its scheduler."""
    own = read_defaults(folder) if file is None else None
    if own is None:
        steps = default_steps(sampler, family.reads_guidance(configs), family.guidance_of(configs))
        own = OwnDefaults(folder_name(file or folder.path), sampler.canonical, *steps)
    return PackageDefaults(
        name=own.name,
        image=ImageSpec(*family.native_size(configs)),
        run=Defaults(own.sampler, own.steps, own.guidance, zero_negative),
    )


def tokenizer_files(folder: ModelFolder, tokenizer: str) -> list[str]:
    """Return the names of a tokenizer's files, relative to the checkpoint's folder."""
    return [f"{tokenizer}/{name}" for name in folder.names(tokenizer, most=MAX_TOKENIZER_FILES)]


def read_configs(
    root: ModelFolder, family: Family, folders: Mapping[str, str]
) -> tuple[Configs, dict[Path, tuple[str, ...]]]:
    """Read the configs of all parts, each from its folder; also list the keys of each file that its class ignores.

    Raises ConfigError unless the configs are supported and belong together.
    """
    files = {part: root.path / folder / "config.json" for part, folder in folders.items()}
    read = {
        name: family.parts[name].as_run(read_object(file, folder=root, limit=MAX_CONFIG_BYTES))
        for name, file in files.items()
    }
    configs = {name: family.parts[name].read_config(read[name], str(file)) for name, file in files.items()}
    try:
        family.check(configs)
    except ConfigError as error:
        raise ConfigError(f"{root.path}: {error}") from None
    return configs, {file: type(configs[name]).unknown(read[name]) for name, file in files.items()}


def _require_passable(folder: ModelFolder, names: list[str], limit: int) -> None:
    """Raise CheckpointError unless these files can become files of a package."""
    for name in names:
        size = folder.size(name)
        if size > limit:
            raise CheckpointError(
                f"{folder.path / name} has {size} bytes; expected at most {limit}: take it out of the folder"
            )
        with refused_as(CheckpointError, "rename that file, or take it out of the folder"):
            check_relative_path(name, str(folder.path))


def require_total(module: nn.Module, tensors: Tensors, what: str) -> None:
    """Raise CheckpointError, which lists all that differ, unless tensors are the parameters in name and shape."""
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    wrong = [
        f"{name} is {list(tensors[name].shape)}, expected {list(wanted[name])}"
        for name in sorted(wanted.keys() & tensors.keys())
        if tensors[name].shape != wanted[name]
    ]
    found = (
        listed("missing", sorted(wanted.keys() - tensors.keys()))
        + listed("unexpected", sorted(tensors.keys() - wanted.keys()))
        + listed("of another shape", wrong)
    )
    if found:
        raise CheckpointError(f"{what} do not fit its config: {found}check that they belong together")
