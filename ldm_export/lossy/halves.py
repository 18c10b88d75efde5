"""What OpenVINO computes in half the bits: exact graphs in bfloat16 or half precision, the rest of quantised ones."""

from collections.abc import Collection
from dataclasses import replace

from ldm_export.lossy.method import Draft, Order
from ldm_export.lossy.units import BF16, FP16, unit_of
from ldm_runtime.engines.choice import artefact_for
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.package.artefacts import Precision
from ldm_runtime.package.open import Package
from ldm_runtime.package.variants import WHOLE_RUN, Way

ENGINE = "openvino"
HALVES: dict[Precision, tuple[str, ...]] = {"bf16": BF16, "fp16": FP16}
"""Precision, and method -> units, one of which a CPU must have."""
# Half precision is not among them: OpenVINO 2026.4 has no convolution of eight bits among values in it, and a process
# that tried such a graph once crashed in a later evaluation.
BESIDE: tuple[Precision, ...] = ("bf16",)
"""What is computed in beside quantised graphs."""


def missing_half(precision: Precision) -> str | None:
    """Return why a precision cannot be measured here, as a sentence, or None."""
    kind = ENGINES[ENGINE]
    return kind.missing() or kind.missing_for(precision)


def exact_graphs(order: Order, precision: Precision) -> Draft:
    """Return a draft without a file of its own: what is lossy is how the graphs are computed."""
    package, contract = Package(order.folder, order.manifest, "", "size"), order.manifest.contract
    ways = {
        name: Way(ENGINE, artefact_for(ENGINE, package, name).name, precision, unit_of(HALVES[precision]))
        for name in (contract.denoiser.component, contract.codec.decoder.component)
    }
    return Draft(precision, (precision,), ways, WHOLE_RUN)


def beside(draft: Draft, name: str, methods: Collection[str]) -> list[Draft]:
    """Return a draft of quantised graphs with all else in half the bits, for each of BESIDE that is tried.

    name: what each is called before its precision; nothing comes of a draft that another engine computes.
    """
    if any(way.engine != ENGINE for way in draft.ways.values()):
        return []
    return [
        replace(
            draft,
            name=f"{name}-{precision}",
            methods=(*draft.methods, precision),
            ways={
                component: replace(way, precision=precision, units=(*way.units, *unit_of(HALVES[precision])))
                for component, way in draft.ways.items()
            },
        )
        for precision in BESIDE
        if precision in methods
    ]
