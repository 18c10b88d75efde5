"""A lossy method: what it makes of a package's exact graphs, and the variants that are drawn with these."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line reads the rows' names, and starts without numpy
    from ldm_export.lossy.calibrate import Feeds
    from ldm_export.lossy.measure import Runs, Setting
    from ldm_runtime.budget import Budget
    from ldm_runtime.package.artefacts import Artefact
    from ldm_runtime.package.manifest import Manifest
    from ldm_runtime.package.variants import VariantRun, Way

Progress = Callable[[str], None]

MARGIN = 2.0  # dB: what is decided on few prompts is to hold for the worst of others


@dataclass(frozen=True)
class Draft:
    """A variant before its error is known. note: what was given up for it, as part of a sentence, or ""."""

    name: str
    methods: tuple[str, ...]
    ways: "Mapping[str, Way]"
    run: "VariantRun"
    note: str = ""


@dataclass(frozen=True)
class Order:
    """The request to a method: a proven package in the making, and its budget.

    setting, exact: what trials draw, with prompts that calibrate, and the exact runs of it. feeds: what denoiser and
    decoder were fed with in these, by component (see `calibrate.record_runs`). methods: all that are
    tried, in the table's order, this one among them. made: the drafts of those before it which held the budget, whose
    artefacts the manifest has. margin: dB by which trials are to be better than the budget.
    """

    folder: Path
    manifest: "Manifest"
    budget: "Budget"
    setting: "Setting"
    exact: "Runs"
    methods: tuple[str, ...]
    made: tuple[Draft, ...] = ()
    feeds: "Mapping[str, Sequence[Feeds]]" = field(default_factory=dict)
    margin: float = MARGIN


@dataclass(frozen=True)
class Made:
    """What a method made.

    artefacts: by component, with files in the package's folder. drafts: to be measured. has_milder: whether trials
    found these within the budget and its margin, so that a larger one would make milder ones.
    """

    drafts: Sequence[Draft]
    artefacts: "Mapping[str, Sequence[Artefact]]" = field(default_factory=dict)
    has_milder: bool = False


@dataclass(frozen=True)
class Lossy:
    """One row of the table of lossy methods.

    missing: the one thing that is missing to make and measure it on this machine, as a sentence, or None.
    make: makes artefacts and drafts, in a process of its own: a function of a module, called with the order and
    `progress=`. Raises LdmError where it cannot; the other methods go on.
    is_for_speed: tried without being named; False: it is for small files, which no budget is about.
    """

    missing: Callable[[], str | None]
    make: Callable[..., Made]
    is_for_speed: bool = True
