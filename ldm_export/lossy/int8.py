"""The method int8: denoiser and decoder with weights and activations in eight bits, for ONNX Runtime and OpenVINO.

Layers whose rounding costs too much stay in float32: first of the decoder, alone on latents of exact runs, then of the
denoiser in whole runs. All of it is decided on the prompts that calibrate; the held-out ones only judge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ldm_export.export.graph_file import read_graph
from ldm_export.lossy.calibrate import Feeds, collect_ranges
from ldm_export.lossy.halves import beside
from ldm_export.lossy.layers import exposed, quantisable
from ldm_export.lossy.measure import RunError, compare_runs
from ldm_export.lossy.method import Draft, Made, Order, Progress
from ldm_export.lossy.quantise import Scheme, quantise
from ldm_export.lossy.ranges import ValueRange
from ldm_export.lossy.sensitivity import Group, fewest_kept, rank_groups
from ldm_export.lossy.store import Quantised, store
from ldm_export.lossy.trials import Trials, in_words
from ldm_export.lossy.units import EIGHT_BITS, unit_of
from ldm_export.optimise.fuse_activations import fuse_activations
from ldm_export.optimise.fuse_attention import fuse_attention
from ldm_export.optimise.pipeline import Pass, run_passes
from ldm_export.optimise.remove_unused import remove_unused
from ldm_export.package.write import with_artefacts
from ldm_export.verify.gate import proving_engines
from ldm_export.verify.images import to_bytes
from ldm_runtime.engines.choice import open_way
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.package.artefacts import Artefact, Difference
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.open import Package
from ldm_runtime.package.variants import WHOLE_RUN, Way

DATA = "model.int8.safetensors"  # of all forms of a component
DECODER_SPARE = 6.0  # dB: the decoder may have a quarter of the error


@dataclass(frozen=True)
class Form:
    """How graphs are quantised for an engine. artefact: its name; engine, reader: a Way's and an artefact's."""

    artefact: str
    engine: str
    reader: str
    scheme: Scheme
    passes: tuple[Pass, ...]


# A convolution that ONNX Runtime computes in eight bits has an output in eight bits, too. Winograd's transforms and
# split upsampling are left out: their weights are sums, which have no scale of their own.
FORMS = (
    Form("int8", "ort", "ort_cpu", Scheme(outputs=True), (fuse_attention, fuse_activations, remove_unused)),
    Form("int8-openvino", "openvino", "openvino", Scheme(), ()),
)


@dataclass(frozen=True)
class _Component:
    """A component to quantise. groups: of its layers, the worst first."""

    name: str
    ranges: Mapping[str, ValueRange]
    groups: tuple[Group, ...]
    outside: frozenset[str]  # layers that always stay in float32
    layers: int  # that could be quantised, these among them


def make_int8(order: Order, *, progress: Progress) -> Made:
    """Write the quantised graphs of each engine that runs here into the package's folder.

    Raises LdmError where the package cannot be drawn with.
    """
    search = _Search.begun(order, progress)
    drafts: list[Draft] = []
    artefacts: dict[str, list[Artefact]] = {name: [] for name in search.components}
    graphs: dict[str, dict[Path, Quantised]] = {name: {} for name in search.components}
    for form in FORMS:
        if ENGINES[form.engine].missing() is not None:
            continue
        keeps, note = search.keeps(form)
        for name, component in search.components.items():
            graphs[name][search.graph(form, name)] = search.quantised(form, component, keeps[name])
            artefacts[name].append(search.artefact(form, name, keeps[name], DATA))
        drafts += search.drafts(form, note)
    for name, each in graphs.items():
        store(each, order.folder / name / DATA)
    search.remove_trials()
    return Made(drafts, artefacts, has_milder=search.denoiser in search.within)


@dataclass(frozen=True)
class _Search:
    """The search for what stays in float32.

    written: by graph, what stays there in the one that lies in the folder. within: the components that were within the
    budget in a trial.
    """

    order: Order
    trials: Trials
    components: Mapping[str, _Component]
    written: dict[Path, frozenset[str]] = field(default_factory=dict)
    within: set[str] = field(default_factory=set)

    @classmethod
    def begun(cls, order: Order, say: Progress) -> "_Search":
        """Collect the ranges of both components in the exact runs of the prompts that calibrate."""
        say(f"int8: calibrating with {len(order.setting.prompts)} prompts")
        components = {name: _component(order.folder, order.manifest, name, each) for name, each in order.feeds.items()}
        return cls(order, Trials(order, say), components)

    @property
    def decoder(self) -> str:
        return self.order.manifest.contract.codec.decoder.component

    @property
    def denoiser(self) -> str:
        return self.order.manifest.contract.denoiser.component

    def keeps(self, form: Form) -> tuple[dict[str, frozenset[str]], str]:
        """Return what stays in float32 by component, and how much that is, in words."""
        keeps = {name: component.outside for name, component in self.components.items()}
        for name, attempt in ((self.decoder, self._decoded), (self.denoiser, self._drawn)):
            component = self.components[name]

            def holds(count: int, attempt: Any = attempt, component: _Component = component) -> bool:
                kept = _kept(component, count)
                found, spare = attempt(form, {**keeps, component.name: kept})
                how = f"with {len(kept)} of {component.layers} layers in float32"
                self.trials.say(f"{form.artefact}: {component.name} {how}: {in_words(found)}")
                is_within = self.trials.is_within(found, spare)
                self.within.update([component.name] if is_within else [])
                return is_within

            keeps[name] = _kept(component, fewest_kept(len(component.groups), holds))
        total = sum(component.layers for component in self.components.values())
        return keeps, f"with {sum(map(len, keeps.values()))} of {total} layers in float32"

    def _decoded(self, form: Form, keeps: Mapping[str, frozenset[str]]) -> tuple[RunError, float]:
        """Decode the latents of the exact runs; return the error, and the dB that it is to spare for others."""
        manifest = self._trial(form, {self.decoder: keeps[self.decoder]})
        package = Package(self.order.folder, manifest, "", "size")
        engine = open_way(proving_engines(), package, self.decoder, _way(form)).engine
        output = manifest.contract.codec.decoder.output
        try:
            images = np.stack([to_bytes(engine.run(each)[output][0]) for each in self.order.feeds[self.decoder]])
        finally:
            engine.close()
        found = compare_runs(self.order.exact, replace(self.order.exact, images=images))
        return found, DECODER_SPARE

    def _drawn(self, form: Form, keeps: Mapping[str, frozenset[str]]) -> tuple[RunError, float]:
        """Draw whole images; return likewise."""
        draft = Draft(form.artefact, ("int8",), dict.fromkeys(keeps, _way(form)), WHOLE_RUN)
        return self.trials.drawn(draft, self._trial(form, keeps)), 0.0

    def _trial(self, form: Form, keeps: Mapping[str, frozenset[str]]) -> Manifest:
        """Write the graphs that are not there yet, and return the manifest with all."""
        folder, data = self.order.folder, f"model.{form.artefact}.trial.safetensors"
        for name, keep in keeps.items():
            graph = self.graph(form, name)
            if self.written.get(graph) != keep:
                store({graph: self.quantised(form, self.components[name], keep)}, folder / name / data)
                self.written[graph] = keep
        artefacts = {name: [self.artefact(form, name, keep, data)] for name, keep in keeps.items()}
        return with_artefacts(folder, self.order.manifest, artefacts)

    def graph(self, form: Form, component: str) -> Path:
        return self.order.folder / component / f"model.{form.artefact}.onnx"

    def quantised(self, form: Form, component: _Component, keep: frozenset[str]) -> Quantised:
        model = read_graph(self.order.folder / self.order.manifest.components[component.name].canonical.file)
        run_passes(model, form.passes)
        return quantise(model, component.ranges, form.scheme, keep)

    def artefact(self, form: Form, component: str, keep: frozenset[str], data: str) -> Artefact:
        """Describe a graph; its difference is noted when it is measured."""
        weights = self.order.manifest.components[component].weights
        files = (f"{component}/{self.graph(form, component).name}", f"{component}/{data}", weights)
        nothing = Difference(0.0, 0.0)
        return Artefact(form.artefact, "onnx", files, form.reader, "int8", "lossy", nothing, kept=tuple(sorted(keep)))

    def drafts(self, form: Form, note: str) -> list[Draft]:
        """Return the variants of a form: int8 alone, and with half the bits beside it where these are tried."""
        alone = Draft(form.artefact, ("int8",), dict.fromkeys(self.components, _way(form)), WHOLE_RUN, note)
        return [alone, *beside(alone, "int8", self.order.methods)]

    def remove_trials(self) -> None:
        for name in self.components:
            for file in (self.order.folder / name).glob("model.*.trial.safetensors"):
                file.unlink()


def _component(folder: Path, manifest: Manifest, name: str, feeds: Sequence[Feeds]) -> _Component:
    graph = folder / manifest.components[name].canonical.file
    ranges = collect_ranges(graph, feeds)
    model = read_graph(graph)
    return _Component(name, ranges, tuple(rank_groups(model, ranges)), exposed(model), len(quantisable(model)))


def _kept(component: _Component, count: int) -> frozenset[str]:
    """Return the layers of the worst `count` groups, and those that always stay in float32."""
    return component.outside.union(*component.groups[:count])


def _way(form: Form) -> Way:
    return Way(form.engine, form.artefact, "int8", unit_of(EIGHT_BITS))
