"""Packages made of exported components: the ecosystem's files around them, the manifest, later the proof.

The folder is at once a package of ours and a pipeline that optimum-onnx 0.1 opens with
`ORTStableDiffusionPipeline.from_pretrained`.
"""

import importlib.metadata
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from ldm_export.checkpoint.checkpoint import MAX_DOCUMENT_BYTES, Checkpoint, source_name
from ldm_export.checkpoint.json_files import write_json
from ldm_export.checkpoint.tokenizer import CompleteTokenizer, complete_tokenizer
from ldm_export.export.to_onnx import GRAPH_FILE, ExportReport
from ldm_export.export.trace import IR_VERSION, OPSET
from ldm_export.families.spec import ComponentSpec
from ldm_export.package.choices import PackageChoices
from ldm_export.verify import reference_file
from ldm_export.verify.report import Report
from ldm_runtime import __version__
from ldm_runtime.errors import FormatError, PackageError, refused_as
from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.files.hash_cache import sha256_of
from ldm_runtime.files.replacing import refuse_foreign
from ldm_runtime.package import manifest, manifest_json
from ldm_runtime.package.artefacts import CANONICAL, Artefact, Component
from ldm_runtime.package.manifest import (
    Axis,
    Contract,
    Defaults,
    FileEntry,
    ImageSpec,
    Manifest,
    Proof,
    Provenance,
    Source,
    TextRole,
)
from ldm_runtime.package.open import MANIFEST, open_package

T = TypeVar("T")

ORT_CPU_FILE = "model.ort_cpu.onnx"
REPORT = "verify/report.json"
# Written after the manifest, so not part of the package's identity.
UNLISTED = re.compile(r"manifest\.json|verify/([a-z]+/)?report\.(json|html)")
NO_CHOICES = PackageChoices()
# Place in a manifest -> the keys of a recipe that choose its value.
_CHOSEN_BY = {
    "manifest.contract.defaults.sampler": ("sampler", "steps"),
    "manifest.contract.defaults.steps": ("steps",),
    "manifest.contract.defaults.guidance": ("guidance",),
    "manifest.contract.image": ("width", "height"),
    "manifest.contract.image.width": ("width",),
    "manifest.contract.image.height": ("height",),
    "manifest.name": ("name",),
}
TOOLS = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy")


def finish_package(
    folder: Path, checkpoint: Checkpoint, exports: Mapping[str, ExportReport], *, recipe: PackageChoices
) -> Manifest:
    """Write what is missing around exported (and optimised) components, and describe it in a manifest without proof.

    A component whose folder has a `model.ort_cpu.onnx` gets that artefact. `write_manifest` writes what it returns.

    Raises:
        CheckpointError: the checkpoint's tokenizer is incomplete or does not fit its text encoder.
        PackageError: the recipe asks for something that no package can promise, such as an odd image size.
    """
    tokenizers = _tokenizers(checkpoint)
    components = {name: _component(folder, report) for name, report in exports.items()}
    provenance = _provenance(checkpoint, recipe, exports)
    made = _manifest(checkpoint, recipe, tokenizers, components, provenance)
    for name, tokenizer in tokenizers.items():
        tokenizer.write(folder / name)
    _write_pipeline_files(folder, checkpoint)
    for file in checkpoint.documents:
        (folder / file.name).write_bytes(checkpoint.folder.read(file.name, MAX_DOCUMENT_BYTES))
    made = with_files(folder, made)
    _check(made, folder / MANIFEST, recipe)
    return made


def contract_of(checkpoint: Checkpoint, recipe: PackageChoices) -> Contract:
    """Return the contract that the package of a checkpoint will have, before anything of it is made.

    A manifest with stand-ins for its files is checked, so that what would be refused later is refused here.

    Raises as `finish_package`.
    """
    return _draft(checkpoint, recipe, _tokenizers(checkpoint)).contract


def write_draft(folder: Path, checkpoint: Checkpoint) -> Manifest:
    """Write the tokenizers of a package without graphs, for a pipeline whose engines are given; return its manifest.

    Raises as `finish_package`.
    """
    tokenizers = _tokenizers(checkpoint)
    for name, tokenizer in tokenizers.items():
        tokenizer.write(folder / name)
    return _draft(checkpoint, NO_CHOICES, tokenizers)


def _draft(checkpoint: Checkpoint, recipe: PackageChoices, tokenizers: Mapping[str, CompleteTokenizer]) -> Manifest:
    """Describe a package with stand-ins for its files, as the runtime would take it."""
    components = {name: _stand_in(name) for name in checkpoint.specs}
    source = Source(source_name(checkpoint.path), {})
    provenance = Provenance(checkpoint.family.name, source, {}, OPSET, IR_VERSION, asdict(recipe), "")
    made = _manifest(checkpoint, recipe, tokenizers, components, provenance)
    names = [file for component in components.values() for file in component.canonical.files]
    names += [f"{folder}/{name}" for folder, tokenizer in tokenizers.items() for name in tokenizer.files]
    names += [file.name for file in checkpoint.documents]
    made = replace(made, files={name: FileEntry("0" * 64, 0) for name in names})
    _check(made, f"the package of {checkpoint.path}", recipe)
    return made


def _manifest(
    checkpoint: Checkpoint,
    recipe: PackageChoices,
    tokenizers: Mapping[str, CompleteTokenizer],
    components: dict[str, Component],
    provenance: Provenance,
) -> Manifest:
    """Describe a package none of whose files are listed yet."""
    return Manifest(
        schema_version=manifest.SCHEMA_VERSION,
        name=_chosen(recipe.name, checkpoint.defaults.name),
        contract=_contract(checkpoint, checkpoint.specs, recipe, tokenizers),
        components=components,
        files={},
        provenance=provenance,
        dropped=checkpoint.dropped,
        proof=Proof(passed=False, report=REPORT, summary={}),
    )


def _stand_in(name: str) -> Component:
    graph = f"{name}/{GRAPH_FILE}"
    return Component(graph, (_graph(CANONICAL, graph, graph),), keys={})


def with_files(folder: Path, known: Manifest) -> Manifest:
    """List and hash the files of `folder` that the manifest does not list yet."""
    new = [name for name in _package_files(folder) if name not in known.files]
    return replace(known, files={**known.files, **_hashed(folder, new)})


def with_artefacts(folder: Path, known: Manifest, artefacts: Mapping[str, Sequence[Artefact]]) -> Manifest:
    """Note more artefacts of the components, and list the files that were written for them."""
    components = {
        name: replace(component, artefacts=(*component.artefacts, *artefacts.get(name, ())))
        for name, component in known.components.items()
    }
    return with_files(folder, replace(known, components=components))


def with_proof(folder: Path, known: Manifest, report: Report) -> Manifest:
    """Note a verdict; if it passed, every axis gets the sizes at which engine and reference were compared."""
    reference = reference_file.read(folder / reference_file.FILE)
    proven = reference_file.compared_sizes(reference, known.contract) if report.passed else {}
    axes = {
        name: replace(axis, proven=tuple(sorted(proven.get(name, ())))) for name, axis in known.contract.axes.items()
    }
    proof = Proof(report.passed, REPORT, report.summary())
    return replace(known, contract=replace(known.contract, axes=axes), proof=proof)


def write_manifest(folder: Path, made: Manifest) -> None:
    """Write the manifest, unless the runtime would refuse it."""
    text = _check(made, folder / MANIFEST)
    with atomic_file(folder / MANIFEST) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _check(made: Manifest, where: Path | str, recipe: PackageChoices = NO_CHOICES) -> str:
    """Return the manifest's text. Raises PackageError if the runtime would refuse it."""
    text = manifest_json.dump(made)
    try:
        manifest_json.parse(text, str(where))
    except FormatError as fault:
        with refused_as(PackageError, _advice(fault, recipe)):
            raise
    return text


def _advice(fault: FormatError, recipe: PackageChoices) -> str:
    """Say what to change: the keys of the recipe that set the value at fault, or that could set another."""
    keys = next((keys for place, keys in _CHOSEN_BY.items() if fault.where.endswith(place)), ())
    given = [key for key in keys if getattr(recipe, key) is not None]
    if given:
        return f"change {' or '.join(given)} in the recipe"
    return f"change the checkpoint, or set {' or '.join(keys)} in a recipe" if keys else "change the checkpoint"


def require_package(folder: Path) -> None:
    """Raise `LdmError` unless `folder` is a complete package and nothing else, so that another may replace it."""
    try:
        opened = open_package(folder)
        opened.confirm()
        known = opened.manifest.files
    except PackageError as error:
        reason = str(error).partition(";")[0]  # what to do about it is for those who want to use it
        raise PackageError(
            f"{folder} is not replaced: it is not a complete package ({reason}); choose another output",
            code=error.code,
        ) from error
    refuse_foreign(folder, lambda name: name in known or UNLISTED.fullmatch(name) is not None, "the package")


def _tokenizers(checkpoint: Checkpoint) -> dict[str, CompleteTokenizer]:
    """Complete every tokenizer of the checkpoint, by its folder."""
    found = {}
    for name, part in checkpoint.family.tokenizers.items():
        config = checkpoint.configs[part]
        window, size = config.max_position_embeddings, config.vocab_size
        with checkpoint.tokenizer_folder(name) as folder:
            found[name] = complete_tokenizer(folder, window=window, vocab_size=size)
    return found


def _write_pipeline_files(folder: Path, checkpoint: Checkpoint) -> None:
    """Write scheduler_config.json and model_index.json as optimum-onnx does."""
    family, scheduler = checkpoint.family, checkpoint.scheduler_config
    (folder / "scheduler").mkdir()
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    runtime = "optimum.onnxruntime.modeling_diffusion"
    index = {
        "_class_name": f"ORT{family.class_of(checkpoint.configs, checkpoint.sampler)}",
        **family.index,
        **({} if family.zeros_key is None else {family.zeros_key: checkpoint.defaults.run.zero_negative}),
        "scheduler": ["diffusers", scheduler["_class_name"]],
        **{name: ["transformers", "CLIPTokenizer"] for name in family.tokenizers},
        **{name: [runtime, part.optimum] for name, part in family.parts.items()},
    }
    write_json(folder / "model_index.json", index)


def _component(folder: Path, report: ExportReport) -> Component:
    name = report.component
    artefacts = [_graph(CANONICAL, f"{name}/{GRAPH_FILE}", report.weights)]
    if (folder / name / ORT_CPU_FILE).exists():
        artefacts.append(_graph("ort_cpu", f"{name}/{ORT_CPU_FILE}", report.weights, engine="ort_cpu"))
    return Component(weights=report.weights, artefacts=tuple(artefacts), keys=report.keys)


def _graph(name: str, file: str, weights: str, engine: str = "any") -> Artefact:
    return Artefact(name, "onnx", (file, weights), engine, "fp32", "exact", None)


def _contract(
    checkpoint: Checkpoint,
    table: Mapping[str, ComponentSpec],
    recipe: PackageChoices,
    tokenizers: Mapping[str, CompleteTokenizer],
) -> Contract:
    roles, defaults = checkpoint.family.roles(checkpoint.configs), checkpoint.defaults
    facts = {name: replace(each.facts, file=f"{name}/{each.facts.file}") for name, each in tokenizers.items()}
    return Contract(
        components={name: spec.contract for name, spec in table.items()},
        axes=_axes(table),
        text=tuple(
            TextRole(text.component, text.input, facts[text.tokenizer], text.output, text.pooled) for text in roles.text
        ),
        denoiser=roles.denoiser,
        concat=roles.concat,
        codec=roles.codec,
        latent=checkpoint.family.latent(checkpoint.configs),
        image=ImageSpec(_chosen(recipe.width, defaults.image.width), _chosen(recipe.height, defaults.image.height)),
        schedule=checkpoint.schedule,
        defaults=Defaults(
            _chosen(recipe.sampler, defaults.run.sampler),
            _chosen(recipe.steps, defaults.run.steps),
            _chosen(recipe.guidance, defaults.run.guidance),
            defaults.run.zero_negative,
        ),
    )


def _axes(table: Mapping[str, ComponentSpec]) -> dict[str, Axis]:
    axes: dict[str, Axis] = {}
    for spec in table.values():
        for name in (*spec.axes, *spec.multiples):
            axis = Axis(*spec.size_range(name), proven=(), multiple_of=spec.multiples.get(name))
            assert axes.setdefault(name, axis) == axis  # one name, one meaning
    return axes


def _chosen(choice: T | None, default: T) -> T:
    return default if choice is None else choice


def _provenance(checkpoint: Checkpoint, recipe: PackageChoices, exports: Mapping[str, ExportReport]) -> Provenance:
    (opset,) = {report.opset for report in exports.values()}
    return Provenance(
        family=checkpoint.family.name,
        source=Source(source_name(checkpoint.path), _source_hashes(checkpoint)),
        tools={tool: importlib.metadata.version(tool) for tool in (*TOOLS, *recipe.passes)},
        opset=opset,
        ir_version=max(report.ir_version for report in exports.values()),
        recipe=asdict(recipe),
        created_with=f"ldm-export {__version__}",
    )


def _source_hashes(checkpoint: Checkpoint) -> dict[str, str]:
    """Hash the files of weights, by their names in the source; a part from elsewhere is said to be."""
    hashes: dict[str, str] = {}
    for part, files in checkpoint.weight_files.items():
        folder = checkpoint.folder_of(part)
        own = part not in checkpoint.replaced
        for file in files:
            name = file.relative_to(folder.path).as_posix()
            shown_name = name if own else f"{part}: {source_name(folder.path)}/{name}"
            if shown_name not in hashes:
                known = checkpoint.hashes.get(name) if own else None
                hashes[shown_name] = sha256_of(folder.file(name)) if known is None else known
    return dict(sorted(hashes.items()))


def _package_files(folder: Path) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if UNLISTED.fullmatch(name) is None)


def _hashed(folder: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    return {name: FileEntry(sha256_of(folder / name), (folder / name).stat().st_size) for name in names}
