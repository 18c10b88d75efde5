"""Choices of a package that its checkpoint does not determine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PackageChoices:
    """Name, sampler and sizes of a package.

    None leaves one to the source: a package has its own; of a checkpoint it is its folder's name, the solver of its
    scheduler, its models' native size, DEFAULT_STEPS and DEFAULT_GUIDANCE of `checkpoint.checkpoint`.
    sampler, steps, guidance, width and height are the defaults of `run` with the package.
    """

    name: str | None = None
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    width: int | None = None  # pixels
    height: int | None = None
    passes: tuple[str, ...] = ()  # of other projects, which run over the graphs besides our own
