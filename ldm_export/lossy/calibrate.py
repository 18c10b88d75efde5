"""Calibration: what a component reads in real runs of its package, and the ranges of the values inside it then."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from ldm_export.errors import ExportError
from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.lossy.layers import quantisable
from ldm_export.lossy.ranges import ValueRange, join_ranges
from ldm_runtime.engines.choice import EngineChoice, open_engine
from ldm_runtime.engines.engine import Engine
from ldm_runtime.engines.ort.session import OrtEngine
from ldm_runtime.package.open import Package
from ldm_runtime.pipeline import Pipeline

Feeds = Mapping[str, np.ndarray]
T = TypeVar("T")

ROWS = 8  # of a run's plan that calibrate, from the first to the last
_VALUES = 4096  # of each value that an evaluation adds to the sample, for one image
_FEWEST_PLACES = 4
_SEED = 21


class RecordingEngine:
    """An engine that keeps a copy of what it was fed with, in order."""

    def __init__(self, inner: Engine) -> None:
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self.notices, self.maps_weights = inner.notices, inner.maps_weights
        self.feeds: list[Feeds] = []
        self._inner = inner
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with self._lock:
            self.feeds.append({name: np.array(value) for name, value in feeds.items()})
        return self._inner.run(feeds)

    def close(self) -> None:
        self._inner.close()


def record_runs(
    package: Package, choice: EngineChoice, draws: Iterable[Callable[[Pipeline], T]], *, rows: int = ROWS
) -> tuple[list[T], dict[str, list[Feeds]]]:
    """Draw exactly, a run with each of `draws`; return what they made, and what denoiser and decoder were fed with.

    The feeds are by component; of the denoiser's evaluations `rows` of each run, spread from the first to the last:
    activations grow and shrink with the noise. Both halves of guidance are in one feed.

    Raises LdmError where the package cannot be drawn with.
    """
    contract = package.manifest.contract
    names = (contract.denoiser.component, contract.codec.decoder.component)
    engines = {name: RecordingEngine(open_engine(choice, package, name).engine) for name in names}
    denoiser = engines[contract.denoiser.component]
    made: list[T] = []
    kept: list[Feeds] = []
    with Pipeline(package, choice, engines=engines) as pipe:
        for draw in draws:
            made.append(draw(pipe))
            kept += spread(denoiser.feeds, rows)
            denoiser.feeds.clear()
    return made, {names[0]: kept, names[1]: engines[names[1]].feeds}


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return `count` of the items, evenly spread from the first to the last; all where there are not more."""
    places = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[place] for place in places]


def collect_ranges(graph: Path, feeds: Iterable[Feeds]) -> dict[str, ValueRange]:
    """Run a graph and return the ranges of what its layers read, and of what its convolutions make, by name of value.

    One evaluation is in memory at a time; of each, the ends of each channel and some places are kept.

    Raises:
        ExportError: the graph cannot be read, or there are no feeds.
        EngineError: ONNX Runtime fails.
    """
    collected: dict[str, list[ValueRange]] = {}
    with _observed(graph) as (path, channels), contextlib.closing(OrtEngine(path, reorder=False)) as engine:
        for each in feeds:
            outputs = engine.run(each)
            for name, count in channels.items():
                low, high, sample = (outputs[f"{name}/{part}"] for part in ("low", "high", "sample"))
                rows = sample if sample.ndim == 2 else np.moveaxis(sample, 1, -1).reshape(-1, count)
                collected.setdefault(name, []).append(ValueRange(low, high, rows))
    if channels and not collected:
        raise ExportError(f"there is nothing to calibrate {graph} with; expected at least one evaluation's inputs")
    return {name: join_ranges(ranges) for name, ranges in collected.items()}


@contextlib.contextmanager
def _observed(graph: Path) -> Iterator[tuple[Path, dict[str, int]]]:
    """Write a graph that also returns what `collect_ranges` needs beside `graph`; yield it and value -> channels."""
    path = graph.with_name(f".{graph.stem}.calibration-{os.getpid()}.onnx")
    try:
        model = read_graph(graph)
        channels = _observe(model)
        write_graph(model, path)
        yield path, channels
    finally:
        path.unlink(missing_ok=True)


def _observe(model: ir.Model) -> dict[str, int]:
    """Add outputs for the ends and a sample of each value that a layer reads or a convolution makes."""
    random = np.random.default_rng(_SEED)
    channels: dict[str, int] = {}
    for layer in quantisable(model):
        made, read = layer.channels
        for value, count in [(layer.input, read), *([(layer.node.outputs[0], made)] if layer.is_convolution else [])]:
            name = str(value.name)
            if name not in channels:
                channels[name] = count
                places = random.random(max(_FEWEST_PLACES, _VALUES // count)) * (1 - 2.0**-20)
                _add_outputs(model.graph, value, count, layer.is_convolution, places.astype(np.float32))
    return channels


def _add_outputs(graph: ir.Graph, value: ir.Value, channels: int, is_image: bool, places: np.ndarray) -> None:
    """Append the nodes of one value. places: float32 (K,) in [0, 1), where along the rows or pixels to sample."""
    name = str(value.name)

    def put(op_type: str, inputs: list[ir.Value], part: str, **attributes: int) -> ir.Value:
        node = ir.node(op_type, inputs, attributes, name=f"{name}/{part}")
        node.outputs[0].name = f"{name}/{part}"
        graph.append(node)
        return node.outputs[0]

    def constant(array: np.ndarray, part: str) -> ir.Value:
        node = ir.node("Constant", [], {"value": ir.tensor(array)}, name=f"{name}/{part}")
        node.outputs[0].name = f"{name}/{part}"
        graph.append(node)
        return node.outputs[0]

    shape = [0, channels, -1] if is_image else [-1, channels]  # (B, C, pixels) or (rows, C)
    axis, others = (2, [0, 2]) if is_image else (0, [0])
    flat = put("Reshape", [value, constant(np.array(shape, np.int64), "flat_shape")], "flat")
    axes = constant(np.array(others, np.int64), "axes")
    low = put("ReduceMin", [flat, axes], "low", keepdims=0)
    high = put("ReduceMax", [flat, axes], "high", keepdims=0)
    count = put("Cast", [put("Shape", [flat], "count", start=axis, end=axis + 1)], "count_float", to=ir.DataType.FLOAT)
    scaled = put("Mul", [count, constant(places, "shares")], "places")
    indices = put("Cast", [scaled], "indices", to=ir.DataType.INT64)
    sample = put("Gather", [flat, indices], "sample", axis=axis)
    sampled = (None, channels, len(places)) if is_image else (len(places), channels)
    for output, sizes in ((low, (channels,)), (high, (channels,)), (sample, sampled)):
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(sizes)
        graph.outputs.append(output)
