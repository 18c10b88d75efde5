"""A package as a checkpoint: its manifest says which initialiser holds which parameter.

Only files are read that the manifest lists, so that their hashes prove them.
"""

from pathlib import Path

from ldm_export.checkpoint.checkpoint import (
    DOCUMENTS,
    Checkpoint,
    PackageDefaults,
    assemble,
    read_configs,
    tokenizer_files,
)
from ldm_export.checkpoint.scheduler import write_scheduler_config
from ldm_export.checkpoint.stored import Tensors
from ldm_export.checkpoint.tensors import package_tensors
from ldm_export.errors import CheckpointError
from ldm_export.families import FAMILIES
from ldm_export.families.family import Configs, Family
from ldm_runtime.checks import shown
from ldm_runtime.files.links import ModelFolder
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.open import Check, open_package


def open_package_checkpoint(path: Path, check: Check) -> Checkpoint:
    """Open the package in folder `path`. Raises as `open_checkpoint`."""
    opened = open_package(path, check=check)
    opened.confirm()
    facts, folder = opened.manifest, opened.folder
    family = _family(facts, path)
    _require_listed(folder, facts, family)
    configs = package_configs(folder, family)
    tensors: dict[str, Tensors] = {name: {} for name in family.parts}
    for name, part in family.parts.items():
        for component in part.components:
            stored = facts.components[component]
            tensors[name] |= package_tensors(folder, path / stored.weights, stored.keys)
    schedule, sampler = facts.contract.schedule, facts.contract.defaults.parsed_sampler
    scheduler_config = write_scheduler_config(schedule, sampler)
    documents = [name for name in sorted(facts.files) if "/" not in name and name.lower().startswith(DOCUMENTS)]
    return assemble(
        folder,
        family,
        configs,
        (schedule, sampler),
        scheduler_config,
        facts.dropped,
        tensors,
        documents,
        opened,
        PackageDefaults(facts.name, facts.contract.image, facts.contract.defaults),
        layout="package",
    )


def _family(facts: Manifest, path: Path) -> Family:
    name = facts.provenance.family
    family = FAMILIES.get(name)
    components = [] if family is None else [each for part in family.parts.values() for each in part.components]
    if family is None or set(components) != set(facts.components):
        raise CheckpointError(
            f"{path} is of the family {shown(name)} with {', '.join(facts.components)}; this version knows "
            f"{', '.join(FAMILIES)}"
        )
    return family


def package_configs(folder: ModelFolder, family: Family) -> Configs:
    """Read the configs of a package's parts. Raises as `read_configs`."""
    return read_configs(folder, family, _config_folders(family))[0]


def _config_folders(family: Family) -> dict[str, str]:
    """Return the component whose folder has the config of each part: each of them has it."""
    return {name: part.components[-1] for name, part in family.parts.items()}


def _require_listed(folder: ModelFolder, facts: Manifest, family: Family) -> None:
    """Raise CheckpointError for a file that would be read, but of which the manifest has no hash."""
    read = [f"{component}/config.json" for component in _config_folders(family).values()]
    read += [file for name in family.tokenizers for file in tokenizer_files(folder, name)]
    for name in read:
        if name not in facts.files:
            raise CheckpointError(
                f"the manifest of {folder.path} has no hash of {name}, so nothing proves it; build the package again"
            )
