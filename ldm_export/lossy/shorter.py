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
from ldm_export.lossy.trials import Trials, with_method

T = TypeVar("T")


def make_guidance(order: Order, *, progress: Progress) -> Made:
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

    def until(draft: Draft, share: float) -> Draft:
        run, note = replace(draft.run, guidance_until=share), f"with guidance until {share:g} of the run"
        return with_method(draft, "guidance", run, note, suffix="guidance")

    trials = Trials(order, progress)
    bases = [base for base in trials.bases() if not base.name or base.run.caching is not None]
    return _farthest_of(trials, bases, GUIDANCE_UNTIL, until)


def make_steps(order: Order, *, progress: Progress) -> Made:
    """Search how few steps do: of exact runs, and of those in other precisions.

    Raises:
        ExportError: there is no step to leave out, or the runs that are compared have fewer than the model's own.
        LdmError: the package cannot be drawn with.
    """
    own, compared = order.manifest.contract.defaults.steps, order.setting.steps
    if own < 2:
        raise ExportError("this model draws in one step; there is none to leave out")
    if compared != own:
        raise ExportError(
            f"this model draws in {own} steps, and because of its size its runs are compared in {compared}, which say "
            f"nothing of fewer than {own}"
        )

    def in_steps(draft: Draft, steps: int) -> Draft:
        return with_method(draft, "steps", replace(draft.run, steps=steps), f"in {steps} steps", suffix="steps")

    trials = Trials(order, progress)
    bases = [base for base in trials.bases() if base.run.caching is None and base.run.guidance_until == 1]
    return _farthest_of(trials, bases, fewer_steps(own), in_steps)


def _farthest_of(
    trials: Trials, bases: Sequence[Draft], levels: Sequence[T], change: Callable[[Draft, T], Draft]
) -> Made:
    """Make each base as far as it holds the budget; the exact one at its mildest where it holds at none."""
    drafts, is_found = [], False
    for base in bases:
        changed = [change(base, level) for level in levels]
        found = farthest(changed, trials.holds)
        is_found |= found is not None
        if found is not None or not base.name:
            drafts.append(changed[0] if found is None else found)
    return Made(drafts, has_milder=is_found)
