"""ONNX Runtime's rows in the table of engines: the CPU, and one for every other execution provider."""

import functools
import math
from collections.abc import Callable

from ldm_runtime.engines.engine import Engine, EngineKind, Settings
from ldm_runtime.engines.ort.providers import PROVIDERS, Provider
from ldm_runtime.errors import EngineError
from ldm_runtime.package import safetensors
from ldm_runtime.package.manifest import Artefact
from ldm_runtime.package.open import Package, refused

# Above this many weights, prepacking them for the kernels costs more than it saves in 20 steps.
_LARGE_WEIGHTS = 2**28


def _open_cpu(package: Package, component: str, artefact: Artefact, settings: Settings) -> Engine:
    from ldm_runtime.engines.ort.session import OrtEngine  # imports onnxruntime: 0.1 s

    weights = package.file(package.manifest.components[component].weights)
    with refused():
        stored = safetensors.read_header(weights).tensors.values()
    large = sum(math.prod(info.shape) for info in stored) > _LARGE_WEIGHTS
    engine = OrtEngine(package.file(artefact.file), threads=settings.threads, reorder=not large)
    engine.check_contract(package.manifest.contract, component)
    return engine


def _open_provider(
    provider: Provider, package: Package, component: str, artefact: Artefact, settings: Settings
) -> Engine:
    from ldm_runtime.engines.ort.session import OrtEngine

    engine = OrtEngine(
        package.file(artefact.file), provider=provider, options=settings.options, threads=settings.threads
    )
    engine.check_contract(package.manifest.contract, component)
    return engine


def _missing(provider: Provider | None = None) -> str | None:
    from ldm_runtime.engines.ort.session import import_onnxruntime

    try:
        onnxruntime = import_onnxruntime()
        return None if provider is None else provider.missing(onnxruntime)
    except EngineError as error:
        return str(error)


def _has_gpu() -> bool:
    return _missing(PROVIDERS["cuda"]) is None


def _row(provider: Provider, automatic: Callable[[], bool] | None) -> EngineKind:
    """Make the row of a provider. It reads the canonical graph: it may lack the operators fused for the CPU."""
    return EngineKind(
        provider.summary,
        (("onnx", "any"),),
        functools.partial(_open_provider, provider),
        functools.partial(_missing, provider),
        automatic,
    )


ORT = EngineKind(
    "ONNX Runtime on the CPU",
    (("onnx", "ort_cpu"), ("onnx", "any")),
    _open_cpu,
    _missing,
    lambda: True,
    takes_options=False,
)
ORT_PROVIDERS = {
    f"ort:{name}": _row(provider, _has_gpu if name == "cuda" else None) for name, provider in PROVIDERS.items()
}
