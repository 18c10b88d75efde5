"""What OpenVINO is told: the precision that it computes in, and options of our own."""

from collections.abc import Mapping
from dataclasses import dataclass

from ldm_runtime.engines.engine import Settings
from ldm_runtime.errors import EngineUnavailable, InputError
from ldm_runtime.package.artefacts import INTEGERS, Artefact, Precision

# Our own options.
DEVICE = "device"  # "CPU", "GPU", "GPU.1", "NPU"
SAVINGS = "savings"  # auto, all, none, or names separated by commas

# Left to itself it computes in bfloat16 where the CPU can, 1e-2 away from float32.
PRECISION = "INFERENCE_PRECISION_HINT"
_DEFAULTS = {PRECISION: "f32", "PERFORMANCE_HINT": "LATENCY"}
HINTS: dict[Precision, str] = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}


@dataclass(frozen=True)
class Asked:
    """What a graph is opened with. savings: as our own option has them. properties: OpenVINO's, by its names."""

    device: str
    savings: str
    properties: Mapping[str, str]


def read_options(options: Mapping[str, str], threads: int | None) -> Asked:
    """Tell our own options from OpenVINO's, and add what it is told by default. threads: for the CPU alone."""
    properties = {**_DEFAULTS, **options}
    device, savings = properties.pop(DEVICE, "CPU"), properties.pop(SAVINGS, "auto")
    if threads is not None and device == "CPU":
        properties["INFERENCE_NUM_THREADS"] = str(threads)
    return Asked(device, savings, properties)


def properties_of(artefact: Artefact, settings: Settings) -> dict[str, str]:
    """Return OpenVINO's properties: what computes in the wanted precision, and the user's own."""
    own = dict(settings.options)
    device = own.get(DEVICE, "CPU")
    made = {}
    if settings.precision is not None:
        made[PRECISION] = HINTS[settings.precision]
        if device != "CPU":
            raise EngineUnavailable(
                f"{settings.precision} is for OpenVINO on the CPU, but its option device is {device}"
            )
        if own.get(PRECISION, made[PRECISION]) != made[PRECISION]:
            raise InputError(
                f"the option openvino.{PRECISION} is {own[PRECISION]}, but what was chosen computes in "
                f"{made[PRECISION]}; leave out one of them",
                code="request.engine",
            )
    if artefact.precision in INTEGERS and not device.startswith("NPU"):
        made["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = "0"  # else it would round activations to 8 bits, too
    if artefact.precision in INTEGERS:
        made[SAVINGS] = "none"  # its error was measured of the graph as it is
    return {**made, **own}
