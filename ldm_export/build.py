"""The chain: a checkpoint is exported, optimised, described, proven, and only then becomes a package."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.hub.fetch import fetched
from ldm_export.checkpoint.hub.names import is_hub_name
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.errors import ConfigError, VerificationError
from ldm_export.export.to_onnx import GRAPH_FILE, ExportReport, estimate_memory, export_components
from ldm_export.families import FAMILIES
from ldm_export.families.original.layout import Prediction
from ldm_export.lossy.make import choose_methods, make_variants
from ldm_export.lossy.prompts import OWN, Prompts, prompts_of, read_prompts
from ldm_export.optimise.pipeline import CANONICAL_PASSES, OPTIONAL_PASSES, PassReport, optimise, ort_cpu_passes
from ldm_export.optimise.run_onnxsim import require_onnxsim
from ldm_export.package.few_step import as_few_step
from ldm_export.package.write import (
    ORT_CPU_FILE,
    contract_of,
    finish_package,
    require_package,
    with_artefacts,
    with_files,
    with_proof,
    write_manifest,
)
from ldm_export.process.isolate import StageCost, require_memory, run_isolated
from ldm_export.recipes.build import BuildRecipe
from ldm_export.recipes.samplers import MAX_SAMPLE_STEPS
from ldm_export.tables import text_table
from ldm_export.targets import TARGETS
from ldm_export.targets.target import Order
from ldm_export.verify import reference
from ldm_export.verify.gate import prove_package, prove_variants, proving_engines
from ldm_export.verify.proven_contract import changes
from ldm_export.verify.reference import write_reference
from ldm_export.verify.report import Report, recorded
from ldm_export.verify.run_size import LARGE_STEPS, STEPS
from ldm_runtime.engines.choice import AUTO, artefact_for
from ldm_runtime.engines.ort.rows import weight_memory
from ldm_runtime.errors import EngineUnavailable, InputError, PackageError
from ldm_runtime.files.atomic import atomic_folder, lies_in, refuse_existing_folder
from ldm_runtime.package import safetensors
from ldm_runtime.package.manifest import Contract, Manifest
from ldm_runtime.package.open import Package, is_package, open_package
from ldm_runtime.package.variants import Variant
from ldm_runtime.pipeline import builtin_package
from ldm_runtime.sampling.plan import compile_plan

FIXED_BYTES = 1200 << 20  # of a stage: torch or the engine itself, and activations at the sizes that are compared

Progress = Callable[[str], None]


@dataclass
class BuildReport:
    """The cost of each stage, the changes of each pass, and the verdict."""

    stages: list[StageCost] = field(default_factory=list)
    passes: list[tuple[str, PassReport]] = field(default_factory=list)  # graph file, what one pass did to it
    proofs: list[Report] = field(default_factory=list)  # of ONNX Runtime and variants, then of other engines that run
    variants: list[Variant] = field(default_factory=list)  # within the budget

    def table(self) -> str:
        """Render for a terminal: passes, then stages, then the proof."""
        rows = []
        for graph, each in self.passes:
            before, after = sum(each.operators_before.values()), sum(each.operators_after.values())
            rows.append([graph, each.name, str(each.modified), str(before), str(after)])
        lines = text_table(["graph", "pass", "changes", "operators before", "after"], rows, "<<>>>")
        costs = [[name, f"{seconds:.1f}", f"{peak / 1e9:.2f} GB"] for name, seconds, peak in self.stages]
        lines += ["", *text_table(["stage", "seconds", "peak memory"], costs, "<>>")]
        for proof in self.proofs:
            lines += ["", proof.table()]
        if self.variants:
            lines += ["", *_variant_table(self.variants)]
        return "\n".join(lines)


def _variant_table(variants: Sequence[Variant]) -> list[str]:
    """Render what each variant gives up, and for what."""
    rows = []
    for each in variants:
        psnr = "equal" if each.error.psnr is None else f"{each.error.psnr:.1f} dB"
        drift = f"{each.error.latents[-1]:.2e}"
        rows.append(
            [each.name, psnr, f"{each.error.ssim:.4f}", drift, f"{each.time:.2f}", f"{each.bytes / 1e6:.1f} MB"]
        )
    head = ["variant", "worst image", "SSIM", "last latents' relative RMS", "time, exact is 1", "files"]
    return text_table(head, rows, "<>>>>>")


def build_package(
    source: Path | str | None,
    out: Path,
    *,
    recipe: BuildRecipe,
    variant: str | None = None,
    parts: Mapping[str, Path | str] | None = None,
    prediction: Prediction | None = None,
    zero_snr: bool = False,
    max_memory: int | None = None,
    prompts: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Build `out` from a diffusers folder, a file or a package (None: the built-in); nothing stays of a failed build.

    source, parts: text that begins with "hf:" is a name of the hub. parts: parts from elsewhere, such as {"vae": folder
    or file}. max_memory: bytes that one stage's process may need; None takes what the machine has available. prompts:
    a file of those that a budget is calibrated and measured with; None takes the source's own, or ours.

    Raises:
        CheckpointError, ConfigError, PackageError: the source cannot be fetched or opened, or is not supported.
        EngineUnavailable: no engine is installed to prove the package with, or a target needs what is not installed,
            or a GPU that is not here, or a lossy method needs what is not here.
        InputError: a target's options contradict one another or the model, `out` and the source overlap, or the prompts
            cannot be read.
        ExportError: a stage would not fit into memory, a component cannot be exported, or a pass is not installed.
        VerificationError: what was built differs from the torch model by more than the tolerance, or nothing lossy is
            within the budget.
        LdmError: `out` cannot be written, or exists and is not a complete package and nothing else (with `force`).
    """
    say = progress if progress is not None else lambda text: None
    replace = require_package if force else None
    source = builtin_package() if source is None else source
    _require_places(source, parts or {}, out)
    refuse_existing_folder(out, replace=replace)
    _require_installed(recipe)  # before anything is fetched: it may have gigabytes
    methods = _lossy_methods(recipe, prompts, say)
    source, parts = fetched(source, parts or {}, variant, say, is_file=prediction is not None or zero_snr)
    _require_places(source, parts, out)
    checkpoint = open_checkpoint(source, variant, parts=parts, check="size", prediction=prediction, zero_snr=zero_snr)
    require_unlinked(checkpoint, out)
    checkpoint.check()
    texts = prompts_of(checkpoint.documents, prompts) if methods else OWN
    for name, path in parts.items():
        say(f"{name} is that of {path}")
    for name in checkpoint.dropped:
        say(f"{name} of the source is not exported: the package does without it")
    for note in checkpoint.notes:
        say(note)
    if recipe.few_step is not None:
        checkpoint = as_few_step(checkpoint, recipe.few_step)
    contract = contract_of(checkpoint, recipe)
    require_sampling(contract, str(source))
    require_stages_to_fit(checkpoint, max_memory)
    work = _check_targets(checkpoint, contract, recipe, out.absolute().parent, max_memory)
    say("reading all weights: every one must be finite")
    checkpoint.require_hashes()
    if checkpoint.package is not None:
        require_proven(checkpoint.package)
    checkpoint.require_finite()
    report = BuildReport()
    with atomic_folder(out, replace=replace) as folder:
        exports = _export(checkpoint, recipe, folder, report, say)
        manifest = finish_package(folder, checkpoint, exports, recipe=recipe)
        manifest = _prove(checkpoint, folder, manifest, report, say)
        checkpoint.require_unchanged()  # no stage hashed anything
        for name, each in work.items():
            result = TARGETS[name].build(each, folder, manifest, say)
            report.stages += result.stages
            manifest = with_artefacts(folder, manifest, result.artefacts)
            _prove_target(TARGETS[name].engine, folder, manifest, report, say)
        if methods:
            manifest = _make_variants(folder, manifest, recipe, methods, texts, report, say)
        write_manifest(folder, manifest)
        open_package(folder, check="size")  # as its users will
    return report


def _require_installed(recipe: BuildRecipe) -> None:
    """Raise EngineUnavailable or ExportError if what proves the package, or a pass of the recipe, is not installed."""
    proving_engines()
    if "onnxsim" in recipe.passes:
        require_onnxsim()


def _require_places(source: Path | str, parts: Mapping[str, Path | str], out: Path) -> None:
    """Raise InputError unless what is on the disk, not still on the hub, lies apart from the output."""
    if not is_hub_name(source):
        require_apart(Path(source), out)
    require_parts_apart({name: Path(path) for name, path in parts.items() if not is_hub_name(path)}, out)


def require_apart(source: Path, out: Path) -> None:
    """Raise InputError if the source is `out` or lies in it, or if `out` lies among the source's own files.

    A diffusers folder may hold the output beside its parts; a package may not hold another model's files.
    """
    if lies_in(source, out):
        how = "is" if lies_in(out, source) else "lies in"
        raise InputError(f"the source {source} {how} the output {out}; choose another output")
    parts = {name for family in FAMILIES.values() for name in family.folders}
    for folder in [source] if is_package(source) else [source / name for name in sorted(parts)]:
        if lies_in(out, folder):
            raise InputError(f"the source's folder {folder} holds the output {out}; choose another output")


def require_parts_apart(parts: Mapping[str, Path], out: Path) -> None:
    """Raise InputError if a part from elsewhere lies in `out`, or `out` in its folder."""
    for name, path in parts.items():
        if lies_in(path, out) or (path.is_dir() and lies_in(out, path)):
            raise InputError(f"the {name} {path} and the output {out} lie in one another; choose another output")


def require_proven(package: Package) -> None:
    """Raise PackageError unless a source's contract is the one that was proven when it was built.

    The new package's contract comes from the source's configs and tokenizers: what was changed in the manifest by hand
    would be lost without a word.
    """
    for name, before, now in changes(recorded(package).contract, package.manifest.contract):
        raise PackageError(
            f"the manifest of {package.path} has {name} {now}, but {before} was proven; fetch or build that package "
            f"again, and choose defaults in a recipe (--config)",
            code="proof.invalid",
        )


def require_unlinked(checkpoint: Checkpoint, out: Path) -> None:
    """Raise InputError if one of the files that the checkpoint is read from is a link into `out`."""
    folders = (checkpoint.folder, *checkpoint.replaced.values())
    for file in (folder.path / name for folder in folders for name in folder.used):
        if lies_in(file, out):
            raise InputError(f"the source's file {file} is a link into the output {out}; choose another output")


def require_sampling(contract: Contract, where: str) -> None:
    """Raise ConfigError if the default sampler cannot walk the schedule, in the steps of `run` or of the reference."""
    for steps in {min(contract.defaults.steps, MAX_SAMPLE_STEPS), LARGE_STEPS, STEPS}:
        try:
            compile_plan(contract.schedule, contract.defaults.parsed_sampler, steps)
        except InputError as error:
            raise ConfigError(f"{where} cannot be sampled by {contract.defaults.sampler!r}: {error}") from None


def require_stages_to_fit(checkpoint: Checkpoint, max_memory: int | None) -> None:
    """Raise ExportError if the largest stage would need more than `max_memory` bytes (None: what the machine has)."""
    needs = memory_needs(checkpoint)
    stage = max(needs, key=lambda name: needs[name])
    require_memory(f"building {checkpoint.path}: {stage}", needs[stage], max_memory)


def memory_needs(checkpoint: Checkpoint) -> dict[str, int]:
    """Estimate the peak bytes of each stage's process, from the weights' headers alone."""
    specs = checkpoint.specs
    needs = {f"exporting {name}": estimate_memory(checkpoint, name) for name in specs}
    for part in checkpoint.tensors:
        needs[f"computing the reference of {part}"] = reference.estimate_memory(checkpoint, part) + FIXED_BYTES
    memories = [
        weight_memory((each.count, each.count * safetensors.DTYPES[each.dtype].itemsize) for each in tensors.values())
        for tensors in checkpoint.tensors.values()
    ]
    mapped = max((each.own + each.mapped for each in memories if each.mapped), default=0)  # they rest in turn
    running = mapped + sum(each.own for each in memories if not each.mapped)
    return {**needs, "running all components": running + FIXED_BYTES}


def _export(
    checkpoint: Checkpoint, recipe: BuildRecipe, folder: Path, report: BuildReport, say: Progress
) -> dict[str, ExportReport]:
    """Export every component: the canonical graph, then the artefact for ONNX Runtime's CPU, on the same weights.

    One process exports all, one after the other: to import torch and its exporter takes seconds.
    """
    outcome = run_isolated(export_components, checkpoint, folder, progress=say)
    report.stages.append(outcome.stage("export"))
    for name, spec in checkpoint.specs.items():
        canonical, fused = folder / name / GRAPH_FILE, folder / name / ORT_CPU_FILE
        say(f"{name}: optimising {canonical.name}")
        reports = [(canonical, _optimise_canonical(canonical, recipe, report))]
        say(f"{name}: optimising {fused.name}")
        reports += [(fused, optimise(canonical, fused, ort_cpu_passes(spec.factors)))]
        report.passes += [(f"{name}/{out.name}", each) for out, passes in reports for each in passes]
    return {each.component: each for each in outcome.value}


def _optimise_canonical(graph: Path, recipe: BuildRecipe, report: BuildReport) -> list[PassReport]:
    """Run the recipe's passes of other projects in a process of their own: they print, and may crash."""
    if not recipe.passes:
        return optimise(graph, graph, CANONICAL_PASSES)
    passes = (*CANONICAL_PASSES, *(OPTIONAL_PASSES[name] for name in recipe.passes))
    outcome = run_isolated(optimise, graph, graph, passes)
    report.stages.append(outcome.stage(f"optimise {graph.parent.name}"))
    reports: list[PassReport] = outcome.value
    return reports


def _check_targets(
    checkpoint: Checkpoint, contract: Contract, recipe: BuildRecipe, where: Path, max_memory: int | None
) -> dict[str, Any]:
    """Check every target that is asked for, and return its work, in the table's order."""
    parameters = {part: checkpoint.parameter_count(part) for part in checkpoint.family.parts}
    return {
        name: target.check(Order(contract, parameters, recipe.precision, recipe.options_of(name), where, max_memory))
        for name, target in TARGETS.items()
        if name in recipe.targets
    }


def _prove(checkpoint: Checkpoint, folder: Path, manifest: Manifest, report: BuildReport, say: Progress) -> Manifest:
    outcome = run_isolated(write_reference, checkpoint, folder, manifest, progress=say)
    report.stages.append(outcome.stage("reference"))
    manifest = with_files(folder, manifest)
    return with_proof(folder, manifest, _prove_with(AUTO, folder, manifest, report, say))


def _lossy_methods(recipe: BuildRecipe, prompts: Path | None, say: Progress) -> tuple[str, ...]:
    """Return the lossy methods to try, none without a budget."""
    if recipe.parsed_budget.value is None:
        if prompts is not None:
            raise InputError(f"the prompts {prompts} are for a budget; add --budget, such as psnr=35")
        return ()
    if prompts is not None:
        read_prompts(prompts)  # before anything is fetched
    return choose_methods(recipe.lossy, say)


def _make_variants(
    folder: Path,
    manifest: Manifest,
    recipe: BuildRecipe,
    methods: tuple[str, ...],
    prompts: Prompts,
    report: BuildReport,
    say: Progress,
) -> Manifest:
    """Make what is within the budget, and add its proof to that of what is exact."""
    made = make_variants(folder, manifest, recipe.parsed_budget, methods, prompts, say)
    report.stages += made.stages
    report.variants += made.kept
    outcome = run_isolated(prove_variants, folder, made.manifest, proven=report.proofs[0], progress=say)
    report.stages.append(outcome.stage("verify variants"))
    report.proofs[0] = outcome.value
    _require_passed(outcome.value)
    return made.manifest


def _prove_with(engine: str, folder: Path, manifest: Manifest, report: BuildReport, say: Progress) -> Report:
    outcome = run_isolated(prove_package, folder, manifest, engine=engine, progress=say)
    proof: Report = outcome.value
    report.stages.append(outcome.stage("verify" if engine == AUTO else f"verify with {engine}"))
    report.proofs.append(proof)
    _require_passed(proof)
    return proof


def _require_passed(proof: Report) -> None:
    if not proof.passed:
        raise VerificationError(
            f"what was built is not equal to the checkpoint, so no package is left: {proof.first_failure}"
        )


def _prove_target(engine: str | None, folder: Path, manifest: Manifest, report: BuildReport, say: Progress) -> None:
    """Prove a target's artefacts too, where this machine can run them."""
    if engine is None:
        return
    package = Package(folder, manifest, "", "size")
    try:
        for component in manifest.components:
            artefact_for(engine, package, component)
    except EngineUnavailable as error:
        say(f"{engine} is not run here, so what was built for it is not compared with the reference: {error}")
        return
    _prove_with(engine, folder, manifest, report, say)
