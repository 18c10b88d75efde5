"""Engines run one graph each: inputs, outputs, run(dict) -> dict, close. A table says which there are.

A text chooses among them: one name for all components, such as "ort:cuda", or names of parts, such as
"unet=tensorrt,vae=ort". What it does not name, and "auto", is left to the package and the machine.
"""

import functools
import hashlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ldm_runtime.checks import check_integer, shown
from ldm_runtime.engines.cuda.driver import missing_gpu
from ldm_runtime.engines.ort.providers import PROVIDERS, Provider
from ldm_runtime.errors import EngineError, EngineUnavailable, InputError
from ldm_runtime.files.hash_cache import make_cache_folder, stamp
from ldm_runtime.package import safetensors
from ldm_runtime.package.manifest import COMPONENTS, Component, TensorSpec, Variant
from ldm_runtime.package.open import Package

AUTO = "auto"


class Engine(Protocol):
    """One loaded graph, which threads may run at the same time.

    `notices`: what its user should know about how it runs here, as sentences.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notices: tuple[str, ...]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name for all inputs by name. Raises EngineError if the engine fails."""
        ...

    def close(self) -> None:
        """Free the memory; the engine cannot run any more."""
        ...


@dataclass(frozen=True)
class Settings:
    """threads: of one operator on the CPU, None: the engine's choice. options: the engine's own, by its names."""

    threads: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineKind:
    """One engine that can be asked for.

    graphs: the variants of a component that it reads, by what they were made for.
    missing: the one thing that is missing to run it on this machine, as a sentence, or None.
    automatic: whether "auto" considers it on this machine; None: it never does.
    takes_options: whether it has options of its own.
    plans: whether it runs a package's TensorRT plans, which are no variants of a graph.
    """

    summary: str
    graphs: tuple[str, ...]
    open: Callable[[Package, str, Settings], Engine]
    missing: Callable[[], str | None]
    automatic: Callable[[], bool] | None = None
    plans: bool = False
    takes_options: bool = True


@dataclass(frozen=True)
class EngineChoice:
    """Which engine shall run each component, "auto" included, and how. Made by `choose`."""

    names: Mapping[str, str]
    threads: int | None
    options: Mapping[str, Mapping[str, str]]  # engine -> its own options

    def settings(self, name: str) -> Settings:
        return Settings(self.threads, self.options.get(name, {}))


@dataclass(frozen=True)
class OpenedEngine:
    """An engine, its name, and what is to be said about the choice, as sentences."""

    name: str
    engine: Engine
    notices: tuple[str, ...]


def choose(
    text: str = AUTO, *, threads: int | None = None, options: Mapping[str, Mapping[str, Any]] | None = None
) -> EngineChoice:
    """Read which engines are asked for.

    text: "auto", a name, or PART=NAME separated by commas; a part is a component, or "vae" for both of its halves.
    options: of an engine, by its name; values are passed on as text.

    Raises InputError for unknown parts, names and engines, a part given twice, options that nothing would read or
    that are no mapping of mappings, or `threads` below 1 or beyond `most_threads`.
    """
    if threads is not None:
        threads = check_integer("threads", threads, 1, most_threads())
    if not isinstance(text, str):
        raise InputError(f"engine is {shown(text)}; expected a text such as auto, ort or unet=tensorrt,vae=ort")
    texts = {} if options is None else _texts(options)
    names = _by_part(text) if "=" in text else dict.fromkeys(COMPONENTS, _known(text))
    for name in texts:
        _check_read(name, text, set(names.values()))
    return EngineChoice(names, threads, texts)


def most_threads() -> int:
    """More threads of one operator than this only wait for one another: four for each CPU, and 16 on the smallest."""
    return max(16, 4 * (os.cpu_count() or 1))


def open_engine(choice: EngineChoice, package: Package, component: str) -> OpenedEngine:
    """Load `component` of `package` with the engine that `choice` has for it.

    "auto" takes the first that the package was built for, or else ONNX Runtime with a GPU, or else on the CPU;
    each that it passes over is said.

    Raises:
        EngineUnavailable: this machine cannot run what was asked for.
        EngineError: the engine cannot load the graph.
        PackageError: the graph is damaged or does not keep the contract.
    """
    name = choice.names[component]
    if name != AUTO:
        engine = ENGINES[name].open(package, component, choice.settings(name))
        return OpenedEngine(name, engine, engine.notices)
    passed_over: list[str] = []
    for name, kind in ENGINES.items():
        if kind.automatic is not None and serves(name, package, component) and kind.automatic():
            try:
                engine = kind.open(package, component, choice.settings(name))
            except EngineUnavailable as error:
                passed_over.append(f"{name} does not run {component} here: {error}")
                continue
            instead = tuple(f"{sentence}; {name} does instead" for sentence in passed_over)
            return OpenedEngine(name, engine, instead + engine.notices)
    raise EngineUnavailable("; ".join(passed_over))


def require(choice: EngineChoice) -> None:
    """Raise EngineUnavailable if an engine that `choice` names cannot run on this machine, whatever the package."""
    for name in dict.fromkeys(choice.names.values()):
        missing = None if name == AUTO else ENGINES[name].missing()
        if missing is not None:
            raise EngineUnavailable(f"{name} does not run here: {missing}")


def graph_for(name: str, component: Component) -> Variant:
    """The variant that the engine `name` runs: the one made for it, else the canonical one."""
    return next(variant for kind in ENGINES[name].graphs for variant in component.variants if variant.engine == kind)


def files_of(name: str, package: Package, component: str) -> set[str]:
    """The package's files that the engine `name` reads of `component`: a graph and its weights, or a plan."""
    if ENGINES[name].plans:
        from ldm_runtime.engines.tensorrt.engine import fitting_plan

        return {fitting_plan(package, component).plan.file}
    parts = package.manifest.components[component]
    variant = graph_for(name, parts)
    return {variant.file, variant.own_weights or parts.weights}


def reads(name: str, variant: Variant) -> bool:
    """Whether the engine `name`, or one that "auto" may take, runs a variant of a component."""
    kinds = [kind for kind in ENGINES.values() if kind.automatic is not None] if name == AUTO else [ENGINES[name]]
    return any(variant.engine in kind.graphs for kind in kinds)


def serves(name: str, package: Package, component: str) -> bool:
    """Whether the package has something of `component` that the engine `name` runs: a graph, or a plan."""
    if name != AUTO and ENGINES[name].plans:
        return any(component in plans.plans for plans in package.manifest.engines.values())
    return any(reads(name, variant) for variant in package.manifest.components[component].variants)


def _by_part(text: str) -> dict[str, str]:
    """Component -> name, of "unet=tensorrt,vae=ort"."""
    named: dict[str, str] = {}
    for piece in text.split(","):
        part, equals, name = (each.strip() for each in piece.partition("="))
        if not equals or part not in _PARTS:
            raise InputError(f"engine has {shown(piece)}; expected PART=NAME with one of the parts {', '.join(_PARTS)}")
        for component in _PARTS[part]:
            if component in named:
                raise InputError(f"engine is {shown(text)}, which names {component} twice")
            named[component] = _known(name)
    return {component: named.get(component, AUTO) for component in COMPONENTS}


def _texts(options: Any) -> dict[str, dict[str, str]]:
    """Engine -> its options as text. Raises InputError for another form and for unknown engines."""
    if not isinstance(options, Mapping):
        raise InputError(f"engine_options is {shown(options)}; expected engine -> options: {_OPTIONS_EXAMPLE}")
    texts = {}
    for name, each in options.items():
        if not isinstance(each, Mapping) or not all(_is_option(key, value) for key, value in each.items()):
            raise InputError(
                f"engine_options has {shown(each)} for {shown(name)}; expected texts, numbers and booleans by name: "
                f"{_OPTIONS_EXAMPLE}"
            )
        texts[_known(name)] = {key: str(value) for key, value in each.items()}
    return texts


def _is_option(key: Any, value: Any) -> bool:
    """Whether an engine can be given it: a name and a value without NUL, at which C would cut."""
    return isinstance(key, str) and isinstance(value, str | int | float | Path) and "\0" not in f"{key}{value}"


def _check_read(name: str, text: str, chosen: set[str]) -> None:
    """Raise InputError unless one of the engines that are `chosen` by `text` reads the options of `name`."""
    if name == AUTO:
        raise InputError(f"there are options for {AUTO}, which is no engine; give them to one of {', '.join(ENGINES)}")
    if not ENGINES[name].takes_options:
        raise InputError(f"there are options for the engine {name}, which has none; threads are a choice of their own")
    if name not in chosen and (AUTO not in chosen or ENGINES[name].automatic is None):
        raise InputError(f"there are options for the engine {name}, but engine is {shown(text)}, which never runs it")


def _known(name: Any) -> str:
    if not isinstance(name, str) or (name != AUTO and name not in ENGINES):
        raise InputError(f"engine is {shown(name)}; expected one of {AUTO}, {', '.join(ENGINES)}")
    return name


_OPTIONS_EXAMPLE = 'such as {"ort:cuda": {"device_id": 1}}'
_PARTS = {**{component: (component,) for component in COMPONENTS}, "vae": ("vae_encoder", "vae_decoder")}

# Of more weights than this, putting them into the kernels' layouts takes longer than it saves in some twenty steps.
_LARGE_WEIGHTS = 2**28


def _open_ort(package: Package, component: str, settings: Settings) -> Engine:
    from ldm_runtime.engines.ort.session import OrtEngine  # imports onnxruntime: 0.1 s

    parts = package.manifest.components[component]
    stored = safetensors.read_header(package.file(parts.weights)).tensors.values()
    large = sum(math.prod(info.shape) for info in stored) > _LARGE_WEIGHTS
    engine = OrtEngine(
        package.file(graph_for("ort", parts).file),
        threads=settings.threads,
        reorder=not large,
    )
    engine.check_contract(package.manifest.contract, component)
    return engine


def _open_ort_provider(provider: Provider, package: Package, component: str, settings: Settings) -> Engine:
    """The canonical graph: what is made for ONNX Runtime's CPU kernels, others may not have."""
    from ldm_runtime.engines.ort.session import OrtEngine

    engine = OrtEngine(
        package.file(package.manifest.components[component].canonical.file),
        provider=provider,
        options=settings.options,
        threads=settings.threads,
    )
    engine.check_contract(package.manifest.contract, component)
    return engine


def _open_openvino(package: Package, component: str, settings: Settings) -> Engine:
    from ldm_runtime.engines.openvino import OpenVinoEngine  # imports openvino: 0.15 s

    variant = graph_for("openvino", package.manifest.components[component])
    return OpenVinoEngine(
        package.file(variant.file),
        package.manifest.contract,
        component,
        options=settings.options,
        threads=settings.threads,
        cache=_openvino_cache(package, component) if variant.engine == "openvino" else None,
    )


def _openvino_cache(package: Package, component: str) -> Path | None:
    """A folder of this graph and these weights alone: new bytes or new files get another. None: it cannot be kept."""
    names = sorted(files_of("openvino", package, component))
    identity = [(package.manifest.files[name].sha256, stamp(package.file(name))) for name in names]
    return make_cache_folder("openvino", hashlib.sha256(repr(identity).encode()).hexdigest()[:32])


def _missing_openvino() -> str | None:
    from ldm_runtime.engines.openvino import missing_openvino

    return missing_openvino()


def _missing_ort(provider: Provider | None = None) -> str | None:
    from ldm_runtime.engines.ort.session import import_onnxruntime

    try:
        onnxruntime = import_onnxruntime()
        return None if provider is None else provider.missing(onnxruntime)
    except EngineError as error:
        return str(error)


def _with_gpu() -> bool:
    return _missing_ort(PROVIDERS["cuda"]) is None


def _ort_provider(provider: Provider, automatic: Callable[[], bool] | None = None) -> EngineKind:
    return EngineKind(
        provider.summary,
        ("any",),
        functools.partial(_open_ort_provider, provider),
        functools.partial(_missing_ort, provider),
        automatic,
    )


def _open_tensorrt(package: Package, component: str, settings: Settings) -> Engine:
    from ldm_runtime.engines.tensorrt.engine import open_tensorrt

    return open_tensorrt(package, component, settings.options)


def _missing_tensorrt() -> str | None:
    from ldm_runtime.engines.tensorrt.engine import missing_tensorrt

    return missing_tensorrt()


_TENSORRT = EngineKind(
    "TensorRT, for RTX or classic, with the plans that the package was built with",
    (),
    _open_tensorrt,
    _missing_tensorrt,
    lambda: missing_gpu() is None,  # with a GPU, a user wants to hear why the package's plans are not used
    plans=True,
)

ENGINES: dict[str, EngineKind] = {
    "tensorrt": _TENSORRT,
    "ort:cuda": _ort_provider(PROVIDERS["cuda"], _with_gpu),
    "ort": EngineKind(
        "ONNX Runtime on the CPU",
        ("ort_cpu", "any"),
        _open_ort,
        _missing_ort,
        lambda: True,
        takes_options=False,
    ),
    **{f"ort:{name}": _ort_provider(provider) for name, provider in PROVIDERS.items() if name != "cuda"},
    "openvino": EngineKind(
        "OpenVINO, on CPUs, and on Intel's GPUs and NPUs",
        ("openvino", "any"),
        _open_openvino,
        _missing_openvino,
    ),
}
"""Name -> engine, in the order in which "auto" looks at them."""
