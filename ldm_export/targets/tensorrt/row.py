"""TensorRT's row in the table of targets, apart from the work: the command line reads it at its start."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldm_export.precision.table import PRECISIONS
from ldm_export.targets.target import Built, Order, Progress, Target
from ldm_export.targets.tensorrt.options import TensorRtOptions

if TYPE_CHECKING:
    from ldm_runtime.package.manifest import Manifest


def _check(order: Order) -> Any:
    from ldm_export.targets.tensorrt.check import check_tensorrt

    return check_tensorrt(order)


def _build(work: Any, folder: Path, manifest: "Manifest", progress: Progress) -> Built:
    from ldm_export.targets.tensorrt.build import build_tensorrt

    return build_tensorrt(work, folder, manifest, progress)


TENSORRT = Target(
    tuple(name for name, each in PRECISIONS.items() if each.rtx), TensorRtOptions, "tensorrt", _check, _build
)
