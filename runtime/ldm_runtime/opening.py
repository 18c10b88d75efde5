"""Opens a package as a pipeline: with the variant that a budget allows, and the engines that a profile has for it."""

from collections.abc import Mapping
from os import PathLike
from typing import Any, NamedTuple

from ldm_runtime.budget import Budget, read_budget
from ldm_runtime.checks import given
from ldm_runtime.engines.choice import AUTO, EngineChoice, choose
from ldm_runtime.engines.profile import Profile, read_profile
from ldm_runtime.errors import EngineError, LdmError
from ldm_runtime.notice import Notice
from ldm_runtime.package.open import Check, Package, open_package
from ldm_runtime.pipeline import BUILTIN, Pipeline, builtin_package
from ldm_runtime.variants import Chosen, VariantUnavailable, choose_variant, named_variant


class _Tuning(NamedTuple):
    """The profile that a choice of engines follows, None: none; and what is to be said of it."""

    profile: Profile | None
    notices: tuple[Notice, ...]


def open_pipeline(
    path: str | PathLike[str] | None,
    *,
    engine: str,
    threads: int | None,
    engine_options: Mapping[str, Mapping[str, Any]] | None,
    check: Check,
    budget: str = "exact",
    variant: str | None = None,
) -> Pipeline:
    """Open a package. See `ldm_runtime.load`."""
    choice = choose(engine, threads=threads, options=engine_options)
    limit = read_budget(budget)
    package = open_package(builtin_package() if path is None else path, check=check)
    choice.names(package.manifest.contract)
    try:
        if variant is not None:
            pipeline = _with_variant(package, choice, variant, limit)
        else:
            pipeline = _within(package, choice, limit)
    except LdmError:
        package.confirm()  # a damaged file is a better explanation than what an engine made of it
        raise
    package.confirm()
    return pipeline


def _with_variant(package: Package, choice: EngineChoice, name: str, budget: Budget) -> Pipeline:
    """Open with the variant of a name. Raises VariantUnavailable where it does not run."""
    tuning = _tuning_of(package, choice)
    chosen = named_variant(package, name, budget, choice)
    try:
        return _opened(package, choice, chosen, tuning)
    except VariantUnavailable as error:
        raise VariantUnavailable(f"{error}; leave it out to draw exactly") from error


def _within(package: Package, choice: EngineChoice, budget: Budget) -> Pipeline:
    """Open with the fastest variant within a budget whose engines open, or with none: exactly."""
    tuning = _tuning_of(package, choice)
    seconds = None if tuning.profile is None else tuning.profile.seconds()
    failed: dict[str, str] = {}
    while True:
        chosen = choose_variant(package, budget, choice, profile=seconds, failed=failed)
        try:
            return _opened(package, choice, chosen, tuning)
        except VariantUnavailable as error:
            failed[given(chosen.name)] = str(error.__cause__)
        # Here the engines that had opened are gone with the error, and their memory is free for the next ones.


def _tuning_of(package: Package, choice: EngineChoice) -> _Tuning:
    """Return what a choice follows: a profile only where it leaves everything to this machine."""
    if choice.text != AUTO or choice.threads is not None or choice.options:
        return _Tuning(None, ())
    command = "ldm-export tune" if package.path == BUILTIN else f"ldm-export tune {package.path}"
    profile, said = read_profile(package.identity, package.manifest.components, command)
    return _Tuning(profile, tuple(Notice("profile", sentence) for sentence in said))


def _opened(package: Package, choice: EngineChoice, chosen: Chosen, tuning: _Tuning) -> Pipeline:
    """Open with the engines and threads of a profile for the variant; if they do not run, with those of `choice`."""
    best = None if tuning.profile is None else tuning.profile.of(chosen.name or "")
    notices = (*tuning.notices, *chosen.notices)
    if best is not None and (best.engines or best.threads is not None):
        try:
            return Pipeline(package, best.choice(), variant=chosen.variant, notices=notices)
        except EngineError as error:
            what = f"what `ldm-export tune` chose does not run now, and the usual engines do instead: {error}"
            notices = (*notices, Notice("profile", what))
    return Pipeline(package, choice, variant=chosen.variant, notices=notices)
