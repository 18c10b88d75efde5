"""The rule by which "auto" takes OpenVINO before ONNX Runtime; `benchmarks/auto_rules.py` measures what it rests on."""

import importlib.util

from ldm_runtime.engines.units import cpu_units
from ldm_runtime.memory import available_memory
from ldm_runtime.package import safetensors
from ldm_runtime.package.open import Package, refused

LEAST_WEIGHTS = 2**27  # of the denoiser
LEAST_UNIT = "avx512f"
LEAST_STEPS = 10  # of the package's own runs
LEAST_COPIES = 3  # of the weights in float32, in memory that is free


def is_faster(package: Package, component: str) -> bool:
    """Return whether OpenVINO draws faster than ONNX Runtime here, and as exactly.

    It does where a denoiser is large, the CPU has AVX-512, the run is long enough to pay for a slow start, and memory
    is left for the copies that it makes of the weights. A form of its own that is lossy is no such gain.

    Every start asks: what takes time, such as the header of the weights, is looked at where all else holds.
    """
    contract = package.manifest.contract
    if component != contract.denoiser.component or contract.defaults.steps < LEAST_STEPS:
        return False
    if importlib.util.find_spec("openvino") is None:
        return False
    own = [each for each in package.manifest.pickable(component) if each.engine == "openvino"]
    if any(each.exactness == "lossy" for each in own) or LEAST_UNIT not in cpu_units():
        return False
    weights = package.file(package.manifest.components[component].weights)
    with refused():
        count = safetensors.read_header(weights).weights
    free = available_memory()
    has_room = free is None or free >= 4 * count * LEAST_COPIES
    return count >= LEAST_WEIGHTS and has_room
