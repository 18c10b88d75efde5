"""Notices of options that have no effect."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ldm_runtime.checks import given
from ldm_runtime.notice import Notice
from ldm_runtime.request import Request


def without_effect(request: Request, *, negative: Any, seed: Any) -> list[Notice]:
    """List the options of a run that change nothing. negative, seed: the caller's own values, or None."""
    notices = [*_without_guidance(request, negative), *_without_noise(request, seed)]
    if request.prompts is None and request.syntax != "plain" and (negative is None or not request.is_guided):
        notices.append(Notice("syntax", "syntax has no effect: there is no text to read"))
    if _is_wholly_inpainted(request):
        notices.append(Notice("image", "image has no effect: the mask is white everywhere and strength is 1"))
    return notices


def _without_guidance(request: Request, negative: Any) -> Iterator[Notice]:
    low, high = request.guidance_interval
    evaluations = len(request.plan.rows)
    options = {"negative": negative is not None, "guidance_rescale": request.guidance_rescale > 0.0}
    if not request.is_guided:
        options["guidance_interval"] = (low, high) != (0.0, 1.0)
        reason = f"has no effect with guidance {request.guidance:g}; it needs more than 1"
        if request.embeds_guidance:
            reason = "has no effect: this model reads guidance as a number and evaluates the prompt alone"
    elif not any(request.is_guided_at(row) for row in range(evaluations)):
        options = {"guidance": True, **options}
        reason = f"has no effect: none of {evaluations} evaluations is in the guidance interval {low:g} to {high:g}"
    else:
        return
    yield from (Notice(name, f"{name} {reason}") for name, is_given in options.items() if is_given)


def _without_noise(request: Request, seed: Any) -> Iterator[Notice]:
    """Find a seed and a noise that are not used, and a variation of strength 0 or 1."""
    strength = None if request.variation is None else request.variation[1]
    if strength == 0.0:
        yield Notice("variation", "variation has no effect with strength 0")
    if strength == 1.0 and request.latents is not None:
        yield Notice("latents", "latents has no effect: variation has strength 1")
    draws = any(row.noise_rows for row in request.plan.rows) or request.pixels is not None
    if draws or (request.latents is None and strength != 1.0):
        return
    instead = "variation has strength 1" if strength == 1.0 else "latents are given"
    if seed is not None:
        yield Notice("seed", f"seed has no effect: {instead} and {request.plan.sampler.canonical} draws no noise")
    if request.noise != "philox" and not strength:
        yield Notice("noise", f"noise has no effect: {instead} and {request.plan.sampler.canonical} draws none")


def _is_wholly_inpainted(request: Request) -> bool:
    """Return whether nothing of the image is kept; that is normal for an inpainting UNet."""
    if request.mask is None or request.masked_pixels is not None:
        return False
    return request.strength == 1.0 and bool(np.all(given(request.mask) == 1.0))
