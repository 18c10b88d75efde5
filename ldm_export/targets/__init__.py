"""The targets of `build`. Adding one takes its folder, which holds its row, and a line here."""

from ldm_export.targets.openvino.row import OPENVINO
from ldm_export.targets.target import Built, Target
from ldm_export.targets.tensorrt.row import TENSORRT

# ONNX graphs compute in float32 and store the weights as the checkpoint has them; every package has them.
_ONNX = Target(("fp32",), None, None, lambda order: None, lambda work, folder, manifest, progress: Built())

TARGETS: dict[str, Target] = {"onnx": _ONNX, "openvino": OPENVINO, "tensorrt": TENSORRT}
"""Name -> target, in the order in which they are made."""
