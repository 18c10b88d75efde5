"""The table of engines. Adding one takes its file, which holds its row, and a line here."""

from ldm_runtime.engines.engine import EngineKind
from ldm_runtime.engines.openvino.row import OPENVINO
from ldm_runtime.engines.ort.rows import ORT, ORT_PROVIDERS
from ldm_runtime.engines.tensorrt.row import TENSORRT

ENGINES: dict[str, EngineKind] = {
    "tensorrt": TENSORRT,
    "ort:cuda": ORT_PROVIDERS["ort:cuda"],
    "openvino": OPENVINO,
    "ort": ORT,
    **ORT_PROVIDERS,  # ort:cuda keeps its place
}
"""Name -> engine, in the order in which "auto" looks at them."""
