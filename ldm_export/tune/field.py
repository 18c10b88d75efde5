"""Who takes part in a race: the engines and variants of a package that run on this machine, and why others do not."""

import dataclasses

from ldm_export.tune.candidates import Candidate, VariantHere, candidates, loss_of
from ldm_runtime.budget import Budget
from ldm_runtime.engines.choice import artefact_for, artefact_named, automatic_engines, choose
from ldm_runtime.engines.profile import Machine
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.errors import EngineUnavailable
from ldm_runtime.package.artefacts import Artefact
from ldm_runtime.package.open import Package
from ldm_runtime.package.variants import Variant
from ldm_runtime.variants import abilities_here, why_not

ON_CPU = ("ort", "openvino")  # the engines that threads are for


def field_of(package: Package, budget: Budget | None, machine: Machine) -> tuple[list[Candidate], tuple[str, ...]]:
    """Return the candidates for a package, the default first, and sentences on what is left out.

    budget: of the variants; None: any.
    """
    engines, other_engines = exact_engines(package)
    variants, other_variants = variants_here(package, budget, machine)
    automatic: dict[str, str] = {}
    for component in package.manifest.contract.components:
        name = next(automatic_engines(choose(), package, component), None)
        automatic |= {} if name is None else {component: name}
    field = candidates(automatic, engines, variants, cores=machine.cores, on_cpu=ON_CPU)
    return field, (*other_engines, *other_variants)


def exact_engines(package: Package) -> tuple[list[str], tuple[str, ...]]:
    """Return the engines that draw all components exactly here, and why others that are installed do not."""
    names, left_out = [], []
    for name, kind in ENGINES.items():
        if kind.missing() is not None:
            continue
        trouble = _inexact(package, name)
        if trouble is None:
            names.append(name)
        else:
            left_out.append(trouble)
    return names, tuple(left_out)


def variants_here(
    package: Package, budget: Budget | None, machine: Machine
) -> tuple[list[VariantHere], tuple[str, ...]]:
    """Return the variants within a budget that run here, those first that were the fastest where they were made."""
    fits, left_out = [], []
    for variant in sorted(package.manifest.variants, key=lambda each: each.time):
        trouble = _missing(package, variant, budget, machine)
        if trouble is None:
            ways = {component: way.engine for component, way in variant.ways.items()}
            fits.append(VariantHere(variant.name, loss_of(variant.error.psnr), ways))
        else:
            left_out.append(f"{variant.name} is left out: {trouble}")
    return fits, tuple(left_out)


def files_of(package: Package, variant: Variant | None, engines: dict[str, str]) -> set[str]:
    """Return the files that are read where each component runs in its engine, as a variant has it."""
    denoiser = package.manifest.contract.denoiser.component
    files: set[str] = set()
    for component, engine in engines.items():
        names = set() if variant is None else variant.artefacts_of(component, denoiser)
        own = [artefact_named(package, component, name) for name in names]
        files |= {file for each in own or [artefact_for(engine, package, component)] for file in each.files}
    return files


def _inexact(package: Package, name: str) -> str | None:
    """Say what of a package an engine does not draw exactly, as a sentence, or None."""
    for component in package.manifest.components:
        try:
            artefact: Artefact = artefact_for(name, package, component)
        except EngineUnavailable as error:
            return f"{name} is left out: {error}"
        if artefact.exactness == "lossy":
            return (
                f"{name} is left out: its {component} is a form in {artefact.precision}, which no variant has measured"
            )
    return None


def _missing(package: Package, variant: Variant, budget: Budget | None, machine: Machine) -> str | None:
    """Say why a variant is not measured here, as half a sentence, or None."""
    error = variant.error
    if budget is not None and not budget.holds(error.psnr, error.ssim):
        if budget.value is None:
            return "the budget exact takes nothing lossy"
        return f"it is not within {budget.text}: {budget.reached(error.psnr, error.ssim)}"
    return why_not(variant, package, choose(), dataclasses.replace(abilities_here(), units=machine.units))
