"""Facts about a package or a checkpoint, from its manifest and headers; no model is loaded, no torch for a package.

Every file of a package is hashed first (once: hashes are remembered), because readers believe these facts.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldm_export.checkpoint.hub.names import is_hub_name
from ldm_export.verify import report as reports
from ldm_export.verify.proven_contract import changes
from ldm_runtime.checks import check_path
from ldm_runtime.errors import InputError, PackageError
from ldm_runtime.files import strict_json
from ldm_runtime.package import open as packages
from ldm_runtime.package import safetensors
from ldm_runtime.package.artefacts import Artefact, PlanRequirements
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.tensor_spec import TensorSpec
from ldm_runtime.package.variants import Variant
from ldm_runtime.pipeline import builtin_package

if TYPE_CHECKING:  # torch, which packages do without
    from ldm_export.checkpoint.original_parts import PartialFileError
    from ldm_export.checkpoint.stored import Tensors

Facts = dict[str, Any]


def describe(path: Path | str | None, progress: Callable[[str], None] | None = None, **how: Any) -> Facts:
    """Describe a package, a checkpoint, or (None) the built-in package, as values for JSON.

    path: text that begins with "hf:" is a name of the hub, and `progress` says what is fetched from there.
    how: arguments of `open_checkpoint`, for a checkpoint.

    Raises:
        PackageError, CheckpointError, ConfigError: the folder is neither, or is damaged.
    """
    if is_hub_name(path):
        from ldm_export.checkpoint.hub.fetch import fetched

        say = progress if progress is not None else lambda text: None
        is_file = how.get("prediction") is not None or bool(how.get("zero_snr"))
        path, _ = fetched(path, {}, how.get("variant"), say, is_file=is_file)
    folder = builtin_package() if path is None else check_path("path", path)
    if packages.is_package(folder):
        given = [f"--{name.replace('_', '-')}" for name, value in how.items() if value]
        if given:
            raise InputError(f"{folder} is a package, which has no {' or '.join(given)}; leave that out")
        return _package(folder)
    if not folder.exists():  # said without torch, which a checkpoint needs
        raise InputError(f"{folder} does not exist; expected a package, a diffusers folder or a single-file checkpoint")
    return _checkpoint(folder, how)


def _package(folder: Path) -> Facts:
    opened = packages.open_package(folder)
    opened.confirm()
    manifest = opened.manifest
    contract = manifest.contract
    return {
        "kind": "package",
        "path": str(folder),
        "name": manifest.name,
        "identity": opened.identity,
        "size_bytes": sum(entry.size for entry in manifest.files.values()),
        "files": len(manifest.files),
        "image": {"width": contract.image.width, "height": contract.image.height},
        "latent": vars(contract.latent),
        "schedule": contract.schedule.to_dict(),
        "defaults": strict_json.plain(contract.defaults),
        "text": {text.component: vars(text.tokenizer) for text in contract.text},
        "axes": {name: [axis.min, axis.max] for name, axis in contract.axes.items()},
        "components": {name: _component(folder, manifest, name) for name in manifest.components},
        **({"variants": {each.name: _variant(each) for each in manifest.variants}} if manifest.variants else {}),
        "dropped": list(manifest.dropped),
        "provenance": {
            "source": manifest.provenance.source.name,
            "tools": manifest.provenance.tools,
            "opset": manifest.provenance.opset,
            "created_with": manifest.provenance.created_with,
        },
        "proof": _proof(opened),
    }


def _proof(opened: packages.Package) -> Facts:
    """Describe the manifest's proof, believed only where the report is there and is about this contract."""
    proof = opened.manifest.proof
    problem = _unproven(opened) if proof.passed else "the package has not passed verification"
    verdict: Facts = {"passed": True} if problem is None else {"passed": False, "problem": problem}
    return {**verdict, **(proof.summary if problem is None else {})}


def _unproven(opened: packages.Package) -> str | None:
    """Return why the proof is not one of this contract, None if it is."""
    try:
        proven = reports.recorded(opened).contract
    except PackageError as error:
        return str(error)
    names = [name for name, _, _ in changes(proven, opened.manifest.contract)]
    return f"changed since it was proven: {', '.join(names)}" if names else None


def _component(folder: Path, manifest: Manifest, name: str) -> Facts:
    contract, component = manifest.contract.components[name], manifest.components[name]
    with packages.refused():
        tensors = safetensors.read_header(folder / component.weights).tensors.values()
    return {
        "inputs": [_tensor(spec) for spec in contract.inputs],
        "outputs": [_tensor(spec) for spec in contract.outputs],
        "weights": _by_dtype((tensor.dtype, math.prod(tensor.shape)) for tensor in tensors),
        "weights_bytes": manifest.files[component.weights].size,
        "artefacts": {artefact.name: _artefact(artefact) for artefact in component.artefacts},
    }


def _artefact(artefact: Artefact) -> Facts:
    facts: Facts = {
        "format": artefact.format,
        "file": artefact.file,
        "engine": artefact.engine,
        "precision": artefact.precision,
        "exactness": artefact.exactness,
    }
    if artefact.difference is not None:
        facts["relative_rms"] = artefact.difference.relative_rms
    if artefact.interface is not None:
        facts["inputs"] = [_tensor(spec) for spec in artefact.interface.inputs]
        facts["outputs"] = [_tensor(spec) for spec in artefact.interface.outputs]
    if artefact.kept:
        facts["kept"] = list(artefact.kept)
    if artefact.rescaled is not None:
        facts["rescaled"] = artefact.rescaled
    if artefact.merged is not None:
        facts["merged"] = artefact.merged
    return facts if artefact.requires is None else {**facts, "requires": _requirements(artefact.requires)}


def _variant(variant: Variant) -> Facts:
    return {key: value for key, value in strict_json.plain(variant).items() if key != "name"}


def _requirements(plan: PlanRequirements) -> Facts:
    return {
        "flavour": plan.flavour,
        "version": plan.version,
        "compute_capabilities": list(plan.compute_capabilities),
        "options": list(plan.options),
        "activation_bytes": plan.activation_bytes,
        "weight_bytes": plan.weight_bytes,
        "profiles": [
            {axis: [size.min, size.opt, size.max] for axis, size in profile.items()} for profile in plan.profiles
        ],
    }


def _by_dtype(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Count the weights of each type, by safetensors' name."""
    found: Counter[str] = Counter()
    for dtype, count in counts:
        found[dtype] += count
    return dict(found)


def _tensor(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype} [{', '.join(str(dim) for dim in spec.dims)}]"


def _checkpoint(path: Path, how: Facts) -> Facts:
    from ldm_export.checkpoint.open import open_checkpoint
    from ldm_export.checkpoint.original_parts import PartialFileError

    try:
        checkpoint = open_checkpoint(path, **how)
    except PartialFileError as error:
        return _parts_of_checkpoint(error)
    checkpoint.check()
    return {
        "kind": "checkpoint",
        "path": str(path),
        "family": checkpoint.family.name,
        "layout": checkpoint.layout,
        "name": checkpoint.defaults.name,
        "image": vars(checkpoint.defaults.image),
        "schedule": checkpoint.schedule.to_dict(),
        "defaults": strict_json.plain(checkpoint.defaults.run),
        "components": {
            name: {
                "parameters": checkpoint.parameter_count(name),
                "weights": _weights(checkpoint.tensors[name]),
                "files": [str(file.relative_to(checkpoint.folder.path)) for file in checkpoint.weight_files[name]],
                "config": checkpoint.configs[name].to_dict(),
            }
            for name in checkpoint.family.parts
        },
        "dropped": list(checkpoint.dropped),
        "notes": list(checkpoint.notes),
        "documents": [file.name for file in checkpoint.documents],
    }


def _parts_of_checkpoint(error: "PartialFileError") -> Facts:
    """Describe what a file holds that is no whole checkpoint, as its shapes tell. Raises `error` where they do not."""
    from ldm_export.checkpoint.original_parts import models_in

    models = models_in(error.opened)
    if not models:
        raise error
    families = [set(names) for names, _ in models.values()]
    return {
        "kind": "parts of a checkpoint",
        "path": str(error.opened.file),
        "family": " or ".join(sorted(set.intersection(*families))) or "none that has them all",
        "layout": "original",
        "components": {
            name: {
                "parameters": sum(tensor.count for tensor in model.tensors.values()),
                "weights": _weights(model.tensors),
                "config": dict(model.told),
            }
            for name, (_, model) in models.items()
        },
        "notes": [str(error)],
    }


def _weights(tensors: "Tensors") -> dict[str, int]:
    return _by_dtype((tensor.dtype, tensor.count) for tensor in tensors.values())


def render(facts: Facts) -> str:
    """Render the facts as indented text for a terminal."""
    return "\n".join(_lines(facts, 0))


def _lines(value: Facts, depth: int) -> list[str]:
    lines: list[str] = []
    for key, item in value.items():
        label = "  " * depth + key
        if isinstance(item, dict) and any(isinstance(part, dict | list) for part in item.values()):
            lines += [f"{label}:", *_lines(item, depth + 1)]
        else:
            lines.append(f"{label}: {_inline(item)}")
    return lines


def _inline(item: object) -> str:
    if isinstance(item, dict):
        return ", ".join(f"{key} {_inline(part)}" for key, part in item.items())
    if isinstance(item, list):
        return "; ".join(_inline(part) for part in item) if item else "none"
    if isinstance(item, float):
        return f"{item:.6g}"
    if item is None:
        return "none"
    return f"{item:,}" if type(item) is int and item >= 10_000 else str(item)
