"""The tuning of a package: every configuration that runs here is raced, and what won is written as its profile."""

import dataclasses
import datetime
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ldm_export.bench import machine as shown_machine
from ldm_export.tune.candidates import EXACT
from ldm_export.tune.field import field_of, files_of
from ldm_export.tune.frontier import NO_TURN, Row
from ldm_export.tune.measure import measure, parts_of, variant_of
from ldm_export.tune.race import ENOUGH, Timed, fastest, is_undecided, mixed, race
from ldm_export.tune.report import TuneReport
from ldm_runtime.budget import Budget
from ldm_runtime.engines.profile import (
    FOLDER,
    SCHEMA_VERSION,
    Best,
    Machine,
    Measured,
    Profile,
    place_of,
    this_machine,
)
from ldm_runtime.errors import InputError, LdmError, OutputError
from ldm_runtime.files import strict_json
from ldm_runtime.files.atomic import atomic_file, refuse_existing
from ldm_runtime.files.hash_cache import make_cache_folder
from ldm_runtime.package.open import Package, open_package
from ldm_runtime.request import check_image_size

MAX_MINUTES = 24 * 60.0
MINUTES = 10.0

Progress = Callable[[str], None]


def tune_package(
    path: Path,
    *,
    budget: Budget | None = None,
    minutes: float = MINUTES,
    size: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> TuneReport:
    """Measure what the package in `path` can be drawn with on this machine, and write what won as its profile.

    budget: which variants are measured beside what is exact; None: all. size: of the image, None: the package's. The
    profile that was there before stays until the end, whatever comes between, and if the time was too short to choose.
    One that cannot be written in the end is said in the report, which has all that was measured.

    Raises:
        InputError: minutes or a size that cannot be.
        PackageError: no package there, or a damaged one.
        OutputError: the user's cache folder takes no files, or not this one.
        LdmError: nothing that was tried runs here.
    """
    if not 0 < minutes <= MAX_MINUTES:  # NaN too
        raise InputError(f"minutes is {minutes:g}; expected more than 0 and at most {MAX_MINUTES:g}")
    say = progress if progress is not None else lambda text: None
    package = open_package(path)
    image = package.manifest.contract.image
    size = (image.width, image.height) if size is None else size
    check_image_size(package.manifest.contract, *size, "the size")
    here = this_machine()
    place = _place(package, here)
    package.confirm()
    field, left_out = field_of(package, budget, here)
    say(f"tune: {len(field)} configurations in at most {minutes:g} minutes")
    timed = race(
        field,
        functools.partial(measure, path, size),
        seconds=60.0 * minutes,
        propose=functools.partial(mixed, parts=parts_of(package)),
        say=lambda text: say(f"tune: {text}"),
    )
    package.confirm()  # the processes opened the files anew
    profile = _profile(package, here, size, timed)
    if is_undecided(timed):  # a profile of before may rest on more
        return _report(package, profile, timed, minutes, None, (*left_out, _too_short(timed)))
    report = _report(package, profile, timed, minutes, str(place), left_out)
    try:
        with atomic_file(place) as temporary:
            temporary.write_text(json.dumps(strict_json.plain(profile), indent=1) + "\n", encoding="utf-8")
    except OutputError as error:  # what was measured is to be seen all the same
        return dataclasses.replace(report, profile=None, unkept=f"no profile is kept: {error}")
    return report


def _report(
    package: Package,
    profile: Profile,
    timed: Sequence[Timed],
    minutes: float,
    place: str | None,
    notices: tuple[str, ...],
) -> TuneReport:
    return TuneReport(
        package=package.manifest.name,
        machine=shown_machine(),
        size=profile.size,
        steps=profile.steps,
        minutes=minutes,
        default_seconds=profile.default_seconds,
        rows=tuple(_row(package, each) for each in timed),
        chosen=profile.chosen,
        profile=place,
        unkept=None,
        notices=notices,
    )


def _too_short(timed: Sequence[Timed]) -> str:
    begun = sum(1 for each in timed if each.timings or each.trouble is not None)
    return (
        f"in this time {begun} of {len(timed)} configurations had a turn and nothing had {ENOUGH}, which a choice "
        "needs, so that no profile is written; give more --minutes"
    )


def choices(timed: Sequence[Timed]) -> tuple[Best, ...]:
    """Return the fastest exact configuration, and that of each variant that beats the default, the first of `timed`.

    Raises LdmError if nothing ran.
    """
    default = timed[0]
    best = []
    for name in dict.fromkeys(each.candidate.variant for each in timed):
        own = [each for each in timed if each.candidate.variant == name and each.is_measured]
        won = fastest(own, default) if own else default
        if own and (name == EXACT or won is not default):
            best.append(won)
    if not best:
        raise LdmError(f"nothing could be measured: {default.trouble}")
    return tuple(
        Best(each.candidate.variant, dict(each.candidate.engines), each.candidate.threads, each.seconds)
        for each in best
    )


def _place(package: Package, machine: Machine) -> Path:
    """Return the file that the profile is written to. Raises OutputError if it cannot be, before any work."""
    place = place_of(package.identity, machine)
    if place is None or make_cache_folder(FOLDER) is None:
        where = "this user has no cache folder" if place is None else f"the folder {place.parent} takes no files"
        raise OutputError(f"no profile can be kept: {where}; set XDG_CACHE_HOME to a folder that takes them")
    try:
        refuse_existing(place, force=True)
    except OutputError as error:  # a link, a folder or a pipe has that name
        raise OutputError(f"no profile can be kept: {error}, or remove {place}") from error
    return place


def _profile(package: Package, machine: Machine, size: tuple[int, int], timed: Sequence[Timed]) -> Profile:
    default = timed[0]
    return Profile(
        schema_version=SCHEMA_VERSION,
        package=package.identity,
        machine=machine,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        size=size,
        steps=package.manifest.contract.defaults.steps,
        default_seconds=default.seconds if default.is_measured else None,
        chosen=choices(timed),
        measured=tuple(_measured(each) for each in timed),
    )


def _measured(timed: Timed) -> Measured:
    return Measured(
        timed.candidate.name,
        timed.candidate.variant,
        tuple(each.seconds for each in timed.timings),
        min((each.load_seconds for each in timed.timings), default=None),
        max((each.peak_bytes for each in timed.timings), default=None),
        timed.trouble,
    )


def _row(package: Package, timed: Timed) -> Row:
    """Return a line of the frontier."""
    variant = variant_of(package, timed.candidate.variant)
    row = Row(timed.candidate.name, is_exact=variant is None, seconds=None)
    if variant is not None:
        worst = max((each.relative_rms for each in variant.error.components.values()), default=None)
        row = dataclasses.replace(row, relative_rms=worst, psnr=variant.error.psnr, ssim=variant.error.ssim)
    if not timed.is_measured:
        return dataclasses.replace(row, trouble=timed.trouble or NO_TURN)
    files = files_of(package, variant, dict(timed.timings[0].engines))
    return dataclasses.replace(
        row,
        seconds=timed.seconds,
        load_seconds=min(each.load_seconds for each in timed.timings),
        peak_bytes=max(each.peak_bytes for each in timed.timings),
        file_bytes=sum(package.manifest.files[file].size for file in files),
    )
