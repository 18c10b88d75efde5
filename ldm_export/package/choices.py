"""Choices of a package that its checkpoint does not determine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FewStep:
    """Defaults of a kind of model; sampler None: that of the checkpoint. The timesteps end at the noisiest."""

    sampler: str | None
    steps: int


# As in the model cards; guidance is off, but for models that read the scale. The files of a checkpoint seldom say it: a
# Lightning UNet in a base model's folder has the base model's scheduler.
FEW_STEP = {
    "turbo": FewStep(None, 1),
    "lightning": FewStep("euler", 4),
    "hyper": FewStep("ddim", 4),
    "lcm": FewStep("lcm", 4),
    "tcd": FewStep("tcd", 4),
    "dmd2": FewStep("lcm:original_steps=4", 4),  # timesteps 999, 749, 499, 249
}


@dataclass(frozen=True)
class PackageChoices:
    """Name, sampler and sizes of a package.

    None leaves one to the source: a package has its own; of a checkpoint it is its folder's name, the solver of its
    scheduler, its models' native size, the steps and guidance of `checkpoint.defaults`.
    sampler, steps, guidance, width and height are the defaults of `run` with the package.
    """

    name: str | None = None
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    width: int | None = None  # pixels
    height: int | None = None
    few_step: str | None = None  # the kind of a model distilled to a few steps, which gives the defaults above
    passes: tuple[str, ...] = ()  # of other projects, which run over the graphs besides our own
