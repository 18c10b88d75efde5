"""Trials of lossy ways to draw: whole runs of the prompts that calibrate, beside exact ones from the same noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ldm_export.lossy.measure import RunError, compare_runs, draw, provisional
from ldm_export.lossy.method import Draft, Order, Progress
from ldm_runtime.budget import Budget
from ldm_runtime.checks import rounded_down
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.variants import WHOLE_RUN, MeasuredError, VariantRun


@dataclass(frozen=True)
class Trials:
    """Trials for one order."""

    order: Order
    say: Progress

    @property
    def rows(self) -> int:
        """Return the evaluations of the denoiser in a run."""
        return len(self.order.exact.latents[0])

    def holds(self, draft: Draft, manifest: Manifest | None = None) -> bool:
        """Draw with a draft; return whether it is within the budget with a margin. manifest: with its artefacts."""
        found = self.drawn(draft, self.order.manifest if manifest is None else manifest)
        self.say(f"{draft.name} {draft.note}: {in_words(found)}")
        return self.is_within(found)

    def drawn(self, draft: Draft, manifest: Manifest) -> RunError:
        """Draw whole images with a draft, whose artefacts `manifest` has, and compare them with the exact ones."""
        variant = provisional(draft)
        known = replace(manifest, variants=(variant,))
        return compare_runs(self.order.exact, draw(self.order.folder, known, self.order.setting, variant))

    def is_within(self, found: RunError, spare: float = 0.0) -> bool:
        """Return whether an error is within the budget with the order's margin, and `spare` dB more."""
        return stricter(self.order.budget, self.order.margin + spare).holds(found.psnr, found.ssim)

    def bases(self) -> Sequence[Draft]:
        """Return what may do less besides: nothing lossy, and the drafts that were made before."""
        return (Draft("", (), {}, WHOLE_RUN), *self.order.made)


def stricter(budget: Budget, margin: float) -> Budget:
    """Return a budget with as many dB less error."""
    if budget.value is None:
        return budget
    if budget.kind == "ssim":
        return replace(budget, value=1 - (1 - budget.value) * 10 ** (-margin / 10))
    return replace(budget, value=budget.value + margin)


def shortfall(budget: Budget, error: MeasuredError) -> float:
    """Return by how many dB an error is beyond a budget, at most 0 where it holds."""
    if budget.value is None:
        return 0.0
    if budget.kind == "ssim":
        return 10 * math.log10(max(1 - error.ssim, 1e-9) / max(1 - budget.value, 1e-9))
    return budget.value - (math.inf if error.psnr is None else error.psnr)


def in_words(found: RunError) -> str:
    """Say how near the worst image is to the exact one, rounded down."""
    reached = "equal images" if found.psnr is None else f"{rounded_down(found.psnr, 2)} dB"
    return f"{reached}, SSIM {rounded_down(found.ssim, 4)}"


def with_method(base: Draft, method: str, run: VariantRun, note: str, *, suffix: str, **changes: Any) -> Draft:
    """Return a draft that does less besides what `base` does. suffix: of its name. changes: of other fields."""
    return replace(
        base,
        name=f"{base.name}-{suffix}" if base.name else suffix,
        methods=(*base.methods, method),
        run=run,
        note=f"{base.note}, {note}" if base.note else note,
        **changes,
    )
