"""Builds one TensorRT plan of one graph, in a process of its own: network, profiles, plan, what TensorRT says of it.

Networks are strongly typed: a plan computes in the types that the graph has, and TF32 is off.
https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/python-api-docs.html
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm_export.errors import ExportError
from ldm_export.targets.tensorrt.profiles import Shapes
from ldm_runtime.engines.tensorrt.library import CLASSIC, RTX, Library, import_tensorrt
from ldm_runtime.errors import LdmError
from ldm_runtime.files.atomic import atomic_file, make_folder

_LOG = logging.getLogger(__name__)
Progress = Callable[[str], None]


@dataclass(frozen=True)
class PlanRequest:
    """The inputs of one plan.

    name: what the plan calls itself inside, so that it is known wherever its file goes.
    capabilities: those that it must fit; none leaves it portable over all that TensorRT for RTX knows but 7.5, and
    is what classic TensorRT gets, which builds for the GPU that is here.
    profiles: input -> smallest, preferred and largest shape, one mapping for each profile.
    options: "refit", "weight_stripped". timing_cache: classic TensorRT's measurements, read and written there.
    """

    graph: Path
    plan: Path
    name: str
    flavour: str
    capabilities: tuple[str, ...]
    profiles: tuple[Mapping[str, Shapes], ...]
    options: tuple[str, ...] = ()
    timing_cache: Path | None = None


@dataclass(frozen=True)
class BuiltPlan:
    """TensorRT's figures of a plan that it built: bytes on the GPU, None where it reports none."""

    version: str
    activation_bytes: int | None
    weight_bytes: int | None


def build_plan(request: PlanRequest, *, progress: Progress | None = None) -> BuiltPlan:
    """Parse the graph and build the plan; the file appears whole or not at all.

    TensorRT takes three to four times the weights' memory and hears no Ctrl-C: call it through `run_isolated`.

    Raises:
        ExportError: TensorRT cannot parse or build the graph; its own words, with the ONNX node's name where it has it.
        EngineUnavailable: TensorRT is not installed.
        LdmError: the plan cannot be written.
    """
    library = import_tensorrt(request.flavour)
    trt = library.module
    builder = trt.Builder(library.log)
    network = builder.create_network(_strongly_typed(trt))
    network.name = request.name
    _parse(library, network, request.graph)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    for flag in _flags(trt, request.options):
        config.set_flag(flag)
    config.progress_monitor = monitor = _monitor(trt, progress if progress is not None else lambda text: None)
    if request.capabilities:
        _set_capabilities(library, config, request.capabilities)
    for shapes in request.profiles:
        _add_profile(library, builder, network, config, shapes)
    timings = _read_timings(config, request.timing_cache) if library.flavour == CLASSIC else None
    plan = builder.build_serialized_network(network, config)
    messages = library.take_messages()
    if plan is None:
        raise ExportError(f"{_who(library)} cannot build {request.graph}: {messages.why}")
    for note in messages.notes:  # TensorRT only warns of largest sizes that contradict one another
        if "not self-consistent" in note:
            raise ExportError(f"the profile contradicts the graph {request.graph}: {note}")
    del monitor, network  # before the plan is written: they hold the weights a second time
    with atomic_file(request.plan) as temporary, open(temporary, "wb") as file:
        file.write(memoryview(plan))
    if timings is not None and request.timing_cache is not None:
        _write_timings(timings, request.timing_cache)
    notes = " ".join(messages.notes)
    return BuiltPlan(library.version, _bytes(notes, "Activation Memory"), _bytes(notes, "Weights Memory"))


def _who(library: Library) -> str:
    return f"TensorRT {'for RTX ' if library.flavour == RTX else ''}{library.version}"


def _strongly_typed(trt: Any) -> int:
    """Return the flag where TensorRT has one that counts: newer ones, and that for RTX, have no other networks."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _flags(trt: Any, options: Sequence[str]) -> list[Any]:
    """Return REFIT for other weights later on, REFIT_IDENTICAL for the same ones: then stripping costs no speed."""
    flags = []
    if "refit" in options:
        flags.append(trt.BuilderFlag.REFIT)
    if "weight_stripped" in options:
        flags += [trt.BuilderFlag.STRIP_PLAN, trt.BuilderFlag.REFIT_IDENTICAL]
    return flags


def _parse(library: Library, network: Any, graph: Path) -> None:
    parser = library.module.OnnxParser(network, library.log)
    parsed = parser.parse_from_file(str(graph))
    messages = library.take_messages()
    if parsed and network.num_outputs > 0:
        return
    problems = [parser.get_error(index) for index in range(parser.num_errors)]
    descriptions = [_clean(each.desc()) for each in problems]
    texts = [
        f"node {each.node_name()!r} ({each.node_operator()}): {description}"
        for each, description in zip(problems, descriptions, strict=True)
    ]
    # The log repeats them with a listing of the node, but it alone says why weights cannot be read.
    others = [_clean(error) for error in messages.errors if not error.startswith("ModelImporter")]
    texts += [error for error in others if not any(error in description for description in descriptions)]
    raise ExportError(f"{_who(library)} cannot read {graph}: {'; '.join(texts) or 'it holds no network'}")


def _clean(text: str) -> str:
    """Make one line, without the text that TensorRT adds to every error on a machine without a driver."""
    return re.sub(
        r"\[checkMacros\S*catchCudaError\S*\] .*?\(cudaError \d+: [^)]*\)\)", "", " ".join(text.split())
    ).strip()


def _set_capabilities(library: Library, config: Any, capabilities: Sequence[str]) -> None:
    trt = library.module
    config.num_compute_capabilities = len(capabilities)  # TensorRT has no places for them before
    for index, capability in enumerate(capabilities):
        member = getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}", None)
        if member is None or not config.set_compute_capability(member, index):
            why = library.take_messages().why
            raise ExportError(f"{_who(library)} does not build for compute capability {capability}: {why}")


def _add_profile(library: Library, builder: Any, network: Any, config: Any, shapes: Mapping[str, Shapes]) -> None:
    inputs = {network.get_input(index).name for index in range(network.num_inputs)}
    if inputs != set(shapes):  # TensorRT takes a name that it does not know without a word
        raise ExportError(
            f"the graph has the inputs {', '.join(sorted(inputs))}, but the profile {', '.join(sorted(shapes))}"
        )
    profile = builder.create_optimization_profile()
    for name, (low, preferred, high) in shapes.items():
        profile.set_shape(name, low, preferred, high)
    if not profile or config.add_optimization_profile(profile) < 0:
        raise ExportError(f"{_who(library)} refuses the profile {dict(shapes)}: {library.take_messages().why}")


def _read_timings(config: Any, place: Path | None) -> Any:
    """Read TensorRT's timings of earlier builds; it measures again where it cannot use them."""
    try:
        known = place.read_bytes() if place is not None and place.is_file() else b""
    except OSError as error:
        _LOG.debug("no timings in %s: %s", place, error)
        known = b""
    timings = config.create_timing_cache(known)
    if timings is None or not config.set_timing_cache(timings, False):
        timings = config.create_timing_cache(b"")
        config.set_timing_cache(timings, False)
    return timings


def _write_timings(timings: Any, place: Path) -> None:
    """Keep the timings; where that is not possible the next build measures again."""
    try:
        make_folder(place.parent)
        with atomic_file(place) as temporary:
            temporary.write_bytes(memoryview(timings.serialize()))
    except LdmError as error:
        _LOG.debug("timings are not kept: %s", error)


def _bytes(notes: str, what: str) -> int | None:
    match = re.search(rf"Total {what}: (\d+) bytes", notes)
    return None if match is None else int(match[1])


def _monitor(trt: Any, say: Progress) -> Any:
    """Make a monitor that logs each phase. TensorRT is silent for most of a build, so no share is known."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            if parent in (None, "Building engine"):
                say(f"TensorRT: {name[:1].lower()}{name[1:]}")

        def step_complete(self, name: str, step: int) -> bool:
            return True  # go on

        def phase_finish(self, name: str) -> None:
            """Do nothing: the start of the next phase shows the end of this one."""

    return Monitor()
