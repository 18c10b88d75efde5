"""The budget of an image: how far it may be from the exact one, as a user says it in a text."""

import re
from dataclasses import dataclass
from typing import Literal

from ldm_runtime.checks import exact, rounded_down, shown
from ldm_runtime.errors import InputError

_RANGES = {"psnr": (10.0, 100.0), "ssim": (0.0, 1.0)}
_FORM = re.compile(r"(psnr|ssim)=([0-9]{1,9}(?:\.[0-9]{1,9})?)")


@dataclass(frozen=True)
class Budget:
    """The least likeness of the worst image to the exact one, from the same noise.

    value: PSNR in dB over bytes, or SSIM from 0 to 1; None: nothing lossy at all.
    """

    kind: Literal["exact", "psnr", "ssim"]
    value: float | None

    @property
    def text(self) -> str:
        """Return what a user says for it."""
        return "exact" if self.value is None else f"{self.kind}={exact(self.value)}"

    def reached(self, psnr: float | None, ssim: float) -> str:
        """Say how near measured figures come, in the figure that it is of; psnr: as of `holds`."""
        if self.kind == "ssim":
            return f"SSIM {rounded_down(ssim, 4)}"
        return "equal images" if psnr is None else f"{rounded_down(psnr, 2)} dB"

    def holds(self, psnr: float | None, ssim: float) -> bool:
        """Return whether measured figures are within it; psnr: in dB, None where all images are equal.

        "exact" holds for no figures: images that were equal in a measurement may differ in the next run.
        """
        if self.value is None:
            return False
        if self.kind == "ssim":
            return ssim >= self.value
        return psnr is None or psnr >= self.value


def read_budget(text: object) -> Budget:
    """Read "exact", "psnr=35" or "ssim=0.95". Raises InputError for anything else."""
    if text == "exact":
        return Budget("exact", None)
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    if found is not None:
        kind: Literal["psnr", "ssim"] = "psnr" if found[1] == "psnr" else "ssim"
        low, high = _RANGES[kind]
        if low <= float(found[2]) <= high:
            return Budget(kind, float(found[2]))
    raise InputError(
        f"budget is {shown(text)}; expected exact, psnr=DB from 10 to 100, or ssim=SHARE from 0 to 1, such as psnr=35"
    )
