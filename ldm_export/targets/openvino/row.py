"""OpenVINO's row in the table of targets, apart from the work: the command line reads it at its start."""

from pathlib import Path
from typing import TYPE_CHECKING

from ldm_export.precision.table import PRECISIONS
from ldm_export.targets.target import Made, Order, Progress, Target

if TYPE_CHECKING:
    from ldm_runtime.package.manifest import Manifest, Precision


def _check(order: Order) -> "Precision":
    from ldm_export.targets.openvino.build import check_openvino

    check_openvino()
    return order.precision


def _build(precision: "Precision", folder: Path, manifest: "Manifest", progress: Progress) -> Made:
    from ldm_export.targets.openvino.build import build_openvino

    return build_openvino(precision, folder, manifest, progress)


# Its constants are made with numpy.
OPENVINO = Target(
    tuple(name for name, each in PRECISIONS.items() if each.numpy is not None), None, "openvino", _check, _build
)
