"""The lossy methods of `build --budget`. Adding one takes a file that makes it, and a row here.

The command line reads the names at its start, so that a row imports its file only where it is used.
"""

from ldm_export.lossy.method import Lossy, Made, Order, Progress


def _missing_bf16() -> str | None:
    from ldm_export.lossy.bf16 import missing_bf16

    return missing_bf16()


def _make_bf16(order: Order, say: Progress) -> Made:
    from ldm_export.lossy.bf16 import make_bf16

    return make_bf16(order, say)


def _make_int8(order: Order, say: Progress) -> Made:
    from ldm_export.lossy.int8 import make_int8

    return make_int8(order, say)


LOSSY: dict[str, Lossy] = {
    "bf16": Lossy(_missing_bf16, _make_bf16),
    "int8": Lossy(
        lambda: None, _make_int8
    ),  # on ONNX Runtime, which proves every package, and on OpenVINO if it is here
}
"""Name -> method, in the order in which they are made."""
