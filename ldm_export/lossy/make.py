"""Makes a package's variants: each lossy method is measured, and kept where it is within the budget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ldm_export.errors import VerificationError
from ldm_export.lossy.measure import Runs, Setting, calibration_setting, draw, held_out_setting, measure_variant
from ldm_export.lossy.method import Draft, Made, Order, Progress
from ldm_export.lossy.prompts import Prompts
from ldm_export.lossy.table import LOSSY
from ldm_export.package.write import with_artefacts, with_files
from ldm_export.process.isolate import StageCost, run_isolated
from ldm_export.verify.variant_file import FOLDER, file_of
from ldm_runtime.budget import Budget, read_budget
from ldm_runtime.errors import EngineUnavailable, InputError, LdmError, PackageError
from ldm_runtime.package.artefacts import INTEGERS, Artefact, Difference
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.variants import Variant


@dataclass
class Variants:
    """What came of the lossy methods.

    manifest: with what was kept. measured: all that was, kept or not. failures: sentences on what could not be.
    """

    manifest: Manifest
    stages: list[StageCost] = field(default_factory=list)
    kept: list[Variant] = field(default_factory=list)
    measured: list[tuple[Draft, Variant]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def choose_methods(names: Sequence[str], say: Progress) -> tuple[str, ...]:
    """Return the methods that are named, or without a name all for speed that this machine can make and measure.

    Raises EngineUnavailable if one that is named cannot be measured here, or none can.
    """
    chosen, reasons = [], []
    for name, method in LOSSY.items():
        if name not in names if names else not method.is_for_speed:
            continue
        missing = method.missing()
        if missing is None:
            chosen.append(name)
        elif names:
            raise EngineUnavailable(f"{name} cannot be measured here: {missing}")
        else:
            reasons.append(f"{name}: {missing}")
            say(f"{name} is left out: {missing}")
    if not chosen:
        raise EngineUnavailable(f"no lossy method can be measured here: {'; '.join(reasons)}")
    return tuple(chosen)


def make_variants(
    folder: Path, manifest: Manifest, budget: Budget, methods: Sequence[str], prompts: Prompts, say: Progress
) -> Variants:
    """Make and measure the variants of a proven package in the making, and note those within the budget.

    Raises:
        PackageError: the package has not passed verification.
        VerificationError: none is within the budget; it says what each reached.
    """
    if not manifest.proof.passed:
        raise PackageError(
            f"the package {manifest.name} has not passed verification, so its {' and '.join(methods)} cannot be "
            "measured against it; build it again",
            code="proof.invalid",
        )
    result = Variants(manifest)
    calibration = calibration_setting(folder, manifest, prompts)
    exact = _exact(folder, manifest, calibration, "calibrating", result, say)
    order = Order(folder, manifest, budget, calibration, exact, tuple(methods))
    drafts = _drafts(order, result, say)
    held_out = held_out_setting(folder, manifest, prompts)
    exact = _exact(folder, manifest, held_out, "held-out", result, say)
    for draft in drafts:
        _measure(folder, draft, held_out, exact, budget, result, say)
    if not result.kept:
        raise VerificationError(_unmet(budget, result.measured, result.failures))
    made = _with_differences(result.manifest, [variant for _, variant in result.measured])
    result.manifest = _kept(folder, manifest, made, result.kept)
    return result


def _exact(folder: Path, manifest: Manifest, setting: Setting, which: str, result: Variants, say: Progress) -> Runs:
    """Draw a setting exactly, in a process of its own."""
    say(f"lossy: drawing {len(setting.prompts)} {which} prompts exactly")
    outcome = run_isolated(draw, folder, manifest, setting)
    result.stages.append(outcome.stage(f"lossy: {which} prompts"))
    runs: Runs = outcome.value
    return runs


def _drafts(order: Order, result: Variants, say: Progress) -> list[Draft]:
    """Let every method make its artefacts, which the manifest of `result` then has. Returns all drafts."""
    drafts: list[Draft] = []
    for name in order.methods:
        before = set(order.folder.rglob("*"))
        try:
            order = replace(order, manifest=result.manifest, made=tuple(drafts))
            outcome = run_isolated(LOSSY[name].make, order, progress=say)
        except LdmError as error:  # the others go on
            result.failures.append(f"{name} cannot be made: {error}")
            say(result.failures[-1])
            for path in set(order.folder.rglob("*")) - before:
                if path.is_file():
                    path.unlink()
            continue
        result.stages.append(outcome.stage(f"lossy: making {name}"))
        made: Made = outcome.value
        drafts += made.drafts
        result.manifest = with_artefacts(order.folder, result.manifest, made.artefacts)
    return drafts


def _measure(
    folder: Path,
    draft: Draft,
    setting: Setting,
    exact: Runs,
    budget: Budget,
    result: Variants,
    say: Progress,
) -> None:
    """Measure a draft on held-out prompts, and keep it if it is within the budget."""
    say(f"lossy: measuring {draft.name}")
    try:
        outcome = run_isolated(measure_variant, folder, result.manifest, draft, setting, exact)
    except LdmError as error:  # the others go on
        result.failures.append(f"{draft.name} cannot be drawn with: {error}")
        say(result.failures[-1])
        return
    result.stages.append(outcome.stage(f"lossy: measuring {draft.name}"))
    variant: Variant = outcome.value
    result.measured.append((draft, variant))
    holds = budget.holds(variant.error.psnr, variant.error.ssim)
    say(f"{_reached(draft, variant, budget)}: {'kept' if holds else 'left out'}")
    result.kept += [variant] if holds else []


def _kept(folder: Path, before: Manifest, made: Manifest, variants: Sequence[Variant]) -> Manifest:
    """Note the variants and their records. Artefacts and files that only others needed are removed.

    before: the manifest before the methods; its artefacts all stay.
    """
    components = {
        name: replace(component, artefacts=_needed(component.artefacts, before.components[name].artefacts, used))
        for name, component in made.components.items()
        for used in [{each for variant in variants for each in variant.artefacts_of(name, _denoiser(made))}]
    }
    dropped = made.files.keys() - before.files.keys()
    dropped -= {file for each in components.values() for artefact in each.artefacts for file in artefact.files}
    for file in dropped:
        (folder / file).unlink(missing_ok=True)
    records = {folder / file_of(variant.name) for variant in variants}
    for path in (folder / FOLDER).glob("*.safetensors"):
        if path not in records:
            path.unlink()
    files = {name: entry for name, entry in made.files.items() if name not in dropped}
    kept = with_files(folder, replace(made, components=components, files=files, variants=tuple(variants)))
    # The proof of what is exact stays: the same artefacts draw without a budget, from the same files.
    assert all(kept.pickable(name) == before.pickable(name) for name in components)
    assert before.files.items() <= kept.files.items()
    return kept


def _with_differences(made: Manifest, measured: Sequence[Variant]) -> Manifest:
    """Note in lossy artefacts the difference that was measured of them, by themselves if they were.

    What reads deep features makes, in one evaluation, what the graph that keeps them makes: it has the same.
    """
    found: dict[tuple[str, str], Difference] = {}
    for variant in sorted(measured, key=lambda each: -len(each.methods)):
        for name in variant.ways:
            for artefact in variant.artefacts_of(name, _denoiser(made)):
                found[name, artefact] = variant.error.components[name]
    components = {
        name: replace(
            component,
            artefacts=tuple(
                replace(each, difference=found[name, each.name])
                if each.precision in INTEGERS and (name, each.name) in found
                else each
                for each in component.artefacts
            ),
        )
        for name, component in made.components.items()
    }
    return replace(made, components=components)


def _needed(made: Sequence[Artefact], before: Sequence[Artefact], used: set[str]) -> tuple[Artefact, ...]:
    """Return the artefacts that were there before, those that are used, and the parts of these."""
    parts = {hoist.artefact for each in made if each.name in used for hoist in each.hoists}
    return tuple(each for each in made if each in before or each.name in used | parts)


def _denoiser(manifest: Manifest) -> str:
    return manifest.contract.denoiser.component


def _unmet(budget: Budget, measured: Sequence[tuple[Draft, Variant]], failures: Sequence[str]) -> str:
    """Say what was reached, and the budget that would do."""
    text = shown(budget)
    if not measured:
        return f"no lossy form could be measured for {text}: {'; '.join(failures)}; leave out --budget"
    reached = ", ".join([*(_reached(*each, budget) for each in measured), *failures])
    best = max(_figure(budget, variant) for _, variant in measured)
    lower = replace(budget, value=float(math.floor(best)) if budget.kind == "psnr" else math.floor(best * 1000) / 1000)
    instead = f"ask for {shown(lower)}, or " if _is_budget(shown(lower)) else ""
    return f"no lossy form is within {text}: {reached}; {instead}leave out --budget"


def _is_budget(text: str) -> bool:
    """Tell whether a text can be asked for."""
    try:
        read_budget(text)
    except InputError:
        return False
    return True


def _reached(draft: Draft, variant: Variant, budget: Budget) -> str:
    figure = _figure(budget, variant)
    psnr = "equal images" if math.isinf(figure) else f"{figure:.1f} dB"
    note = f" {draft.note}" if draft.note else ""
    return f"{draft.name} reached {psnr if budget.kind == 'psnr' else f'SSIM {figure:.4f}'}{note}"


def _figure(budget: Budget, variant: Variant) -> float:
    if budget.kind == "ssim":
        return variant.error.ssim
    return math.inf if variant.error.psnr is None else variant.error.psnr


def shown(budget: Budget) -> str:
    """Return a budget as a user says it."""
    return "exact" if budget.value is None else f"{budget.kind}={budget.value:g}"
