"""The choice of an engine for each component, by the user, the package and this machine.

A text chooses: one name for all components, such as "ort:cuda", or names of parts, such as "unet=tensorrt,vae=ort".
What it does not name, and "auto", is left to the package and the machine.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm_runtime.checks import check_integer, shown
from ldm_runtime.engines.engine import Engine, EngineKind, Settings
from ldm_runtime.engines.lossy_options import lossy_options
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.errors import EngineError, EngineUnavailable, InputError, PackageError
from ldm_runtime.package.artefacts import INTEGERS, Artefact, Precision
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.open import Package
from ldm_runtime.package.variants import Way

AUTO = "auto"


@dataclass(frozen=True)
class EngineChoice:
    """The engine of each component, "auto" included, and its settings. Made by `choose`.

    text: the user's own. parts: a component, or the codec's name for both of its halves -> engine; of the others
    it is `otherwise`.
    """

    text: str
    parts: Mapping[str, str]
    otherwise: str
    threads: int | None
    options: Mapping[str, Mapping[str, str]]  # engine -> its own options
    without: frozenset[str] = frozenset()  # engines that "auto" passes over

    @property
    def engines(self) -> set[str]:
        """The names that the choice may lead to, whatever the package."""
        return {*self.parts.values(), self.otherwise}

    def names(self, contract: Contract) -> dict[str, str]:
        """Return component -> engine for a package with this contract.

        Raises InputError for a part that the package does not have, a component that is named twice, and options that
        nothing would read.
        """
        codec = contract.codec
        known: dict[str, tuple[str, ...]] = {name: (name,) for name in contract.components}
        known |= {codec.name: (codec.encoder.component, codec.decoder.component)}
        named: dict[str, str] = {}
        for part, name in self.parts.items():
            if part not in known:
                raise InputError(
                    f"engine has {shown(f'{part}={name}')}; expected PART=NAME with one of the parts "
                    f"{', '.join(known)}",
                    code="request.engine",
                )
            for component in known[part]:
                if component in named:
                    raise InputError(
                        f"engine is {shown(self.text)}, which names {component} twice", code="request.engine"
                    )
                named[component] = name
        names = {component: named.get(component, self.otherwise) for component in contract.components}
        for name in self.options:
            _check_read(name, self.text, set(names.values()))
        return names

    def settings(self, name: str, precision: Precision | None = None) -> Settings:
        """Return the settings that the engine `name` is opened with; precision: to compute in, None: the artefact's."""
        return Settings(self.threads, self.options.get(name, {}), precision)


@dataclass(frozen=True)
class OpenedEngine:
    """An engine, its name, its artefact, and notices about the choice, as sentences."""

    name: str
    engine: Engine
    artefact: Artefact
    notices: tuple[str, ...]


def choose(
    text: str = AUTO,
    *,
    threads: int | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    without: Collection[str] = (),
) -> EngineChoice:
    """Read a choice of engines.

    text: "auto", a name, or PART=NAME separated by commas; a part is a component of the package, or the name of both
    halves of its codec, such as "vae". options: of an engine, by its name; values are passed on as text. without:
    engines that "auto" shall not take.

    Raises InputError for unknown engines, a part given twice, options that nothing would read or that are not a mapping
    of mappings, or `threads` below 1 or beyond `most_threads`.
    """
    if threads is not None:
        threads = check_integer("threads", threads, 1, most_threads())
    if not isinstance(text, str):
        raise InputError(
            f"engine is {shown(text)}; expected a text such as auto, ort or unet=tensorrt,vae=ort",
            code="request.engine",
        )
    texts = {} if options is None else _texts(options)
    parts = _by_part(text) if "=" in text else {}
    choice = EngineChoice(text, parts, AUTO if parts else _known(text), threads, texts, frozenset(without))
    for name in texts:
        _check_read(name, text, choice.engines)
    return choice


def choice_of(engines: Mapping[str, str], threads: int | None) -> EngineChoice:
    """Choose engines by component, "auto" where none is given. Raises InputError as `choose`."""
    return choose(",".join(f"{component}={name}" for component, name in engines.items()) or AUTO, threads=threads)


def most_threads() -> int:
    """Return the most threads of one operator: four for each CPU, 16 at least; more only wait for one another."""
    return max(16, 4 * (os.cpu_count() or 1))


def open_engine(
    choice: EngineChoice,
    package: Package,
    component: str,
    artefact: Artefact | None = None,
    precision: Precision | None = None,
) -> OpenedEngine:
    """Load `component` of `package` with the engine that `choice` has for it.

    "auto" takes the first of `automatic_engines` that opens it; `notices` tell each that it passes over. artefact: what
    shall run; None takes the engine's best. precision: what is computed in; None: the artefact's.

    Raises:
        EngineUnavailable: this machine cannot run what was asked for.
        EngineError: the engine cannot load the artefact.
        PackageError: the artefact is damaged or does not keep the contract.
    """
    name = choice.names(package.manifest.contract)[component]
    if name != AUTO:
        return _opened(name, choice, package, component, artefact, precision)
    passed_over: list[str] = []
    for name in automatic_engines(choice, package, component, artefact):
        try:
            opened = _opened(name, choice, package, component, artefact, precision)
        except EngineUnavailable as error:
            passed_over.append(f"{name} does not run {component} here: {error}")
            continue
        instead = tuple(f"{sentence}; {name} does instead" for sentence in passed_over)
        return OpenedEngine(name, opened.engine, opened.artefact, instead + opened.notices)
    raise EngineUnavailable("; ".join(passed_over) or f"no engine here runs {component} of {package.path}")


def open_way(
    choice: EngineChoice, package: Package, component: str, way: Way, artefact: Artefact | None = None
) -> OpenedEngine:
    """Load `component` of `package` as `way` says, whose engine it is whatever `choice` has; the settings are its.

    artefact: another one that is run in the same way. Raises what `open_engine` does.
    """
    chosen = artefact_named(package, component, way.artefact) if artefact is None else artefact
    try:
        return _opened(_known(way.engine), choice, package, component, chosen, asked_precision(way, chosen))
    except EngineUnavailable:
        raise
    except EngineError as error:
        raise EngineError(f"{way.engine} does not run {chosen.name} of {component}: {error}") from error


def asked_precision(way: Way, artefact: Artefact) -> Precision | None:
    """Return the precision that an engine is asked to compute an artefact in; None: the artefact's own."""
    return None if way.precision in (artefact.precision, *INTEGERS) else way.precision


def artefact_named(package: Package, component: str, name: str) -> Artefact:
    """Return an artefact of a component by its name. Raises PackageError if there is none."""
    for artefact in package.manifest.components[component].artefacts:
        if artefact.name == name:
            return artefact
    raise PackageError(f"{package.path} has no {shown(name)} of {component}", code="manifest.artefact")


def automatic_engines(
    choice: EngineChoice, package: Package, component: str, artefact: Artefact | None = None
) -> Iterator[str]:
    """Yield the engines that "auto" considers for a component on this machine, the best first.

    That is what the package was built for, then ONNX Runtime with a GPU, then who is faster on this CPU by a rule, then
    ONNX Runtime on the CPU. artefact: what shall run; None: the engine's best.
    """
    for name, kind in ENGINES.items():
        if name in choice.without or not _can_run(kind, package, component, artefact):
            continue
        considers = kind.automatic is not None and kind.automatic()
        if considers or (kind.is_faster is not None and kind.is_faster(package, component)):
            yield name


def require(choice: EngineChoice) -> None:
    """Raise EngineUnavailable if an engine of `choice` cannot run on this machine, whatever the package.

    Of those that "auto" may take, one is enough.
    """
    for name in sorted(choice.engines - {AUTO}):
        missing = ENGINES[name].missing()
        if missing is not None:
            raise EngineUnavailable(f"{name} does not run here: {missing}")
    if choice.engines == {AUTO}:  # with parts that are named, the package decides whether any is left to it
        reasons = {name: ENGINES[name].missing() for name in _automatic(choice)}
        if None not in reasons.values():
            raise EngineUnavailable(f"no engine runs here: {'; '.join(dict.fromkeys(filter(None, reasons.values())))}")


def artefact_for(name: str, package: Package, component: str) -> Artefact:
    """Return what the engine `name` runs of a component. Raises EngineUnavailable if the package has nothing for it."""
    kind = ENGINES[name]
    if kind.pick is not None:
        return kind.pick(package, component)
    readable = readable_by(kind, package, component)
    if not readable:
        raise EngineUnavailable(f"{package.path} has nothing of {component} that {name} reads")
    return readable[0]


def readable_by(kind: EngineKind, package: Package, component: str) -> list[Artefact]:
    """List the artefacts of a component that an engine may pick by itself, the best first."""
    artefacts = package.manifest.pickable(component)
    return [each for reads in kind.reads for each in artefacts if (each.format, each.engine) == reads]


def _can_run(kind: EngineKind, package: Package, component: str, artefact: Artefact | None) -> bool:
    """Return whether an engine reads an artefact; None: any that it may pick by itself."""
    if artefact is None:
        return bool(readable_by(kind, package, component))
    return (artefact.format, artefact.engine) in kind.reads


def artefacts_for(choice: EngineChoice, package: Package, component: str) -> list[Artefact]:
    """List the artefacts of a component, in the manifest's order, that the engines of `choice` read."""
    name = choice.names(package.manifest.contract)[component]
    names = _automatic(choice) if name == AUTO else (name,)
    readable = [each for name in names for each in readable_by(ENGINES[name], package, component)]
    return [each for each in package.manifest.components[component].artefacts if each in readable]


def _automatic(choice: EngineChoice) -> list[str]:
    """List the engines that "auto" may take on one machine or another, whatever the package."""
    return [name for name, kind in ENGINES.items() if kind.automatic is not None and name not in choice.without]


def _opened(
    name: str,
    choice: EngineChoice,
    package: Package,
    component: str,
    artefact: Artefact | None,
    precision: Precision | None,
) -> OpenedEngine:
    chosen = artefact_for(name, package, component) if artefact is None else artefact
    missing = None if precision is None else ENGINES[name].missing_for(precision)
    if missing is not None:
        raise EngineUnavailable(f"{name} does not run {component} here: {missing}")
    engine = ENGINES[name].open(package, component, chosen, choice.settings(name, precision))
    lossy = lossy_options(name, choice.options.get(name, {}))
    return OpenedEngine(name, engine, chosen, (*engine.notices, *lossy))


def _by_part(text: str) -> dict[str, str]:
    """Read "unet=tensorrt,vae=ort" as part -> engine."""
    named: dict[str, str] = {}
    for piece in text.split(","):
        part, equals, name = (each.strip() for each in piece.partition("="))
        if not equals or not part:
            raise InputError(
                f"engine has {shown(piece)}; expected PART=NAME such as unet=tensorrt", code="request.engine"
            )
        if part in named:
            raise InputError(f"engine is {shown(text)}, which names {shown(part)} twice", code="request.engine")
        named[part] = _known(name)
    return named


def _texts(options: Any) -> dict[str, dict[str, str]]:
    """Read engine -> its options as text. Raises InputError for another form and for unknown engines."""
    if not isinstance(options, Mapping):
        raise InputError(
            f"engine_options is {shown(options)}; expected engine -> options: {_OPTIONS_EXAMPLE}", code="request.engine"
        )
    texts = {}
    for name, each in options.items():
        if not isinstance(each, Mapping) or not all(_is_option(key, value) for key, value in each.items()):
            raise InputError(
                f"engine_options has {shown(each)} for {shown(name)}; expected texts, numbers and booleans by name: "
                f"{_OPTIONS_EXAMPLE}",
                code="request.engine",
            )
        texts[_known(name)] = {key: str(value) for key, value in each.items()}
    return texts


def _is_option(key: Any, value: Any) -> bool:
    """Tell whether an engine can read it: a name and a value without NUL, at which C would cut."""
    return isinstance(key, str) and isinstance(value, str | int | float | Path) and "\0" not in f"{key}{value}"


def _check_read(name: str, text: str, chosen: set[str]) -> None:
    """Raise InputError unless one of the engines that are `chosen` by `text` reads the options of `name`."""
    if name == AUTO:
        raise InputError(
            f"there are options for {AUTO}, which is not an engine; give them to one of {', '.join(ENGINES)}",
            code="request.engine",
        )
    if not ENGINES[name].takes_options:
        raise InputError(
            f"there are options for the engine {name}, which has none; threads are a choice of their own",
            code="request.engine",
        )
    if name not in chosen and (AUTO not in chosen or ENGINES[name].automatic is None):
        raise InputError(
            f"there are options for the engine {name}, but engine is {shown(text)}, which never runs it",
            code="request.engine",
        )


def _known(name: Any) -> str:
    if not isinstance(name, str) or (name != AUTO and name not in ENGINES):
        raise InputError(
            f"engine is {shown(name)}; expected one of {AUTO}, {', '.join(ENGINES)}", code="request.engine"
        )
    return name


_OPTIONS_EXAMPLE = 'such as {"ort:cuda": {"device_id": 1}}'
