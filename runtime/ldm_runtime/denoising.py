"""Denoising: initial noise, the denoiser with guidance, inpainting, and the loop around them."""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ldm_runtime.checks import given
from ldm_runtime.components import Components
from ldm_runtime.deep_features import DeepFeatures
from ldm_runtime.extra_inputs import extra_inputs
from ldm_runtime.latents import LatentCodec
from ldm_runtime.noise import MASKED_STREAM, VAE_STREAM, Noise
from ldm_runtime.noise.philox import batch_seeds
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.variants import Caching
from ldm_runtime.request import Request
from ldm_runtime.sampling.loop import PlanStep, guide, noised, run_plan, slerp
from ldm_runtime.sampling.picard import run_picard
from ldm_runtime.text.conditioning import Conditioning


def denoise(
    request: Request,
    conditioning: Conditioning,
    contract: Contract,
    components: Components,
    codec: LatentCodec,
    caching: Caching | None = None,
) -> Iterator[PlanStep]:
    """Run the request's plan, one evaluation of the denoiser after the other, or a window of them in threads.

    caching: the denoiser's artefacts between which deep features pass, where the plan has caching. They are kept in
    this run alone.
    """
    space = contract.latent
    shape = (space.channels, request.height // space.downsample, request.width // space.downsample)
    noise = Noise(request.noise, request.seeds, shape)
    starts_from_noise = request.strength is None or (request.mask is not None and request.strength == 1.0)

    def encoding_noise(stream: int) -> np.ndarray | None:
        return noise.stream(stream) if contract.encodes_moments else None

    # In the order of diffusers, whose generators give one number after the other.
    image, concat, blend = None, None, None
    if request.pixels is not None and not (starts_from_noise and contract.inpaints):
        image = codec.sample(request.pixels, encoding_noise(VAE_STREAM))
    initial = _initial(request, noise, shape)
    if request.masked_pixels is not None:
        masked = codec.sample(request.masked_pixels, encoding_noise(MASKED_STREAM))
        mask = np.broadcast_to(given(request.mask), (request.batch, 1, *shape[1:]))
        concat = np.concatenate([mask, masked], axis=1)
    elif request.mask is not None:
        if request.noise != "philox":
            encoding_noise(MASKED_STREAM)  # diffusers encodes the masked image here too
        blend = _keeping(request, given(image), initial)
    deep = None if caching is None else DeepFeatures(components, contract.denoiser.component, caching)
    evaluate = _denoiser(request, conditioning, contract, concat, components, deep)
    given_image = None if starts_from_noise else image
    try:
        if request.picard is None:
            rows = itertools.count()
            yield from run_plan(
                request.plan,
                lambda x, timestep: evaluate(next(rows), x),
                initial,
                noise.row,
                image=given_image,
                blend=blend,
            )
        else:
            window, tolerance = request.picard
            with ThreadPoolExecutor(min(window, os.cpu_count() or 1)) as pool:
                yield from run_picard(
                    request.plan,
                    lambda rows, xs: list(pool.map(evaluate, rows, xs)),
                    initial,
                    noise.row,
                    window=window,
                    tolerance=tolerance,
                    image=given_image,
                    blend=blend,
                )
    finally:
        components.rest(contract.denoiser.component)  # the decoder needs the memory


def _denoiser(
    request: Request,
    conditioning: Conditioning,
    contract: Contract,
    concat: np.ndarray | None,
    components: Components,
    deep: DeepFeatures | None,
) -> Callable[[int, np.ndarray], np.ndarray]:
    """Make the denoiser with guidance: a function of the plan's row, where guidance may be off, and scaled latents.

    concat: float32 (B, 1 + C, h, w), the concat channels of a denoiser made for inpainting. Threads may share it,
    unless it has `deep` features that are kept from row to row.
    """
    role, context = contract.denoiser, conditioning.context
    extra = extra_inputs(contract, request.sizes, conditioning.pooled, request.guidance)
    batch = request.batch

    def evaluate(row: int, sample: np.ndarray) -> np.ndarray:
        feeds = {
            role.sample: sample,
            role.timestep: np.array(request.plan.rows[row].timestep, dtype=np.float32),
            role.context: context[-len(sample) :],  # without guidance the prompts' alone
            **{name: values[-len(sample) :] for name, values in extra.items()},
        }
        if deep is None:
            return components.evaluate(role.component, feeds)[role.output]
        return deep.evaluate(feeds, len(sample), whole=request.plan.is_whole(row))[role.output]

    def guided(row: int, x: np.ndarray) -> np.ndarray:
        sample = np.ascontiguousarray(x) if concat is None else np.concatenate([x, concat], axis=1)
        if not request.is_guided_at(row):
            return evaluate(row, sample)
        output = evaluate(row, np.concatenate([sample, sample]))
        return guide(output[:batch], output[batch:], request.guidance, request.guidance_rescale)

    return guided


def _initial(request: Request, noise: Noise, shape: tuple[int, ...]) -> np.ndarray:
    """Return noise of unit variance: the request's own, or that of its seeds, moved towards another seed's."""
    initial = noise.initial() if request.latents is None else request.latents
    if request.variation is None:
        return initial
    seed, strength = request.variation
    other = Noise(request.noise, batch_seeds(seed, request.batch), shape).initial()
    return np.stack([slerp(one, another, strength) for one, another in zip(initial, other, strict=True)])


def _keeping(request: Request, image: np.ndarray, initial: np.ndarray) -> Callable[[int, np.ndarray], np.ndarray]:
    """Keep, after each row, the image's own latents where the mask is 0, with the noise of the next row's level."""
    rows, inpainted = request.plan.rows, given(request.mask)

    def blend(index: int, x: np.ndarray) -> np.ndarray:
        kept = noised(rows[index + 1], image, initial) if index + 1 < len(rows) else image
        return np.asarray((np.float32(1.0) - inpainted) * kept + inpainted * x, dtype=np.float32)

    return blend
