"""Makes a package's variants: each lossy method is measured, and kept where it is within the budget."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ldm_export.errors import VerificationError
from ldm_export.lossy.keep import keep, with_differences
from ldm_export.lossy.measure import (
    Runs,
    Setting,
    calibration_setting,
    draw,
    draw_recorded,
    held_out_setting,
    measure_variant,
)
from ldm_export.lossy.method import Draft, Made, Order, Progress
from ldm_export.lossy.prompts import Prompts
from ldm_export.lossy.table import LOSSY
from ldm_export.package.write import with_artefacts
from ldm_export.process.isolate import StageCost, run_isolated
from ldm_runtime.budget import Budget, read_budget
from ldm_runtime.errors import EngineUnavailable, InputError, LdmError, PackageError
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

    def run(self, what: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function in a process of its own, and note what that took."""
        outcome = run_isolated(function, *args, **kwargs)
        self.stages.append(outcome.stage(f"lossy: {what}"))
        return outcome.value


def choose_methods(names: Sequence[str], say: Progress) -> tuple[str, ...]:
    """Return the methods that are named, or without a name all that this machine can make and measure.

    Raises EngineUnavailable if one that is named cannot be measured here, or none can.
    """
    chosen, reasons = [], []
    for name, method in LOSSY.items():
        if names and name not in names:
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
    say(f"lossy: drawing {len(calibration.prompts)} calibrating prompts exactly")
    exact, feeds = result.run("calibrating prompts", draw_recorded, folder, manifest, calibration)
    order = Order(folder, manifest, budget, calibration, exact, tuple(methods), feeds=feeds)
    drafts = _drafts(order, result, say)
    held_out = held_out_setting(folder, manifest, prompts)
    say(f"lossy: drawing {len(held_out.prompts)} held-out prompts exactly")
    exact = result.run("held-out prompts", draw, folder, manifest, held_out)
    for draft in drafts:
        _measure(folder, draft, held_out, exact, budget, result, say)
    if not result.kept:
        raise VerificationError(_unmet(budget, result.measured, result.failures))
    made = with_differences(result.manifest, [variant for _, variant in result.measured])
    result.manifest = keep(folder, manifest, made, result.kept)
    return result


def _drafts(order: Order, result: Variants, say: Progress) -> list[Draft]:
    """Let every method make its artefacts, which the manifest of `result` then has. Returns all drafts."""
    drafts: list[Draft] = []
    for name in order.methods:
        before = set(order.folder.rglob("*"))
        try:
            order = replace(order, manifest=result.manifest, made=tuple(drafts))
            made: Made = result.run(f"making {name}", LOSSY[name].make, order, progress=say)
        except LdmError as error:  # the others go on
            result.failures.append(f"{name} cannot be made: {error}")
            say(result.failures[-1])
            for path in set(order.folder.rglob("*")) - before:
                if path.is_file():
                    path.unlink()
            continue
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
        variant: Variant = result.run(
            f"measuring {draft.name}", measure_variant, folder, result.manifest, draft, setting, exact
        )
    except LdmError as error:  # the others go on
        result.failures.append(f"{draft.name} cannot be drawn with: {error}")
        say(result.failures[-1])
        return
    result.measured.append((draft, variant))
    holds = budget.holds(variant.error.psnr, variant.error.ssim)
    say(f"{_reached(draft, variant, budget)}: {'kept' if holds else 'left out'}")
    result.kept += [variant] if holds else []


def _unmet(budget: Budget, measured: Sequence[tuple[Draft, Variant]], failures: Sequence[str]) -> str:
    """Say what was reached, and the budget that would do."""
    if not measured:
        return f"no lossy form could be measured for {budget.text}: {'; '.join(failures)}; leave out --budget"
    reached = ", ".join([*(_reached(*each, budget) for each in measured), *failures])
    best = max(_figure(budget, variant) for _, variant in measured)
    lower = replace(budget, value=float(math.floor(best)) if budget.kind == "psnr" else math.floor(best * 1000) / 1000)
    instead = f"ask for {lower.text}, or " if _is_budget(lower.text) else ""
    return f"no lossy form is within {budget.text}: {reached}; {instead}leave out --budget"


def _is_budget(text: str) -> bool:
    """Tell whether a text can be asked for."""
    try:
        read_budget(text)
    except InputError:
        return False
    return True


def _reached(draft: Draft, variant: Variant, budget: Budget) -> str:
    note = f" {draft.note}" if draft.note else ""
    return f"{draft.name} reached {budget.reached(variant.error.psnr, variant.error.ssim)}{note}"


def _figure(budget: Budget, variant: Variant) -> float:
    if budget.kind == "ssim":
        return variant.error.ssim
    return math.inf if variant.error.psnr is None else variant.error.psnr
