"""How far a component that computes in a reduced precision may be from its float32 reference."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LossyTolerance:
    """relative_rms: of an output of one evaluation, a case's worst sample. Floors: PSNR in dB over a sampling run."""

    relative_rms: float
    latents_floor: float
    picture_floor: float


# Measured with the emulation of `reduce_precision` on the built-in package and tiny randomly weighted SD 1.5 and 2.1
# pipelines: fp16 differs by 4e-4 to 7e-3, bf16 by 4e-3 to 5.5e-2, most where the signal is small or the timestep 0.
# The tolerance is some three times the worst: beyond it, more than rounding is at work. Over 20 steps the latents
# stayed above 66 dB in fp16 and 49 dB in bf16, and the pictures were at 67 and 50 dB or better.
LOSSY = {
    "fp16": LossyTolerance(2e-2, latents_floor=45.0, picture_floor=40.0),
    "bf16": LossyTolerance(1.5e-1, latents_floor=30.0, picture_floor=25.0),
}
"""Precision -> what is still the same model."""
