"""The family of a diffusers folder: by the class of its pipeline, or else by its components.

A class that no family lists is judged by what it is made of: text encoder, UNet, autoencoder, tokenizer and scheduler
make a text-to-image pipeline, whatever else the class can do. It is then run as the family's own pipeline. A component
that takes part in every image and that no family has, such as an image encoder, is refused.
"""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm_export.errors import CheckpointError, ConfigError
from ldm_export.families import FAMILIES
from ldm_export.families.family import Family
from ldm_runtime.checks import shown

# Components that look at images, or steer a run that asks for it; without them the others draw the same.
_BESIDE = re.compile(r"safety_checker|feature_extractor\w*|controlnet")
_GRAPHS = re.compile(r"Onnx\w*|ORT\w*|OV\w*")  # classes of diffusers and optimum whose folders hold graphs
_GRAPH_FILES = ("model.onnx", "openvino_model.xml")  # in the folder of a component


@dataclass(frozen=True)
class PipelineClass:
    """A folder's pipeline. name: a class of the family, or None: the one of its components. said: what is not done."""

    family: Family
    name: str | None
    dropped: tuple[str, ...]
    said: str | None


def read_pipeline_class(index: Mapping[str, Any], file: Path) -> PipelineClass:
    """Return the family and class of a parsed model_index.json.

    Raises:
        ConfigError: another kind of pipeline, or a component that is not supported.
        CheckpointError: a component that the family needs is missing, or the folder has graphs instead of weights.
    """
    name, where = _class_name(index), str(file)
    _refuse_graphs(file.parent, name)
    # A model is a pair [library, class], both null where the pipeline does without it.
    entries = {key: value for key, value in index.items() if isinstance(value, list) and any(value) and key[0] != "_"}
    family = next((each for each in FAMILIES.values() if name in each.pipelines), None)
    if family is not None:
        missing = set(family.folders) - entries.keys()
        if missing:
            raise CheckpointError(f"{where} has no {', '.join(sorted(missing))}; the model is not complete")
        return PipelineClass(family, name, tuple(sorted(entries.keys() - set(family.folders))), None)
    family = None if name is None else _by_components(entries)
    if family is None:
        known = [repr(pipeline) for each in FAMILIES.values() for pipeline in each.pipelines]
        named = f"{', '.join(known[:-1])} and {known[-1]}"
        raise ConfigError(
            f"{where} is for a {shown(name)}; supported are {named}, and others that have all of their components"
        )
    beside = sorted(entries.keys() - set(family.folders))
    for key in beside:
        if _BESIDE.fullmatch(key) is None:
            what = f"{shown(key)} ({shown(entries[key][-1])})"
            raise ConfigError(
                f"{where} is for a {shown(name)} with {what}, which is not supported: without it the others do not "
                f"draw what that pipeline draws"
            )
    said = f"{shown(name)} has the components of {family.name} and is built as its text-to-image pipeline"
    return PipelineClass(family, None, tuple(beside), said)


def _class_name(index: Mapping[str, Any]) -> str | None:
    """Return the class; of [module, class], which names code in the folder that is never run here, the class."""
    name = index.get("_class_name")
    if isinstance(name, list) and len(name) == 2:
        name = name[1]
    return name if isinstance(name, str) else None


def _refuse_graphs(folder: Path, name: str | None) -> None:
    """Raise CheckpointError for a folder that was exported already, by optimum or diffusers."""
    parts = [part for family in FAMILIES.values() for part in family.parts.values()]
    files = [f"{component}/{graph}" for part in parts for component in part.components for graph in _GRAPH_FILES]
    found = [file for file in files if os.path.lexists(folder / file)]
    is_exported = name is not None and _GRAPHS.fullmatch(name) is not None
    # Some published folders have weights and graphs side by side.
    has_parts = any(all(os.path.lexists(folder / part) for part in family.parts) for family in FAMILIES.values())
    if is_exported or (found and not has_parts):
        what = f"graphs such as {found[0]}" if found else f"the graphs of {shown(name)}"
        raise CheckpointError(
            f"{folder} has {what}, not the weights of a checkpoint; give the folder of the pipeline that they were "
            f"exported from"
        )


def _by_components(entries: Collection[str]) -> Family | None:
    """Return the family with the most folders, all of which are there; None: no family is complete."""
    complete = [family for family in FAMILIES.values() if set(family.folders) <= set(entries)]
    return max(complete, key=lambda family: len(family.folders), default=None)
