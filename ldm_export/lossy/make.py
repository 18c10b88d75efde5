"""Makes a package's variants: each lossy method is measured, and kept where it is within the budget."""

import math
from collections.abc import Callable, Iterable, Sequence
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
from ldm_export.lossy.trials import shortfall
from ldm_export.package.write import with_artefacts
from ldm_export.process.isolate import StageCost, run_isolated
from ldm_runtime.budget import Budget, read_budget
from ldm_runtime.errors import EngineUnavailable, InputError, LdmError, PackageError
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.variants import Variant

MOST_TIMES = 3  # that a method is made
ROUNDED = 0.5  # dB more than was missing: images do not follow a margin to the digit


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
    say(f"lossy: drawing {len(calibration.prompts)} calibrating prompts exactly")
    exact, feeds = result.run("calibrating prompts", draw_recorded, folder, manifest, calibration)
    order = Order(folder, manifest, budget, calibration, exact, tuple(methods), feeds=feeds)
    held_out = held_out_setting(folder, manifest, prompts)
    say(f"lossy: drawing {len(held_out.prompts)} held-out prompts exactly")
    judge = _Judge(folder, held_out, result.run("held-out prompts", draw, folder, manifest, held_out), budget, say)
    for name in methods:
        _make(name, order, judge, result, say)
    if not result.kept:
        raise VerificationError(_unmet(budget, result.measured, result.failures))
    made = with_differences(result.manifest, [variant for _, variant in result.measured])
    result.manifest = keep(folder, manifest, made, result.kept)
    return result


def _make(name: str, order: Order, judge: "_Judge", result: Variants, say: Progress) -> None:
    """Let a method make its artefacts, and measure its drafts; those within the budget are kept, and built upon.

    Where none is, though trials were, the prompts that calibrate were the easier ones: the method is made again with
    what was missing added to its margin.
    """
    before = set(order.folder.rglob("*"))
    kept = tuple(draft for draft, variant in result.measured if variant in result.kept)
    order = replace(order, manifest=result.manifest, made=kept)
    measured: list[tuple[Draft, Variant]] = []
    for _ in range(MOST_TIMES):
        _remove(set(order.folder.rglob("*")) - before)
        try:
            made: Made = result.run(f"making {name}", LOSSY[name].make, order, progress=say)
        except LdmError as error:  # the others go on
            result.failures.append(f"{name} cannot be made: {error}")
            say(result.failures[-1])
            _remove(set(order.folder.rglob("*")) - before)
            return
        result.manifest = with_artefacts(order.folder, order.manifest, made.artefacts)
        measured = [(draft, variant) for draft in made.drafts if (variant := judge.measured(draft, result)) is not None]
        missing = [shortfall(judge.budget, variant.error) for _, variant in measured]
        if not missing or min(missing) <= 0 or not made.has_milder:
            break
        order = replace(order, margin=order.margin + min(missing) + ROUNDED)
    result.measured += measured
    result.kept += [variant for _, variant in measured if judge.holds(variant)]


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_file():
            path.unlink()


@dataclass(frozen=True)
class _Judge:
    """What drafts are measured by: held-out prompts, and the exact runs of these."""

    folder: Path
    setting: Setting
    exact: Runs
    budget: Budget
    say: Progress

    def holds(self, variant: Variant) -> bool:
        return self.budget.holds(variant.error.psnr, variant.error.ssim)

    def measured(self, draft: Draft, result: Variants) -> Variant | None:
        """Measure a draft, whose artefacts the result's manifest has; None if it cannot be drawn with."""
        self.say(f"lossy: measuring {draft.name}")
        what = f"measuring {draft.name}"
        try:
            variant: Variant = result.run(
                what, measure_variant, self.folder, result.manifest, draft, self.setting, self.exact
            )
        except LdmError as error:  # the others go on
            result.failures.append(f"{draft.name} cannot be drawn with: {error}")
            self.say(result.failures[-1])
            return None
        self.say(f"{_reached(draft, variant, self.budget)}: {'kept' if self.holds(variant) else 'left out'}")
        return variant


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
