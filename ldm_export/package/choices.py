"""Choices of a package that its checkpoint does not determine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PackageChoices:
    """Name, sampler and sizes of a package.

    None leaves one to the checkpoint: its folder's name, the solver of its scheduler, its models' native size.
    sampler, steps, guidance, width and height are the defaults of `run` with the package.
    """

    name: str | None = None
    sampler: str | None = None
    steps: int = 20
    guidance: float = 7.5
    width: int | None = None  # pixels
    height: int | None = None
    passes: tuple[str, ...] = ()  # of other projects, which run over the graphs besides our own
