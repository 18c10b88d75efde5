"""The row of OpenVINO in the table of engines. What computes with it is imported by who opens a graph."""

import hashlib
from pathlib import Path

from ldm_runtime.engines.engine import Engine, EngineKind, Settings, not_computed
from ldm_runtime.engines.openvino.library import missing_openvino
from ldm_runtime.engines.openvino.properties import HINTS, properties_of
from ldm_runtime.engines.openvino.rule import is_faster
from ldm_runtime.engines.units import missing_units
from ldm_runtime.errors import EngineUnavailable
from ldm_runtime.files.hash_cache import make_cache_folder, stamp
from ldm_runtime.package.artefacts import Artefact, Precision
from ldm_runtime.package.open import Package

# Where a CPU has none of them, OpenVINO accepts bfloat16 all the same and emulates it: as lossy, and slower.
_UNITS: dict[Precision, tuple[str, ...]] = {
    "bf16": ("avx512_bf16", "amx_bf16"),
    "fp16": ("avx512_fp16", "amx_fp16", "neon_fp16"),
}


def _missing_for(precision: Precision) -> str | None:
    """Return what is missing to compute in a precision here. OpenVINO's own word is not taken: see _UNITS."""
    if precision not in HINTS:
        return not_computed(precision)
    units = _UNITS.get(precision)
    return None if units is None else missing_units(precision, units)


def _open(package: Package, component: str, artefact: Artefact, settings: Settings) -> Engine:
    from ldm_runtime.engines.openvino.engine import OpenVinoEngine

    engine = OpenVinoEngine(
        package.file(artefact.file),
        package.manifest.contract,
        component,
        weights=package.file(artefact.files[1]) if artefact.format == "openvino" else None,
        options=properties_of(artefact, settings),
        threads=settings.threads,
        cache=_cache(package, artefact, settings) if artefact.format == "openvino" else None,
        interface=artefact.interface,
    )
    if settings.precision is not None and engine.computes_in != HINTS[settings.precision]:
        raise EngineUnavailable(
            f"OpenVINO computes {component} in {engine.computes_in} here, not in {HINTS[settings.precision]}"
        )
    return engine


def _cache(package: Package, artefact: Artefact, settings: Settings) -> Path | None:
    """Make a folder of these files and settings alone: new bytes, new files or others get another.

    None: it cannot be kept.
    """
    names = sorted(artefact.files)
    identity = [(package.manifest.files[name].sha256, stamp(package.file(name))) for name in names]
    key = repr((identity, settings.precision, settings.threads, sorted(settings.options.items())))
    return make_cache_folder("openvino", hashlib.sha256(key.encode()).hexdigest()[:32])


OPENVINO = EngineKind(
    "OpenVINO, on CPUs, and on Intel's GPUs and NPUs",
    (("openvino", "openvino"), ("onnx", "any")),
    _open,
    missing_openvino,
    missing_for=_missing_for,
    is_faster=is_faster,
)
