"""The methods guidance and steps: runs of which a part is left out, with the graphs as they are.

Guidance evaluates the denoiser twice for each image; in the last rows it changes little (Kynkäänniemi et al. 2024,
arXiv:2404.07724), and one evaluation is saved for each row that it is left out of. Fewer steps save whole rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from ldm_export.errors import ExportError
from ldm_export.lossy.method import Draft, Made, Order, Progress
from ldm_export.lossy.schedules import GUIDANCE_UNTIL, farthest, fewer_steps
from ldm_export.lossy.trials import Trials, named
from ldm_export.process.isolate import run_isolated

T = TypeVar("T")


def make_guidance(order: Order, say: Progress) -> Made:
    """Search how early guidance may end: of exact runs, and of those with caching.

    Raises:
        ExportError: the model has no guidance that takes an evaluation.
        LdmError: the package cannot be drawn with.
    """
    contract = order.manifest.contract
    if not contract.evaluates_negative(contract.defaults.guidance):
        raise ExportError(
            f"with guidance {contract.defaults.guidance:g} this model evaluates no negative prompt, so that nothing is "
            "saved where guidance ends"
        )
    made: Made = run_isolated(end_guidance, order, progress=say).value
    return made


def make_steps(order: Order, say: Progress) -> Made:
    """Search how few steps do: of exact runs, and of those in other precisions. Raises as `make_guidance`."""
    if order.manifest.contract.defaults.steps < 2:
        raise ExportError("this model draws in one step; there is none to leave out")
    made: Made = run_isolated(leave_out_steps, order, progress=say).value
    return made


def end_guidance(order: Order, *, progress: Progress) -> Made:
    def until(draft: Draft, share: float) -> Draft:
        return _changed(draft, "guidance", f"with guidance until {share:g} of the run", guidance_until=share)

    trials = Trials.begun(order, progress)
    bases = [base for base in trials.bases() if not base.name or base.run.caching is not None]
    return Made(_farthest_of(trials, bases, GUIDANCE_UNTIL, until))


def leave_out_steps(order: Order, *, progress: Progress) -> Made:
    def in_steps(draft: Draft, steps: int) -> Draft:
        return _changed(draft, "steps", f"in {steps} steps", steps=steps)

    trials = Trials.begun(order, progress)
    bases = [base for base in trials.bases() if base.run.caching is None and base.run.guidance_until == 1]
    return Made(_farthest_of(trials, bases, fewer_steps(trials.setting.steps), in_steps))


def _farthest_of(
    trials: Trials, bases: Sequence[Draft], levels: Sequence[T], change: Callable[[Draft, T], Draft]
) -> list[Draft]:
    """Return each base as far as it holds the budget; the exact one at its mildest where it holds at none."""
    drafts = []
    for base in bases:
        level = farthest(levels, lambda each, base=base: trials.holds(change(base, each)))
        if level is not None or not base.name:
            drafts.append(change(base, levels[0] if level is None else level))
    return drafts


def _changed(draft: Draft, method: str, note: str, **run: float | int) -> Draft:
    return replace(
        draft,
        name=named(draft, method),
        methods=(*draft.methods, method),
        run=replace(draft.run, **run),
        note=f"{draft.note}, {note}" if draft.note else note,
    )
