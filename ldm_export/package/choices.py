"""Choices of a package that its checkpoint does not determine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FewStep:
    """Defaults of a kind of model. samplers: the checkpoint's own if it is one of these, otherwise the first.

    The timesteps end at the noisiest; guidance is off, but for models that read the scale.
    predicts: what the model predicts, if it is not what the model that it was distilled from does.
    """

    samplers: tuple[str, ...]
    steps: int
    predicts: str | None = None


# The files of a checkpoint seldom say it: a Lightning UNet in a base model's folder has the base model's scheduler.
# Sources, by the titles of the model cards and of the guides in diffusers' documentation:
FEW_STEP = {
    # "SDXL-Turbo", "SD-Turbo"; "Stable Diffusion XL Turbo"
    "turbo": FewStep(("euler", "euler_ancestral"), 1),
    # "SDXL-Lightning", for 2, 4 or 8 steps; the model for 1 step predicts x0
    "lightning": FewStep(("euler",), 4),
    "lightning-1step": FewStep(("euler",), 1, "sample"),
    # "Hyper-SD": LoRAs for 1 to 8 steps; the UNet for 1 step starts at timestep 800
    "hyper": FewStep(("ddim",), 4),
    "hyper-1step": FewStep(("lcm:original_steps=1000,reach=0.801",), 1),
    # "Latent Consistency Model (LCM): SDXL", "Latent Consistency Model (LCM) LoRA"; "Latent Consistency Model"
    "lcm": FewStep(("lcm",), 4),
    # "TCD-SDXL-LoRA", "TCD-SD15-LoRA"; "Trajectory Consistency Distillation-LoRA"
    "tcd": FewStep(("tcd:eta=0.3",), 4),
    # "DMD2": timesteps 999, 749, 499, 249; the model for 1 step starts at timestep 399
    "dmd2": FewStep(("lcm:original_steps=1000",), 4),
    "dmd2-1step": FewStep(("lcm:original_steps=1000,reach=0.4",), 1),
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
