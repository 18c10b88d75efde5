"""Options of the target TensorRT, as a build recipe sets them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorRtOptions:
    """The options of the target TensorRT.

    compute_capabilities: such as "8.9"; none gives plans for all GPUs from 8.0 up that TensorRT for RTX knows.
    profiles: texts that `profiles.read_profile` reads.
    """

    flavour: str = "auto"
    compute_capabilities: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    refit: bool = False
    weight_stripped: bool = False
