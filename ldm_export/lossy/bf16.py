"""The method bf16: the exact graphs of denoiser and decoder, which OpenVINO computes in bfloat16."""

from ldm_export.lossy.halves import exact_graphs, missing_half
from ldm_export.lossy.method import Made, Order, Progress


def missing_bf16() -> str | None:
    """Return why bfloat16 cannot be measured here, as a sentence, or None."""
    return missing_half("bf16")


def make_bf16(order: Order, *, progress: Progress) -> Made:
    """Make no file: what is lossy is how the graphs are computed."""
    return Made([exact_graphs(order, "bf16")])
