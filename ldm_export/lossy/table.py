"""The lossy methods of `build --budget`. Adding one takes a file that makes it, and a row here.

The command line reads the names at its start, so that a row imports its file only where it is used.
"""

from ldm_export.lossy.method import Lossy, Made, Order, Progress


def _missing_bf16() -> str | None:
    from ldm_export.lossy.bf16 import missing_bf16

    return missing_bf16()


def make_bf16(order: Order, *, progress: Progress) -> Made:
    from ldm_export.lossy import bf16

    return bf16.make_bf16(order, progress=progress)


def _missing_fp16() -> str | None:
    from ldm_export.lossy.fp16 import missing_fp16

    return missing_fp16()


def make_fp16(order: Order, *, progress: Progress) -> Made:
    from ldm_export.lossy import fp16

    return fp16.make_fp16(order, progress=progress)


def make_int8(order: Order, *, progress: Progress) -> Made:
    from ldm_export.lossy import int8

    return int8.make_int8(order, progress=progress)


def make_w8(order: Order, *, progress: Progress) -> Made:
    from ldm_export.lossy import weights

    return weights.make_w8(order, progress=progress)


def make_w4(order: Order, *, progress: Progress) -> Made:
    from ldm_export.lossy import weights

    return weights.make_w4(order, progress=progress)


def make_caching(order: Order, *, progress: Progress) -> Made:
    from ldm_export.lossy import caching

    return caching.make_caching(order, progress=progress)


def make_guidance(order: Order, *, progress: Progress) -> Made:
    from ldm_export.lossy import shorter

    return shorter.make_guidance(order, progress=progress)


def make_steps(order: Order, *, progress: Progress) -> Made:
    from ldm_export.lossy import shorter

    return shorter.make_steps(order, progress=progress)


def make_merging(order: Order, *, progress: Progress) -> Made:
    from ldm_export.lossy import merging

    return merging.make_merging(order, progress=progress)


LOSSY: dict[str, Lossy] = {
    "bf16": Lossy(_missing_bf16, make_bf16),
    "fp16": Lossy(_missing_fp16, make_fp16),
    # On ONNX Runtime, which proves every package, and on OpenVINO where it is.
    "int8": Lossy(lambda: None, make_int8),
    "w8": Lossy(lambda: None, make_w8, is_for_speed=False),
    "w4": Lossy(lambda: None, make_w4, is_for_speed=False),
    # Those below draw with graphs in float32 by ONNX Runtime, and with what the methods above made.
    "caching": Lossy(lambda: None, make_caching),
    "guidance": Lossy(lambda: None, make_guidance),
    "steps": Lossy(lambda: None, make_steps),
    "merging": Lossy(lambda: None, make_merging),
}
"""Name -> method, in the order in which they are made."""
