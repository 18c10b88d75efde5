"""The method fp16: the exact graphs of denoiser and decoder, which OpenVINO computes in half precision."""

from ldm_export.lossy.halves import exact_graphs, missing_half
from ldm_export.lossy.method import Made, Order, Progress


def missing_fp16() -> str | None:
    """Return why half precision cannot be measured here, as a sentence, or None."""
    return missing_half("fp16")


def make_fp16(order: Order, *, progress: Progress) -> Made:
    """Make no file: what is lossy is how the graphs are computed."""
    return Made([exact_graphs(order, "fp16")])
