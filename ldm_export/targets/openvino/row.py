"""OpenVINO's row in the table of targets, apart from the work: the command line reads it at its start."""

from pathlib import Path
from typing import TYPE_CHECKING

from ldm_export.precision.table import FLOATING, PRECISIONS
from ldm_export.targets.openvino.options import OpenVinoOptions
from ldm_export.targets.target import Built, Order, Progress, Target

if TYPE_CHECKING:
    from ldm_runtime.package.manifest import Manifest


def _check(order: Order) -> Order:
    from ldm_export.targets.openvino.build import check_openvino

    return check_openvino(order)


def _build(order: Order, folder: Path, manifest: "Manifest", progress: Progress) -> Built:
    from ldm_export.targets.openvino.build import build_openvino

    return build_openvino(order, folder, manifest, progress)


# Its constants are made with numpy.
_PRECISIONS = tuple(name for name in FLOATING if PRECISIONS[name].numpy is not None)
OPENVINO = Target(_PRECISIONS, OpenVinoOptions, "openvino", _check, _build)
