"""The methods w8 and w4: all weights in eight or four bits, which engines widen to compute in float32.

They make a package's graphs small as files, not fast: W8A16 and W4A16 as the field calls them, but with
float32 for what is computed. Nothing is calibrated. In four bits are products of the denoiser and of the text encoders,
in blocks with a scale each; convolutions, and products that have to be, are in eight, with a scale for each output, and
tables of embeddings with a scale for each row.
Each graph has all that it reads in a file of its own, so that the component's weights are not read at all.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir

from ldm_export.export.graph_file import read_graph
from ldm_export.lossy.blocks import pack_blocks, unpack_blocks
from ldm_export.lossy.halves import beside
from ldm_export.lossy.layers import Layer, exposed, narrow, parameter_array, quantisable
from ldm_export.lossy.method import Draft, Made, Order, Progress
from ldm_export.lossy.quantise import Scheme, quantise
from ldm_export.lossy.sensitivity import fewest_kept
from ldm_export.lossy.store import Quantised, store, with_rest
from ldm_export.lossy.tables import shrink_tables
from ldm_export.lossy.trials import Trials
from ldm_export.optimise.fuse_activations import fuse_activations
from ldm_export.optimise.fuse_attention import fuse_attention
from ldm_export.optimise.pipeline import Pass, run_passes
from ldm_export.optimise.remove_unused import remove_unused
from ldm_export.package.write import with_artefacts
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.package.artefacts import Artefact, Difference
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.variants import WHOLE_RUN, Way

Method = Literal["w8", "w4"]
SCHEMES: dict[Method, Literal["int8", "int4"]] = {"w8": "int8", "w4": "int4"}  # of its artefacts the precision, too
TRIAL = "trial"  # in the names of data files that a search writes


@dataclass(frozen=True)
class Form:
    """What graphs are made for. suffix: of its names; engine, reader: a Way's and an artefact's."""

    suffix: str
    engine: str
    reader: str
    passes: tuple[Pass, ...]


FORMS = (
    Form("", "ort", "ort_cpu", (fuse_attention, fuse_activations, remove_unused)),
    Form("-openvino", "openvino", "openvino", ()),
)


def make_w8(order: Order, *, progress: Progress) -> Made:
    """Write graphs of all components with weights in eight bits, for each engine that is here, into the package."""
    return _Maker(order, "w8", Trials(order, progress)).made()


def make_w4(order: Order, *, progress: Progress) -> Made:
    """Write such graphs with weights in four bits, and in eight where whole runs say that it has to be.

    First the text encoders get eight bits, then the denoiser's products, those first that four bits hold worst; as few
    as the budget allows with a margin, decided on the prompts that calibrate. Raises LdmError where the package cannot
    be drawn with.
    """
    return _Maker(order, "w4", Trials(order, progress)).made()


@dataclass(frozen=True)
class _Maker:
    order: Order
    method: Method
    trials: Trials

    def made(self) -> Made:
        wide, note, has_milder = self._in_eight_bits()
        artefacts: dict[str, list[Artefact]] = {name: [] for name in self._components}
        drafts: list[Draft] = []
        forms = [form for form in FORMS if ENGINES[form.engine].missing() is None]
        for name in self._components:
            graphs = {self._graph(form, name): self._shrunk(form, name, wide.get(name, ())) for form in forms}
            store(graphs, self.order.folder / name / self._data())
            artefacts[name] += [self._artefact(form, name, self._data()) for form in forms]
            for file in (self.order.folder / name).glob(self._data(TRIAL)):
                file.unlink()
        for form in forms:
            alone = self._draft(form, note)
            drafts += [alone, *beside(alone, self.method, self.order.methods)]
        return Made(drafts, artefacts, has_milder)

    @property
    def _components(self) -> tuple[str, ...]:
        return tuple(self.order.manifest.components)

    @cached_property
    def _products(self) -> Mapping[str, list[Layer]]:
        """The products that may have four bits, by component: the denoiser's and the text encoders'."""
        contract = self.order.manifest.contract
        names = [contract.denoiser.component, *(text.component for text in contract.text)]
        return {name: _products(self._canonical(name)) for name in names} if self.method == "w4" else {}

    def _in_eight_bits(self) -> tuple[dict[str, frozenset[str]], str, bool]:
        """Return by component the products that get eight bits in place of four, and how many these are, in words.

        Last, whether a trial was within the budget.
        """
        if self.method == "w8":
            return {}, "", False
        denoiser = self.order.manifest.contract.denoiser.component
        ranked = sorted(self._products[denoiser], key=_lost, reverse=True)
        text = [(name, layer.name) for name, layers in self._products.items() if name != denoiser for layer in layers]
        groups = [text, *([(denoiser, layer.name)] for layer in ranked)]

        def wide(count: int) -> dict[str, frozenset[str]]:
            pairs = [pair for group in groups[:count] for pair in group]
            return {name: frozenset(layer for owner, layer in pairs if owner == name) for name in self._products}

        def note(count: int) -> str:
            chosen, layers = (sum(map(len, each.values())) for each in (wide(count), self._products))
            return f"with {chosen} of {layers} products in eight bits"

        tried: list[bool] = []

        def holds(count: int) -> bool:
            tried.append(self.trials.holds(self._draft(FORMS[0], note(count)), self._trial(wide(count))))
            return tried[-1]

        count = fewest_kept(len(groups), holds)
        return wide(count), note(count), any(tried)

    def _trial(self, wide: Mapping[str, frozenset[str]]) -> Manifest:
        """Write the first form's graphs, and return the manifest with them."""
        form, data = FORMS[0], self._data(TRIAL)
        for name in self._components:
            graph = self._graph(form, name)
            store({graph: self._shrunk(form, name, wide.get(name, ()))}, self.order.folder / name / data)
        artefacts = {name: [self._artefact(form, name, data)] for name in self._components}
        return with_artefacts(self.order.folder, self.order.manifest, artefacts)

    def _canonical(self, component: str) -> ir.Model:
        return read_graph(self.order.folder / self.order.manifest.components[component].canonical.file)

    def _shrunk(self, form: Form, component: str, wide: Collection[str]) -> Quantised:
        """Return a component's graph, which is shrunk, and all the data that it reads."""
        model = self._canonical(component)
        run_passes(model, form.passes)
        may_have_four = {layer.name for layer in self._products.get(component, ())}
        others = {layer.name for layer in quantisable(model)} - may_have_four
        scheme = Scheme(SCHEMES[self.method], activations=False, in_eight_bits=frozenset(others.union(wide)))
        model, data = quantise(model, {}, scheme, narrow(model))
        return with_rest((model, {**data, **shrink_tables(model)}))

    def _graph(self, form: Form, component: str) -> Path:
        return self.order.folder / component / f"model.{self._name(form)}.onnx"

    def _name(self, form: Form) -> str:
        return f"{self.method}{form.suffix}"

    def _data(self, which: str = "") -> str:
        return ".".join(filter(None, ("model", self.method, which, "safetensors")))

    def _artefact(self, form: Form, component: str, data: str) -> Artefact:
        """Describe a graph; its difference is noted when it is measured."""
        files = (f"{component}/{self._graph(form, component).name}", f"{component}/{data}")
        kept = tuple(sorted(narrow(self._canonical(component))))
        precision, nothing = SCHEMES[self.method], Difference(0.0, 0.0)
        return Artefact(self._name(form), "onnx", files, form.reader, precision, "lossy", nothing, kept=kept)

    def _draft(self, form: Form, note: str) -> Draft:
        way = Way(form.engine, self._name(form), SCHEMES[self.method], ())
        return Draft(self._name(form), (self.method,), dict.fromkeys(self._components, way), WHOLE_RUN, note)


def _products(model: ir.Model) -> list[Layer]:
    outside = exposed(model)
    return [layer for layer in quantisable(model) if not layer.is_convolution and layer.name not in outside]


def _lost(layer: Layer) -> float:
    """Return the share of a weight's power that four bits lose."""
    weight = parameter_array(layer.stored, layer.name).T
    left = unpack_blocks(*pack_blocks(weight), weight.shape[1])
    return float(np.square(weight - left).sum() / max(np.square(weight).sum(), np.finfo(np.float32).tiny))
