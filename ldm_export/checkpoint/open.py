"""A checkpoint on disk: opened light, loaded whole or not at all, saved; checked against diffusers 0.39.

Two layouts open: the folder of a diffusers `StableDiffusionPipeline`, and a package of this project.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ldm_export.checkpoint.pipeline_changes import INPAINT_CLASS, PIPELINE_CLASS, scheduler_as_run, unet_as_run
from ldm_export.checkpoint.scheduler import read_scheduler_config, write_scheduler_config
from ldm_export.checkpoint.tensors import (
    MAX_CONFIG_BYTES,
    MAX_JSON_BYTES,
    Tensors,
    checkpoint_folder,
    find_tensors,
    listed,
    package_tensors,
    read_json,
    read_tensors,
    require_finite,
    write_tensors,
)
from ldm_export.checkpoint.tokenizer import MAX_FILES as MAX_TOKENIZER_FILES
from ldm_export.configs.config import Config, TextEncoderConfig, UNetConfig, VAEConfig
from ldm_export.models import AutoencoderKL, CLIPTextModel, UNet2DConditionModel
from ldm_runtime.checks import check_path
from ldm_runtime.errors import CheckpointError, ConfigError, LdmError, PackageError
from ldm_runtime.files.atomic import atomic_folder, refuse_foreign
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package import rules as manifest_rules
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.open import Check, is_package, open_package
from ldm_runtime.sampling.schedule import NoiseSchedule, Schedule
from ldm_runtime.sampling.solvers import Sampler, read_sampler

MODELS: dict[str, Any] = {"text_encoder": CLIPTextModel, "unet": UNet2DConditionModel, "vae": AutoencoderKL}
CONFIGS: dict[str, Any] = {"text_encoder": TextEncoderConfig, "unet": UNetConfig, "vae": VAEConfig}
# The name of the weights file without its ending, and the library in model_index.json.
STEMS = {"text_encoder": "model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
LIBRARIES = {"text_encoder": "transformers", "unet": "diffusers", "vae": "diffusers"}
# The folders of a package that hold a component of the checkpoint.
PACKAGE_PARTS = {"text_encoder": ("text_encoder",), "unet": ("unet",), "vae": ("vae_encoder", "vae_decoder")}
PIPELINE_FOLDERS = (*CONFIGS, "scheduler", "tokenizer")  # that a diffusers folder is read from
TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
# All that `save_checkpoint` and the trainer write.
_SAVED = re.compile(
    r"model_index\.json|README\.md|recipe\.(toml|sha256)|scheduler/scheduler_config\.json"
    r"|text_encoder/(config\.json|model\.safetensors)|(unet|vae)/(config\.json|diffusion_pytorch_model\.safetensors)"
    r"|tokenizer/(vocab|tokenizer|tokenizer_config|special_tokens_map|added_tokens)\.json|tokenizer/merges\.txt"
)
# What the names of papers begin with, in lower case; what is passed on of them at most.
PAPERS = ("readme", "license", "licence", "notice", "copying", "recipe.toml")
MAX_PAPERS, MAX_PAPER_BYTES = 64, 2**22
MAX_FILES = 4096  # of a folder; more is not looked at


@dataclass(frozen=True)
class PipelineConfigs:
    """The configs of the three models, which must fit each other (ConfigError)."""

    text_encoder: TextEncoderConfig
    unet: UNetConfig
    vae: VAEConfig

    def __post_init__(self) -> None:
        unet, latent = self.unet, self.vae.latent_channels
        if unet.in_channels not in (latent, 2 * latent + 1) or unet.out_channels != latent:
            raise ConfigError(
                f"the UNet takes {unet.in_channels} channels and gives {unet.out_channels}, but the VAE's "
                f"latents have {latent}; expected a UNet that gives {latent} and takes {latent}, or for inpainting"
                f" {2 * latent + 1}"
            )
        if unet.cross_attention_dim != self.text_encoder.hidden_size:
            raise ConfigError(
                f"the UNet's cross_attention_dim is {unet.cross_attention_dim}, but the text encoder's "
                f"hidden_size is {self.text_encoder.hidden_size}: they do not belong together"
            )

    @property
    def inpaints(self) -> bool:
        """Whether the UNet reads a mask and the masked picture's latents beside its own."""
        return self.unet.in_channels != self.vae.latent_channels

    def of(self, component: str) -> Config:
        """The config of "text_encoder", "unet" or "vae"."""
        configs: dict[str, Config] = {"text_encoder": self.text_encoder, "unet": self.unet, "vae": self.vae}
        return configs[component]


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: everything but the weights' values, which `load` reads."""

    path: Path
    folder: ModelFolder  # reads files of `path`, and knows whether one has changed since
    configs: PipelineConfigs
    schedule: Schedule
    sampler: Sampler  # the solver that scheduler_config.json names, with its options
    scheduler_config: dict[str, Any]  # scheduler_config.json as it stands
    tokenizer: Path  # folder
    papers: tuple[Path, ...]  # README, licences, training recipe: passed on with the model
    dropped: tuple[str, ...]  # components of the pipeline that this project does not use, such as a safety checker
    tensors: dict[str, Tensors]  # component -> parameter name -> where it lies
    hashes: dict[str, str]  # SHA-256 of each file of a package, by its manifest; a diffusers folder has none

    @property
    def weight_files(self) -> dict[str, tuple[Path, ...]]:
        """The files that hold each component's weights."""
        return {
            component: tuple(sorted({stored.file for stored in tensors.values()}))
            for component, tensors in self.tensors.items()
        }

    def parameter_count(self, component: str) -> int:
        """Number of weights of "text_encoder", "unet" or "vae"."""
        return sum(stored.count for stored in self.tensors[component].values())

    def load(self, component: str, dtype: torch.dtype | None = torch.float32) -> nn.Module:
        """The model of "text_encoder", "unet" or "vae" with its weights as `dtype` (None: as stored), in eval mode.

        Weights that need no conversion are not copied: their memory is the file's until it is written to.

        Raises:
            CheckpointError: keys missing, unexpected or of another shape than the config says, all listed.
            CheckpointError, PackageError: a file is not the one that was opened.
        """
        module = self._empty(component)
        _require_total(module, self.tensors[component], f"the weights of {component} in {self.path}")
        module.load_state_dict(read_tensors(self.tensors[component], dtype), strict=True, assign=True)
        self.folder.require_unchanged()
        return module.eval()

    def check(self) -> None:
        """Raises what `load` of each component would raise, from the headers alone."""
        for component, tensors in self.tensors.items():
            _require_total(self._empty(component), tensors, f"the weights of {component} in {self.path}")

    def require_finite(self) -> None:
        """Raise CheckpointError, naming the tensor, if a weight is NaN, infinite or too large for float32."""
        for component, tensors in self.tensors.items():
            require_finite(tensors, component)

    def require_hashes(self) -> None:
        """Hash all files of a package now. Raises PackageError unless they are what was opened and its hashes say."""
        if self.hashes:
            open_package(self.path, check="full").confirm()
            self.folder.require_unchanged()

    def _empty(self, component: str) -> nn.Module:
        """The model without memory for its weights."""
        with torch.device("meta"):
            return MODELS[component](self.configs.of(component))


def open_checkpoint(path: Path | str, variant: str | None = None, *, check: Check = "cached") -> Checkpoint:
    """Reads configs, schedule and the headers of all weight files; `variant` as in diffusers, such as "fp16".

    check: how the files of a package are compared with its hashes, as in `open_package`; a diffusers folder has none.

    Raises:
        CheckpointError: not a model's folder, or files missing, truncated, pickled, Git-LFS stubs, links to elsewhere.
        PackageError: a package whose manifest is not valid, or of which a file is not what the manifest says.
        ConfigError: another kind of pipeline, or an option that is not supported: named with its value.
    """
    path = Path(path)
    try:
        return _open(path, variant, check)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; expected a model's folder") from error


def save_checkpoint(
    path: Path | str,
    *,
    text_encoder: CLIPTextModel,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    schedule: NoiseSchedule,
    tokenizer_folder: Path,
    dtype: torch.dtype | None = None,
    force: bool = False,
) -> None:
    """Writes a folder that `open_checkpoint` and diffusers' pipeline open; whole or not at all.

    The weights are rounded to `dtype`; None leaves them as they are. With `force` a complete checkpoint of this form
    that holds nothing else is replaced.
    Raises LdmError where `path` exists and may not be replaced or cannot be written, CheckpointError where the
    tokenizer is missing or a finite weight would become infinite.
    """
    if not tokenizer_folder.is_dir():
        raise CheckpointError(f"{tokenizer_folder} is no folder; expected that of the tokenizer")
    modules: dict[str, Any] = {"text_encoder": text_encoder, "unet": unet, "vae": vae}
    configs = PipelineConfigs(**{component: module.config for component, module in modules.items()})
    scheduler = write_scheduler_config(schedule, read_sampler("ddim"))
    index: dict[str, Any] = {
        "_class_name": INPAINT_CLASS if configs.inpaints else PIPELINE_CLASS,
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    }
    with atomic_folder(Path(path), replace=_require_saved if force else None) as folder:
        for component, module in modules.items():
            index[component] = [LIBRARIES[component], module.config.CLASS_NAME]
            (folder / component).mkdir()
            _write_json(folder / component / "config.json", module.config.to_dict())
            try:
                write_tensors(folder / component / f"{STEMS[component]}.safetensors", module, dtype)
            except CheckpointError as error:
                raise CheckpointError(f"cannot save the {component}: {error}") from None
        (folder / "scheduler").mkdir()
        _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
        (folder / "tokenizer").mkdir()
        tokenizer = checkpoint_folder(tokenizer_folder)
        for name in tokenizer.names(most=MAX_TOKENIZER_FILES):
            (folder / "tokenizer" / name).write_bytes(tokenizer.read(name, MAX_JSON_BYTES))
        _write_json(folder / "model_index.json", index)


def _require_saved(folder: Path) -> None:
    """Raise LdmError unless a folder is a complete checkpoint as `save_checkpoint` writes it, and nothing else."""
    try:
        open_checkpoint(folder).check()
    except LdmError as error:
        reason = str(error).partition(";")[0]
        raise CheckpointError(
            f"{folder} is not replaced, for it is no complete checkpoint: {reason}; choose another output"
        ) from error
    refuse_foreign(folder, lambda name: _SAVED.fullmatch(name) is not None, "the checkpoint")


def _open(path: Path, variant: str | None, check: Check) -> Checkpoint:
    path = check_path("path", path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; expected the folder of a diffusers pipeline")
    if not path.is_dir():
        raise CheckpointError(
            f"{path} is a file; expected the folder of a diffusers pipeline (convert single-file checkpoints first)"
        )
    if is_package(path):
        if variant is not None:
            raise CheckpointError(f"{path} is a package, which has no variant {variant!r}; leave it out")
        return _open_package(path, check)
    if os.path.lexists(path / "model_index.json"):
        return _open_pipeline(checkpoint_folder(path), variant)
    raise CheckpointError(f"{path} is no model's folder: it has neither model_index.json nor manifest.json")


def _open_pipeline(folder: ModelFolder, variant: str | None) -> Checkpoint:
    pipeline_class, dropped = _read_model_index(folder)
    configs = _read_configs(folder, {component: component for component in CONFIGS})
    scheduler_file = folder.path / "scheduler" / "scheduler_config.json"
    scheduler_config = _object(folder, scheduler_file, infinity=True)
    scheduler_config = scheduler_as_run(scheduler_config, pipeline_class)
    tensors = {component: find_tensors(folder, component, STEMS[component], variant) for component in MODELS}
    try:
        schedule, sampler = read_scheduler_config(scheduler_config)
    except ConfigError as error:
        raise ConfigError(f"{scheduler_file}: {error}") from None
    papers = [name for name in folder.names(most=MAX_FILES) if name.lower().startswith(PAPERS)]
    return _opened(folder, configs, (schedule, sampler), scheduler_config, dropped, tensors, papers, {})


def _open_package(path: Path, check: Check) -> Checkpoint:
    """A package is a checkpoint too: its manifest says which initialiser holds which parameter.

    Only files are read that the manifest lists, so that their hashes prove them.
    """
    opened = open_package(path, check=check)
    opened.confirm()
    facts, folder = opened.manifest, opened.folder
    _require_listed(folder, facts)
    configs = _read_configs(folder, {component: parts[-1] for component, parts in PACKAGE_PARTS.items()})
    tensors: dict[str, Tensors] = {component: {} for component in PACKAGE_PARTS}
    for component, parts in PACKAGE_PARTS.items():
        for part in parts:
            stored = facts.components[part]
            tensors[component] |= package_tensors(folder, path / stored.weights, stored.keys)
    schedule, sampler = facts.contract.schedule, facts.contract.defaults.parsed_sampler
    scheduler_config = write_scheduler_config(schedule, sampler)
    papers = [name for name in sorted(facts.files) if "/" not in name and name.lower().startswith(PAPERS)]
    hashes = {name: entry.sha256 for name, entry in facts.files.items()}
    return _opened(folder, configs, (schedule, sampler), scheduler_config, facts.dropped, tensors, papers, hashes)


def _require_listed(folder: ModelFolder, facts: Manifest) -> None:
    """Raise CheckpointError for a file that would be read, but of which the manifest has no hash."""
    read = [f"{parts[-1]}/config.json" for parts in PACKAGE_PARTS.values()]
    read += [f"tokenizer/{name}" for name in folder.names("tokenizer", most=MAX_TOKENIZER_FILES)]
    for name in read:
        if name not in facts.files:
            raise CheckpointError(
                f"the manifest of {folder.path} has no hash of {name}, so nothing proves it; build the package again"
            )


def _opened(
    folder: ModelFolder,
    configs: PipelineConfigs,
    sampling: tuple[Schedule, Sampler],
    scheduler_config: dict[str, Any],
    dropped: tuple[str, ...],
    tensors: dict[str, Tensors],
    papers: list[str],
    hashes: dict[str, str],
) -> Checkpoint:
    tokenizer = folder.path / "tokenizer"
    if not any(os.path.lexists(tokenizer / name) for name in TOKENIZER_FILES):
        raise CheckpointError(f"{tokenizer} has no tokenizer; expected {' or '.join(TOKENIZER_FILES)}")
    if len(papers) > MAX_PAPERS:
        raise CheckpointError(
            f"{folder.path} has {len(papers)} papers such as {papers[0]}; expected at most {MAX_PAPERS}"
        )
    names = [f"tokenizer/{name}" for name in folder.names("tokenizer", most=MAX_TOKENIZER_FILES)]
    _require_passable(folder, names, MAX_JSON_BYTES)
    _require_passable(folder, papers, MAX_PAPER_BYTES)
    return Checkpoint(
        path=folder.path,
        folder=folder,
        configs=configs,
        schedule=sampling[0],
        sampler=sampling[1],
        scheduler_config=scheduler_config,
        tokenizer=tokenizer,
        papers=tuple(folder.path / name for name in papers),
        dropped=dropped,
        tensors=tensors,
        hashes=hashes,
    )


def _require_passable(folder: ModelFolder, names: list[str], limit: int) -> None:
    """Raise CheckpointError unless these files can become files of a package."""
    for name in names:
        size = folder.size(name)
        if size > limit:
            raise CheckpointError(
                f"{folder.path / name} has {size} bytes; expected at most {limit}: take it out of the folder"
            )
        try:
            manifest_rules.check_relative_path(name, str(folder.path))
        except PackageError as error:
            raise CheckpointError(str(error)) from None


def _read_model_index(folder: ModelFolder) -> tuple[str, tuple[str, ...]]:
    """The pipeline's class, which is one we know, and the components that are not used here."""
    file = folder.path / "model_index.json"
    index = _object(folder, file)
    name = index.get("_class_name")
    if name not in (PIPELINE_CLASS, INPAINT_CLASS):
        raise ConfigError(f"{file} is for a {name!r}; supported are {PIPELINE_CLASS!r} and {INPAINT_CLASS!r}")
    # A component is a pair [library, class], both null where the pipeline does without it.
    components = {name for name, value in index.items() if isinstance(value, list) and any(value)}
    needed = {*CONFIGS, "scheduler", "tokenizer"}
    if not needed <= components:
        raise CheckpointError(f"{file} has no {', '.join(sorted(needed - components))}; the model is not complete")
    return str(name), tuple(sorted(components - needed))


def _read_configs(root: ModelFolder, folders: dict[str, str]) -> PipelineConfigs:
    """The configs of all components, each from its folder."""
    path = root.path
    files = {component: path / folder / "config.json" for component, folder in folders.items()}
    read = {name: read_json(file, folder=root, limit=MAX_CONFIG_BYTES) for name, file in files.items()}
    read["unet"] = unet_as_run(read["unet"])
    configs = {name: CONFIGS[name].from_dict(read[name], str(file)) for name, file in files.items()}
    try:
        return PipelineConfigs(**configs)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _object(folder: ModelFolder, file: Path, *, infinity: bool = False) -> dict[str, Any]:
    data = read_json(file, infinity=infinity, folder=folder, limit=MAX_CONFIG_BYTES)
    if not isinstance(data, dict):
        raise CheckpointError(f"{file} is no JSON object but {type(data).__name__}; fetch the file again")
    return data


def _require_total(module: nn.Module, tensors: Tensors, what: str) -> None:
    """Every parameter has one tensor of its shape, every tensor a parameter; all that do not are listed."""
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


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
