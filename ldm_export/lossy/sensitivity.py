"""Which layers stay in float32: those whose own rounding is worst, as few as a measurement of whole runs allows.

Layers that read one value are one group, quantised together or not at all, since they share its rounding.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ldm_export.lossy.layers import Layer, by_input, exposed, parameter_array, power_by_input, quantisable
from ldm_export.lossy.ranges import ValueRange, fit_scale

MOST_TRIALS = 6
_LARGEST_SHARE = 0.75  # of the groups that may stay; with more of them little is left to gain

Group = tuple[str, ...]  # names of layers


def rank_groups(model: ir.Model, ranges: Mapping[str, ValueRange]) -> list[Group]:
    """Return the groups of layers that may be quantised, those with the most noise of their own first.

    ranges: of what layers read and convolutions make, as `calibrate.collect_ranges` returns them.
    """
    outside = exposed(model)
    noise = {
        tuple(layer.name for layer in readers): _noise(readers, ranges)
        for readers in by_input(quantisable(model))
        if not any(layer.name in outside for layer in readers)
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


def _noise(readers: Sequence[Layer], ranges: Mapping[str, ValueRange]) -> float:
    """Estimate the power of what rounding adds to an output, in that of the output: the worst of layers of one input.

    Errors of different channels are taken as independent. A product's output is computed from the sample; of a
    convolution there are the values at its places, but not their neighbours, so that its own range has its power.
    """
    values = ranges[str(readers[0].input.name)]
    weights = [parameter_array(layer.stored, layer.name) for layer in readers]
    powers = list(map(power_by_input, readers, weights))
    scale = fit_scale(values, np.sum(powers, axis=0))
    input_error = np.mean(np.square(values.sample - scale.rounded(values.sample)), axis=0)  # (I,)
    input_power = float(np.square(values.sample).mean(axis=0).sum())
    worst = 0.0
    for layer, weight, power in zip(readers, weights, powers, strict=True):
        outputs, inputs = layer.channels
        flat = np.moveaxis(weight, layer.output_axis, 0).reshape(outputs, -1)
        weight_error = np.square(np.abs(flat).max(axis=1) / 127) / 12  # (O,), of each weight
        taps = flat.shape[1] // inputs
        added = float(power @ input_error) + float(weight_error.sum()) * taps * input_power
        worst = max(worst, added / max(_output_power(layer, flat, values, ranges), float(np.finfo(np.float32).tiny)))
    return float(worst)


def _output_power(layer: Layer, flat: np.ndarray, values: ValueRange, ranges: Mapping[str, ValueRange]) -> float:
    """Return the mean square of the outputs, over places, summed over channels."""
    if layer.is_convolution:
        return float(np.square(ranges[str(layer.node.outputs[0].name)].sample).mean(axis=0).sum())
    return float(np.square(values.sample @ flat.T).mean(axis=0).sum())
