"""ONNX Runtime's rows in the table of engines: the CPU, and one for every other execution provider."""

import functools
import math
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ldm_runtime.engines.engine import Engine, EngineKind, Settings, not_computed
from ldm_runtime.engines.ort.providers import PROVIDERS, Provider
from ldm_runtime.engines.units import cpu_units, missing_units
from ldm_runtime.errors import EngineError, EngineUnavailable
from ldm_runtime.memory import available_memory
from ldm_runtime.package import safetensors
from ldm_runtime.package.artefacts import INTEGERS, Artefact, Precision
from ldm_runtime.package.open import Package, refused

# Above this many weights, prepacking them for the kernels costs more than it saves in 20 steps.
_LARGE_WEIGHTS = 2**28
_REORDERED = 2.5  # bytes of a session for each byte of smaller weights in float32: the kernels' own copies
_VNNI = ("avx512_vnni", "avx_vnni")
_WIDENED = 4  # weights of the largest size that a run holds in float32 at once, where they are stored in half precision


@dataclass(frozen=True)
class WeightMemory:
    """The bytes that a session's weights take: its own, and mapped ones, which the system may drop and read again."""

    own: int
    mapped: int


def weight_memory(stored: Iterable[tuple[int, int]], *, reorder: bool = False) -> WeightMemory:
    """Estimate the memory of weights. stored: of each, the number of values and their bytes.

    reorder: however many they are; else many are mapped.
    """
    stored = list(stored)
    count = sum(values for values, _ in stored)
    if reorder or count <= _LARGE_WEIGHTS:
        return WeightMemory(own=int(4 * _REORDERED * count), mapped=0)
    widest = max((values for values, size in stored if size < 4 * values), default=0)
    return WeightMemory(own=4 * _WIDENED * widest, mapped=sum(size for _, size in stored))


def _open_cpu(package: Package, component: str, artefact: Artefact, settings: Settings) -> Engine:
    from ldm_runtime.engines.ort.session import OrtEngine  # imports onnxruntime: 0.1 s

    stored = _stored(package, component, artefact)
    # A quantised graph gets its kernels from what is turned off for many weights, and its weights are small.
    computes_in_few_bits = artefact.precision in INTEGERS or settings.precision == "bf16"
    memory = weight_memory(stored, reorder=computes_in_few_bits)
    notices = _require_memory(component, memory)
    engine = OrtEngine(
        package.file(artefact.file),
        threads=settings.threads,
        reorder=memory.mapped == 0,
        entries=_entries(artefact, settings),
    )
    engine.notices = notices
    engine.check_contract(package.manifest.contract, component, artefact.interface)
    return engine


def _entries(artefact: Artefact, settings: Settings) -> dict[str, str]:
    """Return what a session is told to compute in bfloat16, or in integers as a variant's error was measured."""
    entries = {}
    if settings.precision == "bf16":
        entries["mlas.enable_gemm_fastmath_arm64_bfloat16"] = "1"
    if artefact.precision in INTEGERS:
        entries["session.qdq_matmulnbits_accuracy_level"] = "1"  # else narrow weights would be read by 8-bit values
        if not cpu_units().intersection(_VNNI):
            entries["session.x64quantprecision"] = "1"  # else sums of two products would be cut at 16 bits
    return entries


def _stored(package: Package, component: str, artefact: Artefact) -> list[tuple[int, int]]:
    """List the values and bytes of the weights that an artefact reads.

    Data of its own is named after what it takes the place of, "to_k.weight/int8" of "to_k.weight".
    """
    weights = package.manifest.components[component].weights
    with refused():
        tensors = {
            file: safetensors.read_header(package.file(file)).tensors
            for file in (artefact.files[1:] if artefact.precision in INTEGERS else (weights,))
        }
    own = {name: info for file, each in tensors.items() if file != weights for name, info in each.items()}
    replaced = {name.rpartition("/")[0] for name in own}
    shared = {name: info for name, info in tensors.get(weights, {}).items() if name not in replaced}
    return [
        *((math.prod(info.shape), info.length) for info in shared.values()),
        *((info.length // 4, info.length) for info in own.values()),  # as many of float32
    ]


def _require_memory(component: str, memory: WeightMemory) -> tuple[str, ...]:
    """Raise EngineUnavailable if the weights do not fit; return what is to be said where they hardly do."""
    free = available_memory()
    if free is None:
        return ()
    if memory.own > free:
        raise EngineUnavailable(
            f"{component} needs about {memory.own / 1e9:.1f} GB of memory in ONNX Runtime, but {free / 1e9:.1f} GB are "
            f"available; close other programs, or use a machine with more memory"
        )
    if memory.own + memory.mapped <= free:
        return ()
    return (
        f"{component} has {memory.mapped / 1e9:.1f} GB of weights, but {free / 1e9:.1f} GB of memory are available, so "
        f"that every evaluation reads them from the disk again; close other programs",
    )


def _open_provider(
    provider: Provider, package: Package, component: str, artefact: Artefact, settings: Settings
) -> Engine:
    from ldm_runtime.engines.ort.session import OrtEngine

    engine = OrtEngine(
        package.file(artefact.file), provider=provider, options=settings.options, threads=settings.threads
    )
    engine.check_contract(package.manifest.contract, component, artefact.interface)
    return engine


def _missing(provider: Provider | None = None) -> str | None:
    from ldm_runtime.engines.ort.session import import_onnxruntime

    try:
        onnxruntime = import_onnxruntime()
        return None if provider is None else provider.missing(onnxruntime)
    except EngineError as error:
        return str(error)


def _missing_for(precision: Precision) -> str | None:
    """Return what is missing to compute in a precision that is not the artefact's; it has bfloat16 on ARM's Linux."""
    if precision != "bf16":
        return not_computed(precision)
    if (sys.platform, platform.machine()) != ("linux", "aarch64"):
        return "bf16 needs ARM and Linux: ONNX Runtime has kernels for no other CPU"
    return missing_units("bf16", ["neon_bf16"])


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
    missing_for=_missing_for,
)
ORT_PROVIDERS = {
    f"ort:{name}": _row(provider, _has_gpu if name == "cuda" else None) for name, provider in PROVIDERS.items()
}
