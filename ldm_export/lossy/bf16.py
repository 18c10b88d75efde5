"""The method bf16: the exact graphs of denoiser and decoder, which OpenVINO computes in bfloat16."""

from ldm_export.lossy.method import Draft, Made, Order, Progress
from ldm_export.lossy.units import BF16, unit_of
from ldm_runtime.engines.choice import artefact_for
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.package.open import Package
from ldm_runtime.package.variants import WHOLE_RUN, Way

ENGINE = "openvino"


def missing_bf16() -> str | None:
    """Return why bfloat16 cannot be measured here, as a sentence, or None."""
    kind = ENGINES[ENGINE]
    return kind.missing() or kind.missing_for("bf16")


def make_bf16(order: Order, *, progress: Progress) -> Made:
    """Make no file: what is lossy is how the graphs are computed."""
    package, contract = Package(order.folder, order.manifest, "", "size"), order.manifest.contract
    ways = {
        name: Way(ENGINE, artefact_for(ENGINE, package, name).name, "bf16", unit_of(BF16))
        for name in (contract.denoiser.component, contract.codec.decoder.component)
    }
    return Made([Draft("bf16", ("bf16",), ways, WHOLE_RUN)])
