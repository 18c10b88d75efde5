"""The choice among a package's variants: the fastest that is within the user's budget and runs on this machine."""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType

from ldm_runtime.budget import Budget
from ldm_runtime.checks import exact, rounded_down, shown
from ldm_runtime.engines.choice import AUTO, EngineChoice, artefact_named, asked_precision
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.engines.units import NAMES, cpu_units, describe_units
from ldm_runtime.errors import EngineUnavailable, InputError
from ldm_runtime.notice import Notice
from ldm_runtime.package.artefacts import Precision
from ldm_runtime.package.open import Package
from ldm_runtime.package.variants import MeasuredError, Variant, VariantRun, Way
from ldm_runtime.request import Request
from ldm_runtime.sampling.solvers import read_sampler


class VariantUnavailable(EngineUnavailable):
    """A variant does not run here; the package may, with another one or exactly."""


@dataclasses.dataclass(frozen=True)
class Abilities:
    """What a way may need of a machine.

    units: of its CPU. missing: what it lacks to run an engine, or None. missing_for: what it lacks to compute with an
    engine in a precision that is not the artefact's, or None.
    """

    units: Collection[str]
    missing: Callable[[str], str | None]
    missing_for: Callable[[str, Precision], str | None]


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The variant to draw with, None: none, exactly; and what the user should know of the choice."""

    variant: Variant | None
    notices: tuple[Notice, ...]

    @property
    def name(self) -> str | None:
        return None if self.variant is None else self.variant.name


def abilities_here() -> Abilities:
    """Return those of this machine."""
    return Abilities(
        cpu_units(),
        lambda engine: ENGINES[engine].missing(),
        lambda engine, precision: ENGINES[engine].missing_for(precision),
    )


def choose_variant(
    package: Package,
    budget: Budget,
    choice: EngineChoice,
    able: Abilities | None = None,
    profile: Mapping[str, float] | None = None,
    failed: Mapping[str, str] = MappingProxyType({}),
) -> Chosen:
    """Choose the fastest variant that is within the budget and can run; none if drawing exactly is as fast.

    able: None is this machine's. profile: seconds of an image here by variant, "" of the exact one; of what is not in
    it, and without one, the order is that of the machine that built the package. failed: why a variant did not open, by
    its name. An engine of `choice` by name excludes variants that run its components with another.
    """
    if budget.value is None:
        return Chosen(None, ())
    variants = package.manifest.variants
    if not variants:
        return _exactly("this package has no variants (`ldm-export build --budget` makes them): drawn exactly")
    within = [each for each in variants if budget.holds(each.error.psnr, each.error.ssim)]
    if not within:
        return _exactly(
            f"no variant of this package is within {budget.text} ({_best(variants, budget)}): drawn exactly"
        )
    seconds = _estimates(package, profile)
    here = abilities_here() if able is None else able
    passed_over: list[Notice] = []
    for variant in sorted(within, key=lambda each: seconds[each.name]):
        name = variant.name
        reason = _no_gain(seconds, name) or failed.get(name) or why_not(variant, package, choice, here)
        if reason is None:
            return Chosen(variant, (*passed_over, _claim(variant)))
        passed_over.append(Notice("variant", f"{name} is left out: {reason}"))
    return Chosen(
        None, (*passed_over, *_exactly(f"no variant within {budget.text} is of use here: drawn exactly").notices)
    )


def named_variant(
    package: Package, name: object, budget: Budget, choice: EngineChoice, able: Abilities | None = None
) -> Chosen:
    """Return the variant of a name, with what it costs.

    Raises:
        InputError: the package does not have it, or a budget is given that it does not hold.
        VariantUnavailable: it cannot run on this machine, or not with the engine that was named.
    """
    known = {variant.name: variant for variant in package.manifest.variants}
    if not isinstance(name, str) or name not in known:
        none = "this package has none (`ldm-export build --budget` makes them)"
        expected = f"expected one of {', '.join(known)}" if known else none
        raise InputError(f"variant is {shown(name)}; {expected}")
    variant = known[name]
    if budget.value is not None and not budget.holds(variant.error.psnr, variant.error.ssim):
        raise InputError(f"variant {name} is not within {budget.text}: {_reached(variant, budget)}")
    reason = why_not(variant, package, choice, abilities_here() if able is None else able)
    if reason is not None:
        raise VariantUnavailable(f"the variant {name} does not run here: {reason}; leave it out to draw exactly")
    return Chosen(variant, (_claim(variant),))


def why_not(variant: Variant, package: Package, choice: EngineChoice, able: Abilities) -> str | None:
    """Return the first reason why a variant cannot run, or None."""
    named = choice.names(package.manifest.contract)
    for component, way in variant.ways.items():
        if named[component] not in (AUTO, way.engine):
            return f"it runs {component} with {way.engine}, but engine is {choice.text}"
        reason = _lacks(way, package, component, able)
        if reason is not None:
            return reason
    return None


def measured_otherwise(variant: Variant, request: Request) -> list[Notice]:
    """Say where a run has other settings than those that the variant's error was measured at."""
    error, run = variant.error, variant.run
    steps = error.steps if run.steps is None else run.steps
    sampler = _canonical(error.sampler if run.sampler is None else run.sampler)
    others = []
    if request.plan.steps != steps:
        others.append(f"{steps} steps")
    if request.plan.sampler.canonical != sampler:
        others.append(f"the sampler {sampler}")
    if request.guidance != _guidance(error, run):
        others.append(f"guidance {exact(_guidance(error, run))}")
    if request.is_guided and run.guidance_until > 0 and request.guidance_interval != (0.0, run.guidance_until):
        others.append(f"guidance from 0 to {exact(run.guidance_until)} of the run")
    if (request.width, request.height) != error.size:
        others.append("{}x{} pixels".format(*error.size))
    if request.strength is not None:
        others.append("a prompt without an image")
    if not others:
        return []
    listed = ", ".join(others)
    return [Notice("variant", f"the error of {variant.name} was measured with {listed}; of this run it is not known")]


def _lacks(way: Way, package: Package, component: str, able: Abilities) -> str | None:
    if way.engine not in ENGINES:
        return f"it runs {component} with {way.engine}, which this version does not know"
    missing = able.missing(way.engine)
    if missing is not None:
        return f"{way.engine} does not run here: {missing}"
    absent = [unit for unit in way.units if unit not in able.units]
    if absent:
        needed = ", ".join(NAMES.get(unit, unit) for unit in absent)
        return f"it needs a CPU with {needed}; this one has {describe_units(able.units)}"
    precision = asked_precision(way, artefact_named(package, component, way.artefact))
    return None if precision is None else able.missing_for(way.engine, precision)


def _estimates(package: Package, profile: Mapping[str, float] | None) -> dict[str, float]:
    """Return seconds of an image by variant, or shares of the exact one's, which is ""."""
    whole = 1.0 if profile is None else profile.get("", 0.0)
    measured = profile if profile is not None and whole > 0 else {}
    unit = whole if measured else 1.0
    return {"": unit, **{each.name: measured.get(each.name, unit * each.time) for each in package.manifest.variants}}


def _no_gain(seconds: Mapping[str, float], name: str) -> str | None:
    """Say that a variant takes no less time than drawing exactly, or None."""
    if math.isinf(seconds[name]):
        return "the profile of this machine has no gain by it"
    return None if seconds[name] < seconds[""] else "drawing exactly is as fast"


def _claim(variant: Variant) -> Notice:
    error, count = variant.error, variant.error.prompts.count
    likeness = f"all of {count} images were equal to the exact ones"
    if error.psnr is not None:
        figures = f"{rounded_down(error.psnr, 2)} dB (SSIM {rounded_down(error.ssim, 4)})"
        likeness = f"the worst of {count} images was {figures} from the exact one"
    text = f"the variant {variant.name} draws: {likeness}, at {error.steps} steps; budget exact draws without it"
    return Notice("variant", text)


def _exactly(text: str) -> Chosen:
    return Chosen(None, (Notice("budget", text),))


def _best(variants: Iterable[Variant], budget: Budget) -> str:
    """Say which variant comes nearest to a budget, and how near."""
    best = max(variants, key=lambda each: each.error.ssim if budget.kind == "ssim" else each.error.psnr or 0.0)
    return f"{best.name} reaches {_reached(best, budget)}"


def _reached(variant: Variant, budget: Budget) -> str:
    return budget.reached(variant.error.psnr, variant.error.ssim)


def _canonical(sampler: str) -> str:
    """Return the canonical name of a sampler; one that is not known here keeps its own."""
    try:
        return read_sampler(sampler).canonical
    except InputError:
        return sampler


def _guidance(error: MeasuredError, run: VariantRun) -> float:
    return 1.0 if run.guidance_until == 0 else error.guidance
