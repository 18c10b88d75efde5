"""Options of the target TensorRT, as a build recipe sets them."""

from dataclasses import dataclass, field
from typing import Literal

Weights = Literal["whole", "w8", "w4"]


@dataclass(frozen=True)
class TensorRtOptions:
    """The options of the target TensorRT; `flag`: what sets it on the command line.

    compute_capabilities: such as "8.9"; none gives plans for all GPUs from 8.0 up that TensorRT for RTX knows.
    profiles: texts that `profiles.read_profile` reads. weights: "w8" and "w4" store them in eight and four bits.
    """

    flavour: Literal["auto", "rtx", "classic"] = field(default="auto", metadata={"flag": "--flavour"})
    compute_capabilities: tuple[str, ...] = field(default=(), metadata={"flag": "--compute-capability"})
    profiles: tuple[str, ...] = field(default=(), metadata={"flag": "--profile"})
    refit: bool = field(default=False, metadata={"flag": "--refit"})
    weights: Weights = field(default="whole", metadata={"flag": "--weights"})
    weight_stripped: bool = field(default=False, metadata={"flag": "--weight-stripped"})
