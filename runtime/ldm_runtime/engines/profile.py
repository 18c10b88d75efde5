"""Profiles: what `ldm-export tune` found to draw a package fastest on this machine, kept in the user's cache folder."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import os
from collections.abc import Collection
from pathlib import Path

from ldm_runtime.checks import shown
from ldm_runtime.engines.choice import EngineChoice, choice_of
from ldm_runtime.engines.cuda.driver import gpu_names
from ldm_runtime.engines.units import cpu_names, cpu_units
from ldm_runtime.errors import FormatError, InputError, unreadable
from ldm_runtime.files import strict_json
from ldm_runtime.files.hash_cache import cache_folder
from ldm_runtime.files.reading import read_regular

_LOG = logging.getLogger(__name__)

FOLDER = "profiles"
SCHEMA_VERSION = 1
_MAX_BYTES = 2**22
# What computes, by the names of its wheels.
_DISTRIBUTIONS = (
    "ldm-runtime",
    "onnxruntime",
    "onnxruntime-directml",
    "onnxruntime-ep-nv-tensorrt-rtx-cu12",
    "onnxruntime-ep-openvino",
    "onnxruntime-ep-webgpu",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu12",
)


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a profile holds for. units: of the CPU. cores: that this process may use. versions: of what computes."""

    cpu: str
    units: tuple[str, ...]
    cores: int
    gpus: tuple[str, ...]
    versions: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Best:
    """The fastest configuration of a variant.

    variant: its name, "" of what is exact. engines: component -> engine; the variant or "auto" decides on the others.
    threads: of one operator, None: the engine's choice. seconds: of an image.
    """

    variant: str
    engines: dict[str, str]
    threads: int | None
    seconds: float

    def choice(self) -> EngineChoice:
        """Return the choice of engines that it is. Raises InputError for engines that this version does not know."""
        return choice_of(self.engines, self.threads)


@dataclasses.dataclass(frozen=True)
class Measured:
    """A configuration as it was measured. seconds: of an image, in each round. trouble: why it does not run here."""

    name: str
    variant: str
    seconds: tuple[float, ...]
    load_seconds: float | None
    peak_bytes: int | None
    trouble: str | None


@dataclasses.dataclass(frozen=True)
class Profile:
    """What was measured of a package on a machine.

    package: its identity. chosen: the exact configuration first, and those of the variants that beat the default.
    """

    schema_version: int
    package: str
    machine: Machine
    date: str
    size: tuple[int, int]
    steps: int
    default_seconds: float | None
    chosen: tuple[Best, ...]
    measured: tuple[Measured, ...]

    def of(self, variant: str) -> Best | None:
        """Return the configuration to draw a variant with, "" the exact image; None where none beats the default."""
        return next((each for each in self.chosen if each.variant == variant), None)

    def seconds(self) -> dict[str, float]:
        """Return variant -> seconds of an image, "" for the exact one; infinite where a variant does not beat that.

        A variant whose turn did not come is not in it.
        """
        ran = {each.variant: math.inf for each in self.measured if each.seconds or each.trouble is not None}
        return {**ran, **{each.variant: each.seconds for each in self.chosen}}


def this_machine() -> Machine:
    """Describe the machine that this process runs on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(cpu_names()[0], tuple(sorted(cpu_units())), cores, gpu_names(), _versions())


def place_of(package: str, machine: Machine) -> Path | None:
    """Return the file of a package's profile on a machine; None for a user without a cache folder.

    package: its identity.
    """
    cache = cache_folder()
    key = hashlib.sha256(json.dumps(strict_json.plain(machine), sort_keys=True).encode()).hexdigest()
    return None if cache is None else cache / FOLDER / f"{package[:32]}-{key[:16]}.json"


def read_profile(package: str, components: Collection[str], command: str) -> tuple[Profile | None, tuple[str, ...]]:
    """Return the profile of a package on this machine, and what its user should know where there is none.

    A profile of another machine, or of other versions, does not count, and neither does a damaged one: both are said.
    The machine is looked at only where there is a profile. package: its identity. components: what it has engines for.
    command: what measures again.
    """
    others = _profiles_of(package)
    if not others:
        return None, ()
    machine = this_machine()
    place = place_of(package, machine)
    again = f"run `{command}` again"
    if place in others:
        try:
            found = _read(place, package, machine)
            _check_choices(found, components, place)
            return found, ()
        except FormatError as error:
            return None, (f"the profile of this package is damaged and not followed: {error}; {again}",)
    for other in others:
        try:
            stale = _read(other, package, None)
        except FormatError:
            continue  # of another machine, where it is said
        return None, (f"the profile of this package was measured {_difference(stale.machine, machine)}; {again}",)
    return None, ()


def _profiles_of(package: str) -> list[Path]:
    """List the files of a package's profiles; a cache folder that cannot be looked into has none."""
    cache = cache_folder()
    if cache is None:
        return []
    try:
        return sorted((cache / FOLDER).glob(f"{package[:32]}-*.json"))
    except OSError as error:
        _LOG.debug("no profiles in %s: %s", cache, error)
        return []


def _read(place: Path, package: str, machine: Machine | None) -> Profile:
    """Read a profile. Raises FormatError unless it is one of this package, and of `machine` where that is given."""
    where = str(place)
    profile = strict_json.read(Profile, strict_json.parse(strict_json.decode(_content(place), where), where), where)
    if profile.schema_version != SCHEMA_VERSION:
        raise FormatError(where, f"has the version {profile.schema_version}; expected {SCHEMA_VERSION}", "json.type")
    if profile.package != package or machine not in (None, profile.machine):
        raise FormatError(where, "is of another package or machine than its name says", "json.type")
    return profile


def _check_choices(profile: Profile, components: Collection[str], place: Path) -> None:
    """Raise FormatError if a choice is none for a package with these components."""
    for each in profile.chosen:
        try:
            each.choice()
        except InputError as error:
            raise FormatError(str(place), f"has a choice that cannot be: {error}", "json.type") from None
        for component in each.engines:
            if component not in components:
                what = f"has an engine for {shown(component)}; expected one of {', '.join(components)}"
                raise FormatError(str(place), what, "json.type")


def _content(place: Path) -> bytes:
    """Read a whole file. Raises FormatError for what is none, or is immense."""
    try:
        content = read_regular(place, _MAX_BYTES)
    except OSError as error:
        raise unreadable(place, error) from error
    if content is None:
        raise FormatError(str(place), "is not a regular file", "file.kind")
    if len(content) > _MAX_BYTES:
        raise FormatError(str(place), f"is larger than {_MAX_BYTES} bytes", "file.too-large")
    return content


def _difference(then: Machine, now: Machine) -> str:
    """Say in what two machines differ first."""
    if then.cpu != now.cpu or then.gpus != now.gpus:
        return f"on {', '.join((then.cpu, *then.gpus))}, and this is {', '.join((now.cpu, *now.gpus))}"
    if then.cores != now.cores:
        return f"with {then.cores} cores, and this process may use {now.cores}"
    for name in sorted({*then.versions, *now.versions}):
        if then.versions.get(name) != now.versions.get(name):
            was, has = (each.versions.get(name, "no version") for each in (then, now))
            return f"with {name} {was}, and this machine has {has}"
    return "where the CPU had other units than here"


def _versions() -> dict[str, str]:
    """Return name -> version of what is installed of the engines and of the runtime itself."""
    import importlib.metadata  # not at every start

    found: dict[str, str] = {}
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
