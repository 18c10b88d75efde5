"""Which layers stay in float32: those whose own rounding is worst, as few as a measurement of whole runs allows.

Layers that read one value are one group, quantised together or not at all, since they share its rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import onnx_ir as ir

from ldm_export.lossy.layers import Layer, exposed, parameter_array, quantisable
from ldm_export.lossy.ranges import ValueRange, fit_scale

MOST_TRIALS = 6
_LARGEST_SHARE = 0.75  # of the groups that may stay; with more of them little is left to gain

Group = tuple[str, ...]  # names of layers
T = TypeVar("T")


@dataclass(frozen=True)
class Trial(Generic[T]):
    """What was found with some groups left in float32. kept: how many; holds: whether it is within the budget."""

    kept: int
    holds: bool
    found: T


def rank_groups(model: ir.Model, ranges: Mapping[str, ValueRange]) -> list[Group]:
    """Return the groups of layers that may be quantised, those with the most noise of their own first.

    ranges: of what layers read and convolutions make, as `calibrate.collect_ranges` returns them.
    """
    outside = exposed(model)
    groups: dict[tuple[ir.Value, bool], list[Layer]] = {}
    for layer in quantisable(model):
        groups.setdefault((layer.input, layer.is_convolution), []).append(layer)
    noise = {
        tuple(layer.name for layer in layers): max(_noise(layer, layers, ranges) for layer in layers)
        for layers in groups.values()
        if not any(layer.name in outside for layer in layers)
    }
    return sorted(noise, key=lambda names: -noise[names])


def fewest_kept(groups: int, attempt: Callable[[int], tuple[bool, T]]) -> Trial[T]:
    """Search how many of the worst groups stay in float32 until `attempt` says that what it found holds.

    First none, then a sixteenth, a quarter and three quarters; then between what fails and what holds. Returns the one
    with the fewest that holds, or the last one if none does.
    """
    most, failed = int(groups * _LARGEST_SHARE), 0
    trial = best = Trial(0, *attempt(0))
    for _ in range(MOST_TRIALS - 1):
        if best.holds:
            kept = (failed + best.kept) // 2
        else:
            failed = trial.kept
            kept = min(most, max(1, groups // 16, 4 * failed))
        if kept == failed or best.kept - failed == 1:
            break
        trial = Trial(kept, *attempt(kept))
        if trial.holds or not best.holds:
            best = trial
        else:
            failed = kept
    return best


def _noise(layer: Layer, readers: Sequence[Layer], ranges: Mapping[str, ValueRange]) -> float:
    """Estimate the power of what rounding adds to a layer's output, in that of the output.

    Errors of different channels are taken as independent. A product's output is computed from the sample; of a
    convolution there are the values at its places, but not their neighbours, so that its own range has its power.
    """
    values = ranges[str(layer.input.name)]
    weight = parameter_array(layer.stored, layer.name)
    flat = np.moveaxis(weight, layer.output_axis, 0).reshape(len(np.moveaxis(weight, layer.output_axis, 0)), -1)
    weight_error = np.square(np.abs(flat).max(axis=1, keepdims=True) / 127) / 12  # (O, 1), of each weight
    power = [np.square(parameter_array(each.stored, each.name)).sum(axis=each.over_outputs()) for each in readers]
    scale = fit_scale(values, np.sum(power, axis=0))
    input_error = np.mean(np.square(values.sample - scale.rounded(values.sample)), axis=0)  # (I,)
    input_power = np.mean(np.square(values.sample), axis=0)
    taps = flat.shape[1] // len(input_power)
    added = np.square(weight).sum(axis=layer.over_outputs()) @ input_error
    added += float(weight_error.sum()) * taps * float(input_power.sum())
    return float(added / max(_output_power(layer, flat, values, ranges), np.finfo(np.float32).tiny))


def _output_power(layer: Layer, flat: np.ndarray, values: ValueRange, ranges: Mapping[str, ValueRange]) -> float:
    """Return the mean square of the outputs, over places, summed over channels."""
    if layer.is_convolution:
        return float(np.square(ranges[str(layer.node.outputs[0].name)].sample).mean(axis=0).sum())
    return float(np.square(values.sample @ flat.T).mean(axis=0).sum())
