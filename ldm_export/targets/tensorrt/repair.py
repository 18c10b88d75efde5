"""Finds how a graph that overflows in fp16 can compute in it all the same, with the least that differs from plain fp16.

First by rewrites that change nothing in float32: the residual streams with large values are carried at a power of two
less, and attention's scale moves into the projections. Where that is not enough, the smallest set of operators that
have to stay in float32, by bisection. Every try is the emulated graph against the reference, rounded as a GPU would.
"""

import contextlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ldm_export.errors import VerificationError
from ldm_export.export.graph_file import read_graph
from ldm_export.optimise.rescale_residual import residual_streams
from ldm_export.targets.tensorrt.probe import Seen, Stray, first_stray, largest_values, look
from ldm_export.targets.tensorrt.reduced import PLAIN, Repair, compare_reduced
from ldm_export.verify import reference_file
from ldm_export.verify.compare import advice, judge, reduced_tolerance
from ldm_export.verify.reference_file import Case
from ldm_export.verify.report import CaseResult
from ldm_runtime.package.artefacts import Difference, Precision

REPAIRABLE: tuple[Precision, ...] = ("fp16",)  # bf16 has float32's range

LARGEST = 2.0**14  # of a stream's numbers as it is carried: a quarter of fp16's largest is left for other images
SMALLEST_PSNR = 50.0  # dB of a repaired graph's outputs
MOST_KEPT = 0.25  # of the operators in float32: with more, the plan is one of fp16 in name only
MOST_TRIES = 48  # of the search for operators that need not be kept after all

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """The difference of a component from the reference, None if only rounding, and what had to be done for it."""

    difference: Difference | None
    repair: Repair = PLAIN


def measure_or_repair(
    canonical: Path, reference: Path, component: str, precision: Precision, *, progress: Progress
) -> Measured:
    """Measure what a component's graph in `precision` differs by, after it is repaired where it has to be.

    Raises:
        VerificationError: NaN or infinity, or more than the tolerance, and no repair that mends it.
        PackageError: there is no reference.
        ExportError: the graph cannot be reduced.
    """
    cases = reference_file.read(reference).cases_of(component)
    results = list(compare_reduced(canonical, cases, precision))
    if precision not in REPAIRABLE or all(result.passed for result in results):
        return Measured(judge(results, cases, precision))
    progress(f"{component}: does not compute in {precision} as it is; looking for the reason")
    repair = find_repair(canonical, cases, precision, progress=progress)
    results = list(compare_reduced(canonical, cases, precision, repair))
    return Measured(judge(results, cases, precision), repair)


def find_repair(canonical: Path, cases: Sequence[Case], precision: Precision, *, progress: Progress) -> Repair:
    """Return the first form of a graph that holds; as it is where no value strays by itself.

    Raises VerificationError if none does, with the value that overflows first, its operator and its case.
    """
    tolerance = reduced_tolerance(precision)
    assert tolerance is not None
    seen = look(canonical, precision, cases)
    stray = first_stray(seen, tolerance)
    component = cases[0].component
    if stray is None:
        return PLAIN
    progress(f"{component}: {stray}, in case {stray.case}")

    def holds(repair: Repair) -> bool:
        with contextlib.closing(compare_reduced(canonical, cases, precision, repair)) as results:
            return all(_holds(result) for result in results)

    scale, carried = find_scale(canonical, largest_values(seen))
    rewritten = Repair(scale, carried)
    if holds(rewritten):
        return _told(component, rewritten, progress)
    start = rewritten if carried else PLAIN
    order = _by_need(look(canonical, precision, cases, start), tolerance)
    most = max(1, int(MOST_KEPT * len(order)))
    kept = smallest_kept(order[:most], lambda names: holds(replace(start, kept=tuple(names))))
    if kept is None:
        raise VerificationError(_cannot(component, precision, stray, start, most, len(order)))
    return _told(component, replace(start, kept=kept), progress)


def find_scale(canonical: Path, largest: Mapping[str, float]) -> tuple[float, tuple[str, ...]]:
    """Return the power of two that brings all residual streams below LARGEST, and one value of each larger one."""
    sizes = {
        min(stream): max(largest.get(name, 0.0) for name in stream)
        for stream in residual_streams(read_graph(canonical))
    }
    carried = {name: size for name, size in sizes.items() if size > LARGEST}
    scale = 2.0 ** max((math.ceil(math.log2(size / LARGEST)) for size in carried.values()), default=0)
    return scale, tuple(carried)


def smallest_kept(
    order: Sequence[str], holds: Callable[[Sequence[str]], bool], *, tries: int = MOST_TRIES
) -> tuple[str, ...] | None:
    """Return few names with which `holds` is true: the shortest beginning of `order`, less what it can spare.

    None if all of `order` is not enough. tries: of leaving out, after which what is left is returned.
    """
    if not holds(order):
        return None
    short, enough = 0, len(order)
    while enough - short > 1:
        middle = (short + enough) // 2
        short, enough = (short, middle) if holds(order[:middle]) else (middle, enough)
    return _spared(list(order[:enough]), holds, tries)


def _spared(kept: list[str], holds: Callable[[Sequence[str]], bool], tries: int) -> tuple[str, ...]:
    """Leave out runs of names, long ones first, for as long as `holds` is true without them."""
    size = len(kept) // 2
    while size >= 1:
        start = 0
        while start < len(kept) and len(kept) > size and tries > 0:
            rest = kept[:start] + kept[start + size :]
            tries -= 1
            if holds(rest):
                kept = rest
            else:
                start += size
        size //= 2
    return tuple(kept)


def _holds(result: CaseResult) -> bool:
    return result.passed and (result.psnr is None or result.psnr >= SMALLEST_PSNR)


def _by_need(seen: Mapping[str, Sequence[Seen]], tolerance: float) -> list[str]:
    """Order the reduced operators: those with the largest numbers first, or, without overflow, the least exact."""
    largest = largest_values(seen)
    stray = first_stray(seen, tolerance)
    need: dict[str, float] = {}
    for values in seen.values():
        for each in values:
            if each.value.is_reduced:
                met = max(largest.get(name, 0.0) for name in (each.value.name, *each.value.reads))
                by = met if stray is not None and stray.overflows else each.error
                need[each.value.node] = max(need.get(each.value.node, 0.0), by)
    return sorted(need, key=lambda name: -need[name])


def _told(component: str, repair: Repair, progress: Progress) -> Repair:
    progress(f"{component}: repaired, {describe(repair)}")
    return repair


def describe(repair: Repair) -> str:
    """Say what a repair is, without an end to the sentence."""
    parts = []
    if repair.carried:
        parts.append(f"{_count(repair.carried, 'residual stream')} carried at 1/{repair.scale:g}")
    if repair.scale is not None:
        parts.append("attention's scale in its projections")
    if repair.kept:
        parts.append(f"{_count(repair.kept, 'operator')} in float32 ({', '.join(repair.kept[:5])})")
    return ", ".join(parts) if parts else "as it is"


def _count(names: Collection[str], noun: str) -> str:
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'}"


def _cannot(component: str, precision: Precision, stray: Stray, start: Repair, most: int, all_: int) -> str:
    tried = f"with {most} of {all_} operators in float32"
    if start.carried:
        tried = f"with its residual streams carried at 1/{start.scale:g} and {most} of {all_} operators in float32"
    return (
        f"{component} does not compute in {precision}: in case {stray.case} {stray}; {tried} it is still not within "
        f"{SMALLEST_PSNR:.0f} dB of the reference; {advice(precision)}"
    )
