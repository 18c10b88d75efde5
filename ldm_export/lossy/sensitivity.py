"""Which layers stay in float32: those whose own rounding is worst, as few as a measurement of whole runs allows.

Layers that read one value are one group, quantised together or not at all, since they share its rounding.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ldm_export.lossy.layers import Layer, exposed, parameter_array, quantisable
from ldm_export.lossy.ranges import ValueRange, fit_scale

MOST_TRIALS = 6
_LARGEST_SHARE = 0.75  # of the groups that may stay; with more of them little is left to gain

Group = tuple[str, ...]  # names of layers


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


def fewest_kept(groups: int, holds: Callable[[int], bool]) -> int:
    """Search how many of the worst groups have to stay in float32 for `holds` to say that this is within the budget.

    First none, then a sixteenth, a quarter and three quarters; then between what fails and what holds. Returns the
    fewest that holds, or the most that was tried if none does.
    """
    most, failed, best = int(groups * _LARGEST_SHARE), 0, 0
    is_within = holds(0)
    for _ in range(MOST_TRIALS - 1):
        if is_within:
            kept = (failed + best) // 2
        else:
            failed = best
            kept = min(most, max(1, groups // 16, 4 * failed))
        if kept == failed or best - failed == 1:
            break
        if holds(kept):
            best, is_within = kept, True
        elif is_within:
            failed = kept
        else:
            best = kept
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
