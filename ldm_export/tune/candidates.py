"""The configurations that a package may be drawn with on a machine: engines, threads and variants."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

EXACT = ""  # the variant of a candidate that draws exactly


@dataclass(frozen=True)
class Candidate:
    """One configuration.

    variant: by its name; EXACT where nothing lossy is added. engines: component -> engine; of the others, as of all in
    the default, "auto" decides, or the variant. threads: of one operator on the CPU, None: the engine's choice. loss:
    how far the images may be from the exact ones (`loss_of`).
    """

    variant: str
    engines: Mapping[str, str]
    threads: int | None
    loss: float = 0.0

    @property
    def name(self) -> str:
        """Return what a table calls it."""
        names = list(dict.fromkeys(self.engines.values()))
        parts = [self.variant or "exact"]
        if len(names) > 1:
            parts += [f"{component}={engine}" for component, engine in self.engines.items()]
        else:
            parts += names or ([] if self.variant else ["auto"])
        if self.threads is not None:
            parts.append(f"{self.threads} {'thread' if self.threads == 1 else 'threads'}")
        return ", ".join(parts)


DEFAULT = Candidate(EXACT, {}, None)
"""What `--engine auto` draws with where nothing was measured."""


@dataclass(frozen=True)
class VariantHere:
    """A variant that runs on this machine. loss: as a candidate's. ways: component -> the engine that it brings."""

    name: str
    loss: float
    ways: Mapping[str, str]


def loss_of(psnr: float | None) -> float:
    """Return the root mean square of a difference as a share of its peak. psnr: in dB; None: there is none."""
    return 0.0 if psnr is None else 10.0 ** (-psnr / 20.0)


def candidates(
    automatic: Mapping[str, str],
    engines: Sequence[str],
    variants: Sequence[VariantHere],
    *,
    cores: int,
    on_cpu: Collection[str],
) -> list[Candidate]:
    """List the default first, then the other engines and variants, and last what differs in its threads alone.

    automatic: component -> the engine that "auto" takes. engines: those that draw all components exactly on this
    machine. variants: the fastest first. cores: that this process may use. on_cpu: the engines that take threads.
    """
    whole = [Candidate(EXACT, dict.fromkeys(automatic, name), None) for name in engines]
    first = [DEFAULT, *(each for each in whole if each.engines != automatic)]
    for variant in variants:
        rest = {component: name for component, name in automatic.items() if component not in variant.ways}
        choices = [dict.fromkeys(rest, name) for name in engines]
        own: list[dict[str, str]] = [{}, *(each for each in choices if each not in ({}, rest))]
        first += [Candidate(variant.name, each, None, variant.loss) for each in own]
    ways: dict[str, Mapping[str, str]] = {EXACT: {}, **{variant.name: variant.ways for variant in variants}}
    counts = sorted({max(1, cores // parts) for parts in (1, 2, 4)}, reverse=True)
    return first + [
        replace(each, threads=threads)
        for each in first
        for threads in counts
        if set({**automatic, **ways[each.variant], **each.engines}.values()) <= set(on_cpu)
    ]
