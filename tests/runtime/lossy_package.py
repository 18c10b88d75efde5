"""The tiny package with variants of one's own choosing."""

import dataclasses
from pathlib import Path
from typing import Any

from ldm_runtime.package import manifest_json
from ldm_runtime.package.artefacts import Difference
from ldm_runtime.package.variants import MeasuredError, MeasuredPrompts, Variant, VariantRun, Way

BF16 = Way("openvino", "canonical", "bf16", ("avx512_bf16",))


def variant(
    name: str,
    psnr: float | None,
    time: float,
    *,
    ssim: float = 0.9,
    ways: dict[str, Way] | None = None,
    **run: Any,
) -> Variant:
    """A variant, measured with the tiny package's own defaults; `run`: other defaults of a run."""
    ways = {"unet": BF16} if ways is None else ways
    error = MeasuredError(
        components={component: Difference(0.01, 0.1) for component in ways},
        latents=(0.01, 0.02),
        psnr=psnr,
        ssim=ssim,
        worst=0,
        prompts=MeasuredPrompts("0" * 64, 12),
        seeds=(101, 112),
        steps=4,
        sampler="dpmpp_2m",
        guidance=3.0,
        size=(64, 48),
        units=(),
        versions={},
    )
    options = {"caching": None, "guidance_until": 1.0, "steps": None, "sampler": None, **run}
    return Variant(name, ("bf16",), ways, VariantRun(**options), error, time, 0)


def with_variants(folder: Path, *variants: Variant) -> Path:
    """Add variants to the package in `folder`, and return it."""
    file = folder / "manifest.json"
    known = manifest_json.parse(file.read_text(encoding="utf-8"), "manifest.json")
    file.write_text(manifest_json.dump(dataclasses.replace(known, variants=variants)), encoding="utf-8")
    return folder
