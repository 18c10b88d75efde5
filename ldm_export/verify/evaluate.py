"""Evaluates a torch model in float32 and in float64: the cases of a reference, each with its tolerance.

Outputs are those in float64, so that a comparison shows the engine's error alone. The model is run in float32 as well:
its distance from float64 is the rounding that no such engine can avoid, and each case's tolerance is a small multiple
of it (never more than that of fp32 in the table of precisions).
"""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from ldm_export.families.spec import ComponentSpec
from ldm_export.precision.table import EXACT, ROUNDING_FACTOR, SMALLEST_TOLERANCE
from ldm_export.verify import metrics
from ldm_export.verify.reference_file import Case
from ldm_runtime.errors import NonFiniteError

Arrays = dict[str, np.ndarray]

QUIET = (0.3, 0.1, 0.01)  # amplitude of the second case at each probe size
CALMEST = 1 / 64  # amplitude of random text embeddings, at the least


@dataclass(frozen=True)
class Request:
    """A case before its outputs are known.

    context: the input of random text embeddings, of which `amplitude` is the factor; None: nothing may be changed.
    """

    spec: ComponentSpec
    name: str
    inputs: Arrays
    context: str | None = None
    amplitude: float = 1.0

    def calmed(self) -> "Request":
        """Return the same with embeddings of half the amplitude."""
        assert self.context is not None
        inputs = {**self.inputs, self.context: self.inputs[self.context] * np.float32(0.5)}
        return replace(self, inputs=inputs, amplitude=self.amplitude / 2)


def seeded(
    spec: ComponentSpec, values: Mapping[str, tuple[float, ...]] | None = None, context: str | None = None
) -> list[Request]:
    """Draw inputs at every probe size, and quiet ones: where a signal is small a norm's epsilon shows.

    values: inputs that are not drawn -> their number at each probe size. context: the input that may be calmed.
    """
    requests = []
    for index, sizes in enumerate(spec.probes):
        inputs = spec.sample(sizes, seed=index)
        for name, numbers in (values or {}).items():
            inputs[name] = np.full_like(inputs[name], numbers[index])
        requests.append(Request(spec, f"seeded {_shown(sizes)}", inputs, context))
        name = next(iter(inputs))  # the signal; a context stays as it is
        if inputs[name].dtype.kind == "f":
            quiet = {**inputs, name: inputs[name] * np.float32(QUIET[index])}
            requests.append(Request(spec, f"seeded x {QUIET[index]}, {_shown(sizes)}", quiet, context))
    return requests


def _shown(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def evaluate(model: nn.Module, requests: list[Request], say: Callable[[str], None] = lambda text: None) -> list[Case]:
    """Run all requests in float32 and in float64; `model` is in float64 afterwards. say: called for each.

    Random embeddings can drive the attention of a trained model, which no text does, to where float32 itself is less
    exact than the tolerance: torch's no more than an engine's. They are made smaller there, until it is exact enough.
    """
    rounded = []
    for number, request in enumerate(requests, 1):
        rounded.append(run_model(request.spec, model, request.inputs))
        say(f"reference: {request.spec.name} in {precision_of(model)}, case {number} of {len(requests)}")
    model.double()
    gc.collect()
    cases = []
    for number, (request, approximate) in enumerate(zip(requests, rounded, strict=True), 1):
        say(f"reference: {request.spec.name} in {precision_of(model)}, case {number} of {len(requests)}")
        most = EXACT.relative_rms
        exact = run_model(request.spec, model, request.inputs)
        tolerance = tolerance_of(approximate, exact)
        while tolerance > most and request.context is not None and request.amplitude > CALMEST:
            request = request.calmed()
            exact = run_model(request.spec, model, request.inputs)
            approximate = run_model(request.spec, model.float(), request.inputs)  # the weights are what they were
            model.double()
            tolerance = tolerance_of(approximate, exact)
        outputs = {name: array.astype(np.float32) for name, array in exact.items() if name not in request.spec.unread}
        calm = f", embeddings x {request.amplitude:g}" if request.amplitude != 1.0 else ""
        name = request.name + calm
        cases.append(Case(request.spec.name, name, min(most, tolerance), dict(request.inputs), outputs))
    return cases


def tolerance_of(approximate: Arrays, exact: Arrays) -> float:
    """Derive the tolerance of an engine's relative RMS from torch's own in float32."""
    rounding = max(metrics.difference(approximate[name], exact[name]).relative_rms for name in exact)
    return max(SMALLEST_TOLERANCE, ROUNDING_FACTOR * rounding)


def precision_of(model: nn.Module) -> str:
    """Return "float32" or "float64"."""
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def run_model(spec: ComponentSpec, model: nn.Module, inputs: Arrays) -> Arrays:
    """Evaluate once as the component's graph does, in the model's precision; every output is finite."""
    dtype = next(model.parameters()).dtype
    arguments = [torch.from_numpy(np.ascontiguousarray(inputs[tensor.name])) for tensor in spec.inputs]
    arguments = [value.to(dtype) if value.is_floating_point() else value for value in arguments]
    with torch.inference_mode():
        outputs = spec.wrap(model)(*arguments)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    results = {tensor.name: value.numpy() for tensor, value in zip(spec.outputs, outputs, strict=True)}
    for name, array in results.items():
        if not np.isfinite(array).all():
            raise NonFiniteError(
                f"the torch model's {spec.name} gives NaN or infinity in {name} itself; check the checkpoint"
            )
    return results
