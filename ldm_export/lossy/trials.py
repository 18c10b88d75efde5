"""Trials of lossy ways to draw: whole runs of the prompts that calibrate, beside exact ones from the same noise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ldm_export.lossy.measure import Runs, Setting, compare_runs, denoiser_weights, draw, provisional, setting_of
from ldm_export.lossy.method import Draft, Order, Progress
from ldm_export.lossy.prompts import CALIBRATION_SEED
from ldm_export.verify.run_size import is_large
from ldm_runtime.budget import Budget
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.variants import VariantRun

PROMPTS, PROMPTS_LARGE = 8, 4  # that are drawn; of a large denoiser fewer
MARGIN = 2.0  # dB: what is decided on few prompts is to hold for the worst of others
WHOLE_RUN = VariantRun(caching=None, guidance_until=1.0, steps=None, sampler=None)


@dataclass(frozen=True)
class Trials:
    """Trials for one order. exact: runs of its setting."""

    order: Order
    say: Progress
    setting: Setting
    exact: Runs

    @classmethod
    def begun(cls, order: Order, say: Progress) -> "Trials":
        """Draw the prompts exactly. Raises LdmError where the package cannot be drawn with."""
        count = PROMPTS_LARGE if is_large(denoiser_weights(order.folder, order.manifest)) else PROMPTS
        setting = setting_of(order.folder, order.manifest, order.prompts.calibration, CALIBRATION_SEED, count)
        return cls(order, say, setting, draw(order.folder, order.manifest, setting))

    @property
    def rows(self) -> int:
        """Return the evaluations of the denoiser in a run."""
        return len(self.exact.latents[0])

    def holds(self, draft: Draft, manifest: Manifest | None = None) -> bool:
        """Draw with a draft; return whether it is within the budget with a margin. manifest: with its artefacts."""
        variant = provisional(draft)
        known = self.order.manifest if manifest is None else manifest
        lossy = draw(self.order.folder, replace(known, variants=(variant,)), self.setting, variant)
        found = compare_runs(self.exact, lossy)
        reached = "equal images" if found.psnr is None else f"{found.psnr:.1f} dB"
        self.say(f"{draft.name} {draft.note}: {reached}, SSIM {found.ssim:.4f}")
        return stricter(self.order.budget).holds(found.psnr, found.ssim)

    def bases(self) -> Sequence[Draft]:
        """Return what may do less besides: nothing lossy, and the drafts that were made before."""
        return (Draft("", (), {}, WHOLE_RUN), *self.order.made)


def stricter(budget: Budget) -> Budget:
    """Return a budget that leaves the margin: as many dB less error."""
    if budget.value is None:
        return budget
    if budget.kind == "ssim":
        return replace(budget, value=1 - (1 - budget.value) * 10 ** (-MARGIN / 10))
    return replace(budget, value=budget.value + MARGIN)


def named(base: Draft, method: str) -> str:
    """Return the name of a draft that does less besides what `base` does."""
    return f"{base.name}-{method}" if base.name else method
