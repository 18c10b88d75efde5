"""The method merging: where an image has many tokens, the denoiser's attention to itself reads fewer, merged ones.

Token merging (Bolya and Hoffman 2023, arXiv:2303.17604); the graph is `optimise.merge_tokens`'. It reads the weights
file of the graph that it is made from.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import onnx_ir as ir

from ldm_export.errors import ExportError
from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.lossy.caching import EXACT_ENGINE, artefact_of
from ldm_export.lossy.method import Draft, Made, Order, Progress
from ldm_export.lossy.schedules import farthest
from ldm_export.lossy.trials import Trials, with_method
from ldm_export.lossy.work import multiply_accumulates
from ldm_export.optimise.merge_tokens import merge_tokens
from ldm_export.optimise.self_attention import self_attentions
from ldm_export.package.write import with_artefacts
from ldm_runtime.engines.choice import artefact_for
from ldm_runtime.package.artefacts import CANONICAL, Artefact, Difference
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.open import Package
from ldm_runtime.package.variants import WHOLE_RUN, Way

METHOD = "merging"
NAME = "merged"  # in the names of variants
RATIOS = (0.25, 0.3, 0.4, 0.5, 0.6, 0.7)
LEAST_TOKENS = 64 * 64  # of an image: with fewer, attention is a small part of the work


def make_merging(order: Order, *, progress: Progress) -> Made:
    """Write graphs into the package's folder, and return drafts with merged tokens: of exact runs and each precision.

    Each is searched for the largest ratio of tokens that holds the budget. Where not even the smallest does, that is
    the draft of exact runs, so that its error is said.

    Raises:
        ExportError: the denoiser has no attention of so many tokens at the package's own size.
        LdmError: the package cannot be drawn with.
    """
    package, denoiser = Package(order.folder, order.manifest, "", "size"), order.manifest.contract.denoiser.component
    require_many_tokens(package)
    trials = Trials(order, progress)
    base, *others = trials.bases()
    way = Way(EXACT_ENGINE, artefact_for(EXACT_ENGINE, package, denoiser).name, "fp32", ())
    exact = replace(base, ways={denoiser: way})
    found = _largest_ratio(trials, package, exact, RATIOS)
    chosen = [(exact, RATIOS[0] if found is None else found)]
    milder = [] if found is None else [each for each in RATIOS if each <= found]
    for draft in others:
        if milder and denoiser in draft.ways and draft.run == WHOLE_RUN:
            ratio = _largest_ratio(trials, package, draft, milder)
            chosen += [] if ratio is None else [(draft, ratio)]
    made = [(draft, write_merged(package, artefact_of(package, draft), ratio)) for draft, ratio in chosen]
    for ratio in sorted({ratio for _, ratio in chosen}):
        share = merged_share(package, ratio)
        progress(f"merging: with {ratio:.0%} of the tokens merged an evaluation has {share:.1%} of the work")
    drafts = [merged(draft, artefact, denoiser) for draft, artefact in made]
    artefacts = {denoiser: list({artefact.name: artefact for _, artefact in made}.values())}
    return Made(drafts, artefacts, has_milder=found is not None)


def _largest_ratio(trials: Trials, package: Package, draft: Draft, ratios: Sequence[float]) -> float | None:
    order = trials.order
    denoiser = order.manifest.contract.denoiser.component

    def holds(ratio: float) -> bool:
        artefact = write_merged(package, artefact_of(package, draft), ratio)
        try:
            manifest = with_artefacts(order.folder, order.manifest, {denoiser: [artefact]})
            return trials.holds(merged(draft, artefact, denoiser), manifest)
        finally:
            (order.folder / artefact.file).unlink()

    return farthest(ratios, holds)


def merged(draft: Draft, artefact: Artefact, denoiser: str) -> Draft:
    """Return a draft that draws with a graph of merged tokens."""
    assert artefact.merged is not None
    note = f"with {artefact.merged:.0%} of the tokens merged"
    ways = {**draft.ways, denoiser: replace(draft.ways[denoiser], artefact=artefact.name)}
    return with_method(draft, METHOD, draft.run, note, suffix=NAME, ways=ways)


def require_many_tokens(package: Package) -> None:
    """Raise ExportError unless an attention of the denoiser has `LEAST_TOKENS` tokens at the package's own size."""
    image, sizes = package.manifest.contract.image, _own_sizes(package.manifest.contract)
    counts = [each.tokens(sizes) for each in self_attentions(_canonical(package))]
    if not counts:
        raise ExportError("this denoiser has no attention of the image to itself, whose tokens could be merged")
    if max(counts) < LEAST_TOKENS:
        share = merged_share(package, RATIOS[-1], least=0)
        raise ExportError(
            f"at {image.width}x{image.height} pixels attention of this denoiser has {max(counts)} tokens at most, and "
            f"merging {RATIOS[-1]:.0%} of them would leave {share:.0%} of the work; expected {LEAST_TOKENS} or more"
        )


def merged_share(package: Package, ratio: float, least: int | None = None) -> float:
    """Return the work of an evaluation with merged tokens in that of an exact one, at the package's own size.

    least: attention with fewer tokens is left as it is; None is `LEAST_TOKENS`.
    """
    sizes = _own_sizes(package.manifest.contract)
    exact = multiply_accumulates(_canonical(package), sizes)
    fewer, _ = merge_tokens(_canonical(package), ratio, sizes, LEAST_TOKENS if least is None else least)
    return multiply_accumulates(fewer, sizes) / exact


def write_merged(package: Package, base: Artefact, ratio: float) -> Artefact:
    """Write a graph of the denoiser's artefact beside it. It reads its data files; no weight is written again."""
    model, _ = merge_tokens(
        read_graph(package.path / base.file), ratio, _own_sizes(package.manifest.contract), LEAST_TOKENS
    )
    part = f"merged-{round(100 * ratio)}"
    file = PurePosixPath(base.file)
    name = file.with_name(f"{file.stem}.{part}.onnx").as_posix()
    write_graph(model, package.path / name)
    return replace(
        base,
        name=part if base.name == CANONICAL else f"{base.name}-{part}",
        files=(name, *base.files[1:]),
        exactness="lossy",
        difference=Difference(0.0, 0.0),  # noted when it is measured
        merged=ratio,
    )


def _canonical(package: Package) -> ir.Model:
    manifest = package.manifest
    return read_graph(package.path / manifest.components[manifest.contract.denoiser.component].canonical.file)


def _own_sizes(contract: Contract) -> dict[str, int]:
    """Return the sizes of an evaluation for one image at the package's own size, with guidance."""
    image = contract.image
    return contract.sizes(contract.denoiser.component, batch=2, width=image.width, height=image.height)
