"""Refuses TensorRT plans that cannot be built, before anything is made, and resolves the rest to a list of work.

TensorRT for RTX builds without a GPU, for any it knows; classic TensorRT builds on the GPU that runs the plan.
https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/support-matrix.html
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from ldm_export.errors import ExportError
from ldm_export.precision.table import FLOATING, PRECISIONS
from ldm_export.process.isolate import require_memory
from ldm_export.targets.target import Order
from ldm_export.targets.tensorrt.options import TensorRtOptions, Weights
from ldm_export.targets.tensorrt.profiles import AxisRanges, axis_ranges, read_profile
from ldm_runtime.engines.cuda.device import compute_capability
from ldm_runtime.engines.cuda.driver import missing_gpu
from ldm_runtime.engines.tensorrt.library import CLASSIC, FLAVOURS, NAMES, Flavour, import_tensorrt
from ldm_runtime.errors import EngineUnavailable, InputError
from ldm_runtime.package.artefacts import Precision

# Capability -> precisions in which TensorRT for RTX builds plans for it.
CAPABILITIES: dict[str, tuple[Precision, ...]] = {
    capability: tuple(name for name, each in PRECISIONS.items() if capability in each.rtx)
    for capability in sorted({each for row in PRECISIONS.values() for each in row.rtx}, key=float)
}
TURING = "7.5"  # has plans of its own: NVIDIA says that it slows down the other GPUs of a plan

# Measured with TensorRT for RTX 1.7: 3.6 times 128 MB of float32 weights, 3.2 times the 3.4 GB of SD 1.5's UNet.
MEMORY_FACTOR = 3.6
MEMORY_FIXED = 600 << 20
PLAN_FIXED = 24 << 20  # of kernels in one plan: 2 to 15 MB

_CAPABILITIES = "--compute-capability (tensorrt.compute_capabilities)"
Option = Literal["refit", "weight_stripped"]


@dataclass(frozen=True)
class Work:
    """The plans to build: one set a group of GPUs, each set with one plan a component.

    weights: component -> how they are stored in its plans.
    groups: name of the set, which is its folder -> the compute capabilities that it must fit; () is left to TensorRT.
    ranges: component -> the sizes of its axes.
    """

    flavour: Flavour
    version: str
    precision: Precision
    options: tuple[Option, ...]
    weights: Mapping[str, Weights]
    groups: Mapping[str, tuple[str, ...]]
    ranges: Mapping[str, AxisRanges]


def check_tensorrt(order: Order) -> Work:
    """Resolve an order to the list of its work.

    Raises:
        InputError: an unknown flavour, capability, precision or profile, two that do not go together, or a profile
            that the package cannot do.
        EngineUnavailable: that flavour is not installed, or needs a GPU that is not here.
        ExportError: the largest plan would not fit into memory, or all of them not onto the disk.
    """
    chosen: TensorRtOptions = order.options
    if chosen.flavour not in FLAVOURS:
        raise InputError(f"--flavour (tensorrt.flavour) got {chosen.flavour!r}; expected {', '.join(FLAVOURS)}")
    if order.precision not in FLOATING:
        raise InputError(f"--precision got {order.precision!r}; expected {', '.join(FLOATING)}")
    profile = read_profile(chosen.profiles)
    if chosen.flavour != CLASSIC:
        check_capabilities(chosen, order.precision)
    if chosen.weight_stripped and order.precision != "fp32":
        raise InputError(
            f"--weight-stripped (tensorrt.weight_stripped) takes the weights from the package's graphs, which "
            f"compute in fp32; got --precision {order.precision}"
        )
    if chosen.weights != "whole":
        _check_weights(chosen, order.precision)
    if chosen.flavour == CLASSIC and missing_gpu() is not None:
        raise EngineUnavailable(_needs_gpu())
    library = import_tensorrt(chosen.flavour)
    options = _options(chosen)
    if options and missing_gpu() is not None:
        raise EngineUnavailable(
            f"{NAMES[library.flavour]} builds plans for refitting or without weights on a machine with a GPU only, and "
            f"here is missing {missing_gpu()}; leave --refit and --weight-stripped out, or build on the machine with "
            f"the GPU"
        )
    if library.flavour == CLASSIC:
        _check_classic(chosen, order.precision)
        if chosen.weights != "whole":
            raise InputError(_for_rtx(chosen.weights))
    ranges = axis_ranges(order.contract, profile)
    groups = {
        set_name(library.flavour, library.version, group, order.precision, options, chosen.weights): group
        for group in group_capabilities(library.flavour, chosen.compute_capabilities)
    }
    _require_room(order, len(groups))
    return Work(library.flavour, library.version, order.precision, options, _weights(order), groups, ranges)


def _check_weights(chosen: TensorRtOptions, precision: Precision) -> None:
    """Refuse what does not go with weights in few bits."""
    asked = f"--weights {chosen.weights} (tensorrt.weights)"
    if chosen.weights not in get_args(Weights):
        raise InputError(
            f"--weights (tensorrt.weights) got {chosen.weights!r}; expected {', '.join(get_args(Weights))}"
        )
    if chosen.flavour == CLASSIC:
        raise InputError(_for_rtx(chosen.weights))
    if precision == "fp32":
        raise InputError(f"{asked} is for plans in fp16 or bf16; got --precision fp32")
    if chosen.refit or chosen.weight_stripped:
        raise InputError(
            f"{asked} gives plans whose weights cannot be replaced; leave --refit and --weight-stripped out"
        )


def _weights(order: Order) -> dict[str, Weights]:
    """Return how each component's weights are stored: the codec's few products have no less than eight bits."""
    codec, asked = order.contract.codec, order.options.weights
    halves = (codec.encoder.component, codec.decoder.component)
    return {name: "w8" if asked == "w4" and name in halves else asked for name in order.contract.components}


def _for_rtx(weights: Weights) -> str:
    return f"--weights {weights} (tensorrt.weights) is for TensorRT for RTX; choose --flavour rtx, or leave it out"


def _options(chosen: TensorRtOptions) -> tuple[Option, ...]:
    switches: dict[Option, bool] = {"refit": chosen.refit, "weight_stripped": chosen.weight_stripped}
    return tuple(name for name, is_set in switches.items() if is_set)


def check_capabilities(chosen: TensorRtOptions, precision: Precision) -> None:
    """Raise InputError for compute capabilities that TensorRT for RTX has no plans for, in that precision."""
    for capability in chosen.compute_capabilities:
        if capability not in CAPABILITIES:
            known = re.fullmatch(r"\d+\.\d", capability) is not None
            raise InputError(
                f"{_CAPABILITIES} got {capability!r}; TensorRT for RTX builds for {', '.join(CAPABILITIES)}"
                + ("; other GPUs need --flavour classic, built on the GPU itself" if known else "")
            )
        if precision not in CAPABILITIES[capability]:
            raise InputError(
                f"GPUs of compute capability {capability} do not compute in {precision} with TensorRT for RTX; "
                f"choose --precision {' or '.join(CAPABILITIES[capability])}, or leave {capability} out"
            )


def _needs_gpu() -> str:
    return (
        f"classic TensorRT builds plans on the GPU that runs them, and here is missing {missing_gpu()}; "
        f"`--flavour rtx` builds for RTX GPUs without one"
    )


def _check_classic(chosen: TensorRtOptions, precision: Precision) -> None:
    """Refuse what this machine's GPU cannot do. Classic may have been chosen because it alone is installed."""
    if missing_gpu() is not None:
        raise EngineUnavailable(_needs_gpu())
    if chosen.compute_capabilities:
        raise InputError(f"classic TensorRT builds for the GPU of this machine; leave {_CAPABILITIES} out")
    here = compute_capability()
    version = tuple(int(part) for part in here.split("."))
    able = [name for name, each in PRECISIONS.items() if each.classic is not None and each.classic <= version]
    if precision not in able:
        raise InputError(
            f"the GPU here, of compute capability {here}, does not compute in {precision}; choose {' or '.join(able)}"
        )


def group_capabilities(flavour: Flavour, capabilities: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Group the GPUs that share a plan, in the table's order; () is a plan for all of TensorRT for RTX's but Turing."""
    if flavour == CLASSIC or not capabilities:
        return [()]
    rest = tuple(each for each in CAPABILITIES if each in capabilities and each != TURING)
    return [group for group in ((TURING,) if TURING in capabilities else (), rest) if group]


def set_name(
    flavour: Flavour,
    version: str,
    group: tuple[str, ...],
    precision: Precision,
    options: tuple[Option, ...],
    weights: Weights = "whole",
) -> str:
    """Name a set of plans, such as rtx-1.7.1.116-sm86-sm89-fp16, or -fp16-w8."""
    if flavour == CLASSIC:
        group = (compute_capability(),)
    gpus = [f"sm{each.replace('.', '')}" for each in group] or ["portable"]
    return "-".join(
        [
            flavour,
            version,
            *gpus,
            precision,
            *([] if weights == "whole" else [weights]),
            *(each.replace("_", "-") for each in options),
        ]
    )


def _require_room(order: Order, groups: int) -> None:
    largest = max(order.parameters, key=lambda name: order.parameters[name])
    needed = int(4 * order.parameters[largest] * MEMORY_FACTOR) + MEMORY_FIXED
    require_memory(f"building the plan of {largest}", needed, order.max_memory)
    weights = PRECISIONS[order.precision].bytes * sum(order.parameters.values())
    space = groups * (weights + PLAN_FIXED * len(order.contract.components))
    free = shutil.disk_usage(order.where).free
    if space > free:
        raise ExportError(
            f"the TensorRT plans need about {space / 1e9:.2f} GB of disk space, but {free / 1e9:.2f} GB are free in "
            f"{order.where}; free space or build elsewhere"
        )
