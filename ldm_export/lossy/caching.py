"""The method caching: the denoiser's deep features are kept for a few rows, which compute its finest resolution alone.

DeepCache (Ma et al. 2023, arXiv:2312.00858). Both graphs read the weights file of the graph that they are cut from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import onnx_ir as ir

from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.lossy.method import Draft, Made, Order, Progress
from ldm_export.lossy.schedules import INTERVALS, CachedRows, farthest, intervals_of, least_cached
from ldm_export.lossy.trials import Trials, with_method
from ldm_export.lossy.work import multiply_accumulates
from ldm_export.optimise.cut_at import cut_depths, deep_and_shallow
from ldm_export.package.write import with_artefacts
from ldm_runtime.engines.choice import artefact_for, artefact_named
from ldm_runtime.package.artefacts import Artefact
from ldm_runtime.package.manifest import Contract, Manifest
from ldm_runtime.package.open import Package
from ldm_runtime.package.tensor_spec import ComponentContract, TensorSpec
from ldm_runtime.package.variants import Caching, Way

METHOD = "caching"
NAME = "cached"  # in the names of variants
EXACT_ENGINE = "ort"  # that draws where nothing else is lossy: every package is proven with it


@dataclass(frozen=True)
class Cut:
    """Both graphs of one cut, as artefacts."""

    deep: Artefact
    shallow: Artefact

    def caching(self, interval: int) -> Caching:
        return Caching(interval, self.deep.name, self.shallow.name)


def make_caching(order: Order, *, progress: Progress) -> Made:
    """Write graphs into the package's folder, and return a draft of each way to draw that caching makes cheaper.

    The depth is chosen for exact graphs. Other ways are cut there too, and are kept for as many rows as they can be.
    Where no schedule holds the budget, the mildest is the draft, so that its error is said.

    Raises:
        ExportError: there is nothing to cut at.
        LdmError: the package cannot be drawn with.
    """
    package, denoiser = Package(order.folder, order.manifest, "", "size"), order.manifest.contract.denoiser.component
    shares = shallow_shares(order.folder, order.manifest)
    trials = Trials(order, progress)
    base, *others = trials.bases()
    exact = replace(
        base, ways={denoiser: Way(EXACT_ENGINE, artefact_for(EXACT_ENGINE, package, denoiser).name, "fp32", ())}
    )
    cuts: dict[str, Cut] = {}
    tried = {depth: write_cut(order.folder, order.manifest, artefact_of(package, exact), depth) for depth in shares}
    found = least_cached(
        shares, trials.rows, lambda rows: _holds(trials, exact, tried[rows.depth], rows.interval, rows.depth)
    )
    rows = CachedRows(max(shares), INTERVALS[0]) if found is None else found
    for depth, cut in tried.items():
        if depth != rows.depth:
            remove_cut(order.folder, cut)
    cuts[exact.ways[denoiser].artefact] = tried[rows.depth]
    drafts = [cached(exact, tried[rows.depth], rows.interval, rows.depth, denoiser)]
    for draft in others if found is not None else ():
        drafts += _beside(trials, package, draft, rows, cuts)
    artefacts = {denoiser: [each for cut in cuts.values() for each in (cut.deep, cut.shallow)]}
    return Made(drafts, artefacts, has_milder=found is not None)


def _beside(trials: Trials, package: Package, draft: Draft, rows: CachedRows, cuts: dict[str, Cut]) -> list[Draft]:
    """Return a lossy draft with caching, at an interval that holds beside its own error; none where none does."""
    denoiser = package.manifest.contract.denoiser.component
    if denoiser not in draft.ways:
        return []
    base = artefact_of(package, draft)
    if base.name not in cuts:
        cuts[base.name] = write_cut(package.path, package.manifest, base, rows.depth)
    cut = cuts[base.name]
    intervals = [each for each in intervals_of(trials.rows) if each <= rows.interval]
    interval = farthest(intervals, lambda each: _holds(trials, draft, cut, each, rows.depth))
    return [] if interval is None else [cached(draft, cut, interval, rows.depth, denoiser)]


def _holds(trials: Trials, draft: Draft, cut: Cut, interval: int, depth: int) -> bool:
    order = trials.order
    denoiser = order.manifest.contract.denoiser.component
    manifest = with_artefacts(order.folder, order.manifest, {denoiser: [cut.deep, cut.shallow]})
    return trials.holds(cached(draft, cut, interval, depth, denoiser), manifest)


def cached(draft: Draft, cut: Cut, interval: int, depth: int, denoiser: str) -> Draft:
    """Return a draft with caching besides."""
    ways = {**draft.ways, denoiser: replace(draft.ways[denoiser], artefact=cut.deep.name)}
    run = replace(draft.run, caching=cut.caching(interval))
    note = f"with deep features kept for {interval} rows at depth {depth}"
    return with_method(draft, METHOD, run, note, suffix=NAME, ways=ways)


def artefact_of(package: Package, draft: Draft) -> Artefact:
    """Return the denoiser's graph that a draft runs, or the canonical one where that is not ONNX."""
    denoiser = package.manifest.contract.denoiser.component
    artefact = artefact_named(package, denoiser, draft.ways[denoiser].artefact)
    return artefact if artefact.format == "onnx" else package.manifest.components[denoiser].canonical


def shallow_shares(folder: Path, manifest: Manifest) -> Mapping[int, float]:
    """Return by depth the work of a row that reads deep features in that of a whole one, at the package's own size.

    Raises ExportError where there is nothing to cut at.
    """
    contract = manifest.contract
    denoiser = contract.denoiser.component
    model = read_graph(folder / manifest.components[denoiser].canonical.file)
    sizes = contract.sizes(denoiser, batch=2, width=contract.image.width, height=contract.image.height)
    cuts = {depth: deep_and_shallow(model, depth) for depth in range(1, max(1, cut_depths(model)) + 1)}
    whole = multiply_accumulates(model, sizes)
    return {depth: multiply_accumulates(shallow, sizes) / whole for depth, (_, shallow) in cuts.items()}


def write_cut(folder: Path, manifest: Manifest, base: Artefact, depth: int) -> Cut:
    """Write both graphs of a denoiser's artefact beside it. They read its data files; no weight is written again.

    Raises ExportError where it cannot be cut at this depth.
    """
    contract = manifest.contract
    own = contract.components[contract.denoiser.component]
    deep, shallow = deep_and_shallow(read_graph(folder / base.file), depth)
    kept = _spec(deep.graph.outputs[-1], contract)
    read = {str(value.name) for value in shallow.graph.inputs}
    inputs = tuple(spec for spec in own.inputs if spec.name in read)
    return Cut(
        _written(folder, base, deep, f"deep-{depth}", ComponentContract(own.inputs, (*own.outputs, kept))),
        _written(folder, base, shallow, f"shallow-{depth}", ComponentContract((*inputs, kept), own.outputs)),
    )


def remove_cut(folder: Path, cut: Cut) -> None:
    for artefact in (cut.deep, cut.shallow):
        (folder / artefact.file).unlink()


def _written(folder: Path, base: Artefact, model: ir.Model, part: str, interface: ComponentContract) -> Artefact:
    file = PurePosixPath(base.file)
    name = file.with_name(f"{file.stem}.{part}.onnx").as_posix()
    write_graph(model, folder / name)
    nodes = {node.name for node in model.graph}
    return replace(
        base,
        name=part if base.name == "canonical" else f"{base.name}-{part}",
        files=(name, *base.files[1:]),
        interface=interface,
        kept=tuple(node for node in base.kept if node in nodes),
    )


def _spec(value: ir.Value, contract: Contract) -> TensorSpec:
    """Describe what is kept; its sizes are axes of the contract."""
    assert value.shape is not None
    dims = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape)
    assert all(isinstance(dim, int) or dim in contract.axes for dim in dims)
    return TensorSpec(str(value.name), "float32", dims)
