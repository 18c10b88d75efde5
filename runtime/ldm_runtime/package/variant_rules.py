"""Rules of variants: names that are there, something that is given up for the time, and figures that can be."""

import functools
from typing import TYPE_CHECKING

from ldm_runtime.checks import shown
from ldm_runtime.package.artefacts import INTEGERS
from ldm_runtime.package.contract_rules import MAX_GUIDANCE, check_plan
from ldm_runtime.package.interface_rules import misfit, outputs_of
from ldm_runtime.package.values import (
    MAX_BYTES,
    MAX_SIDE,
    check_amount,
    check_between,
    check_digest,
    check_label,
    check_name,
    check_short_names,
    check_span,
    fail,
    is_engine_name,
)
from ldm_runtime.sampling.plan import MAX_INTERVAL

if TYPE_CHECKING:
    from ldm_runtime.package.artefacts import Artefact
    from ldm_runtime.package.manifest import Manifest
    from ldm_runtime.package.variants import Caching, MeasuredError, Variant, VariantRun, Way

MAX_VARIANTS = 64  # each is looked at for each artefact
_MAX_PROMPTS = 2**16
_MAX_SEED = 2**62  # what is larger is no number that every program reads
_MAX_STEPS = 2**16  # evaluations of a run that was measured
_MAX_PSNR = 200
_MAX_TIME = 10**9  # of a run, in that of the exact one: what is drawn beside it in a plot
_CODE = "manifest.variant"
_refuse = functools.partial(fail, code=_CODE)


def check_variants(manifest: "Manifest", where: str) -> None:
    """Check the variants, and that no artefact is drawn with unsaid whose error only a variant could have."""
    variants = f"{where}.variants"
    names = [variant.name for variant in manifest.variants]
    if len(names) > MAX_VARIANTS:
        _refuse(variants, f"has {len(names)} variants; expected {MAX_VARIANTS} at most")
    for name in names:
        check_label(name, f"{variants}[{shown(name)}].name", _CODE)
    if len(set(names)) != len(names):
        _refuse(variants, f"has the names {', '.join(sorted(names))}; expected each once")
    for variant in manifest.variants:
        _check_variant(variant, manifest, f"{variants}[{shown(variant.name)}]")
    for name in manifest.components:
        for artefact in manifest.pickable(name):
            if artefact.needs_variant:
                here = f"{where}.components[{shown(name)}].artefacts[{shown(artefact.name)}]"
                what = f"is in {artefact.precision}" if artefact.precision in INTEGERS else "has merged tokens"
                _refuse(here, f"{what}, but no variant names it; expected one with its error")


def _check_variant(variant: "Variant", manifest: "Manifest", where: str) -> None:
    if not variant.methods:
        _refuse(f"{where}.methods", "is empty")
    check_short_names(variant.methods, "int8", f"{where}.methods", _CODE)
    is_lossy = [
        _check_way(component, way, variant.run.caching, manifest, f"{where}.ways[{shown(component)}]")
        for component, way in variant.ways.items()
    ]
    _check_run(variant.run, manifest, f"{where}.run")
    run = variant.run
    gives_up = (run.caching, run.steps, run.sampler) != (None, None, None) or run.guidance_until < 1
    if not any(is_lossy) and not gives_up:
        _refuse(where, "is exact; expected a lossy way, caching, guidance_until below 1, steps or a sampler")
    _check_error(variant, variant.error, manifest, f"{where}.error")
    if not 0 < variant.time <= _MAX_TIME:
        expected = f"more than 0 and at most {_MAX_TIME}"
        fail(f"{where}.time", f"is {variant.time}; expected {expected}", "manifest.range")
    check_between(variant.bytes, 0, MAX_BYTES, f"{where}.bytes")


def _check_way(component: str, way: "Way", caching: "Caching | None", manifest: "Manifest", where: str) -> bool:
    """Return whether a way is lossy."""
    if component not in manifest.components:
        _refuse(where, "is for no component of the package")
    if not is_engine_name(way.engine):
        _refuse(f"{where}.engine", f"is {shown(way.engine)}; expected an engine such as 'openvino' or 'ort:cuda'")
    check_short_names(way.units, "avx512_bf16", f"{where}.units", _CODE)
    artefact = _named(component, way.artefact, manifest, f"{where}.artefact")
    is_cached = caching is not None and component == manifest.contract.denoiser.component
    if is_cached and caching is not None and way.artefact != caching.keeps:
        _refuse(f"{where}.artefact", f"is {shown(way.artefact)}; expected {shown(caching.keeps)}, which caching keeps")
    _require_fit(component, artefact, None, manifest, f"{where}.artefact")
    if way.precision in INTEGERS and way.precision != artefact.precision:
        expected = f"{artefact.precision} as the artefact's, or a precision of floating point"
        _refuse(f"{where}.precision", f"is {way.precision}; expected {expected}")
    return artefact.exactness == "lossy" or way.precision != artefact.precision


def _named(component: str, name: str, manifest: "Manifest", where: str) -> "Artefact":
    for artefact in manifest.components[component].artefacts:
        if artefact.name == name:
            return artefact
    fail(where, f"is {shown(name)}, which {component} does not have", _CODE)


def _require_fit(
    component: str, artefact: "Artefact", kept: "Artefact | None", manifest: "Manifest", where: str
) -> None:
    """Require that an artefact runs as the component; kept: the artefact whose outputs it may read, too."""
    given = () if kept is None else outputs_of(kept)
    problem = misfit(artefact, manifest.contract.components[component], given)
    if problem is not None:
        _refuse(where, f"is {shown(artefact.name)}, which {problem}")


def _check_run(run: "VariantRun", manifest: "Manifest", where: str) -> None:
    if run.caching is not None:
        _check_caching(run.caching, manifest, f"{where}.caching")
    check_span(run.guidance_until, 0, 1, f"{where}.guidance_until")
    check_plan(manifest.contract, run.steps, run.sampler, where)


def _check_caching(caching: "Caching", manifest: "Manifest", where: str) -> None:
    check_between(caching.interval, 2, MAX_INTERVAL, f"{where}.interval")
    denoiser = manifest.contract.denoiser.component
    keeps = _named(denoiser, caching.keeps, manifest, f"{where}.keeps")
    reads = _named(denoiser, caching.reads, manifest, f"{where}.reads")
    _require_fit(denoiser, keeps, None, manifest, f"{where}.keeps")
    _require_fit(denoiser, reads, keeps, manifest, f"{where}.reads")
    kept = set(outputs_of(keeps)) - set(manifest.contract.components[denoiser].outputs)
    read = () if reads.interface is None else reads.interface.inputs
    if not kept.intersection(read):
        _refuse(f"{where}.reads", f"is {shown(reads.name)}, which reads nothing that {shown(keeps.name)} keeps")


def _check_error(variant: "Variant", error: "MeasuredError", manifest: "Manifest", where: str) -> None:
    for component in error.components:
        if component not in manifest.components:
            _refuse(f"{where}.components[{shown(component)}]", "is for no component of the package")
    for component, difference in error.components.items():
        here = f"{where}.components[{shown(component)}]"
        check_amount(difference.relative_rms, f"{here}.relative_rms")
        check_amount(difference.max_abs, f"{here}.max_abs")
    for component in variant.ways:
        if component not in error.components:
            _refuse(f"{where}.components", f"lacks {shown(component)}, which has a way of its own")
    if not error.latents:
        _refuse(f"{where}.latents", "is empty")
    for value in error.latents:
        check_amount(value, f"{where}.latents")
    if error.psnr is not None:
        check_span(error.psnr, 0, _MAX_PSNR, f"{where}.psnr")
    check_span(error.ssim, -1, 1, f"{where}.ssim")
    _check_measured(error, where)


def _check_measured(error: "MeasuredError", where: str) -> None:
    """Check what a variant was measured with."""
    check_digest(error.prompts.sha256, f"{where}.prompts.sha256")
    check_between(error.prompts.count, 1, _MAX_PROMPTS, f"{where}.prompts.count")
    check_between(error.worst, 0, error.prompts.count - 1, f"{where}.worst")
    first, last = error.seeds
    check_between(first, 0, _MAX_SEED, f"{where}.seeds[0]")
    check_between(last, first, _MAX_SEED, f"{where}.seeds[1]")
    check_between(error.steps, 1, _MAX_STEPS, f"{where}.steps")
    check_name(error.sampler, f"{where}.sampler")
    check_span(error.guidance, 0, MAX_GUIDANCE, f"{where}.guidance")
    for index, side in enumerate(error.size):
        check_between(side, 1, MAX_SIDE, f"{where}.size[{index}]")
    check_short_names(error.units, "avx512_vnni", f"{where}.units", _CODE)
    for tool, version in error.versions.items():
        check_name(tool, f"{where}.versions")
        check_name(version, f"{where}.versions[{shown(tool)}]")
