"""Computes a package's reference with torch: cases of every component, and one sampling run.

Seeded inputs are drawn; captured ones are those of the sampling run. `evaluate` makes both into cases.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.streaming import largest_block
from ldm_export.families.spec import ComponentSpec
from ldm_export.precision.table import EXACT, FLOOR_MARGIN, HIGHEST_PSNR
from ldm_export.verify import metrics, reference_file
from ldm_export.verify.evaluate import Arrays, Request, evaluate, precision_of, run_model, seeded
from ldm_export.verify.inpainting_probe import probe_channels
from ldm_export.verify.reference_file import Case, Facts, Reference, Trajectory
from ldm_export.verify.run_size import reference_size
from ldm_runtime.extra_inputs import extra_inputs
from ldm_runtime.noise import MASKED_STREAM, Noise
from ldm_runtime.package.manifest import Contract, LatentSpec, Manifest, TextRole
from ldm_runtime.package.open import Package
from ldm_runtime.request_sizes import ImageSizes
from ldm_runtime.sampling.loop import guide, run_plan
from ldm_runtime.sampling.plan import Plan, compile_plan
from ldm_runtime.text.tokenizer import Tokenizer

# Bytes for each weight of a model that is held, in float32 and float64, and of a block that is read: what is stored,
# and float64 of it.
HELD_BYTES, STREAMED_BYTES = 12, 16

HELD_WEIGHTS = 100_000_000  # of the largest model that is held in memory; a larger one reads them as it runs
PAUSE = 10.0  # seconds between two words of an evaluation's progress
SEED = 20_260_101
PROMPT = "red apple, 3d style"
NEGATIVE = ""

# Texts on which tokenizers go wrong: nothing, capitals and accents, composed and decomposed, digits, line
# ends, pictographs, a special token spelt out, and more than the window holds.
PROMPTS = (
    PROMPT,
    NEGATIVE,
    "A Café\tau  Lait,\n2024!",
    "Cafe\u0301 İstanbul",
    "🍎 and 東京",
    "it's <|endoftext|> not the end",
    "a very long description of a very small thing, " * 40,
)


@dataclass(frozen=True)
class _Pair:
    """One quantity of the sampling run, computed in float32 and in float64; both stored as float32."""

    rounded: np.ndarray
    exact: np.ndarray

    def floor(self, smallest: float) -> float:
        """Return the PSNR in dB that an engine must reach; the worst of the samples along axis 0 decides."""
        psnr = min(metrics.lowest_psnr(self.rounded, self.exact), HIGHEST_PSNR)
        return max(smallest, psnr - FLOOR_MARGIN)


@dataclass(frozen=True)
class _Texts:
    """The denoiser's inputs of the empty and the real prompt: context (2, T, D), pooled outputs (2, P)."""

    context: _Pair
    pooled: _Pair | None

    @classmethod
    def joined(cls, texts: "list[_Texts]") -> "_Texts":
        """Join the outputs of several text encoders."""
        pooled = [each.pooled for each in texts if each.pooled is not None]
        return cls(_joined([each.context for each in texts]), _joined(pooled) if pooled else None)

    def of(self, is_exact: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return context and pooled outputs of one precision."""
        nothing = _Pair(np.empty((2, 0), np.float32), np.empty((2, 0), np.float32))
        pairs = self.context, nothing if self.pooled is None else self.pooled
        context, pooled = (pair.exact if is_exact else pair.rounded for pair in pairs)
        return context, pooled


def _joined(pairs: list[_Pair]) -> _Pair:
    rounded = np.concatenate([pair.rounded for pair in pairs], axis=-1)
    return _Pair(rounded, np.concatenate([pair.exact for pair in pairs], axis=-1))


@dataclass(frozen=True)
class _SamplingRun:
    """The settings of the sampling run, besides the model and the prompts."""

    contract: Contract
    plan: Plan
    guidance: float
    shape: tuple[int, int, int]  # (C, h, w) of the latents

    @property
    def size(self) -> tuple[int, int]:
        """Return (width, height) in pixels."""
        factor = self.contract.latent.downsample
        return self.shape[2] * factor, self.shape[1] * factor


def write_reference(
    checkpoint: Checkpoint,
    package: Path,
    manifest: Manifest,
    *,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write `verify/reference.safetensors` into the folder `package`, whose tokenizer is there already.

    Latent scale, schedule and weights are read from the checkpoint, not from the package; defaults
    and tokenizer facts, which a checkpoint does not hold, are frozen as the package has them now. Where the checkpoint
    is a package, the caller has checked its hashes.

    Raises:
        NonFiniteError: the torch model itself gives NaN or infinity.
    """
    say = progress if progress is not None else lambda text: None
    seldom = paced(say)
    contract = manifest.contract
    opened = Package(package, manifest, "", "size")
    tokens = {text.component: Tokenizer(opened, text.tokenizer).encode(list(PROMPTS)).ids for text in contract.text}
    run = _sampling_run(checkpoint, contract)

    cases: list[Case] = []
    texts = []
    for text in contract.text:
        say(f"reference: {text.component} in torch")
        run_tokens = tokens[text.component][[PROMPTS.index(NEGATIVE), PROMPTS.index(PROMPT)]]
        encoded, part_cases = _text_stage(checkpoint, text, run_tokens, seldom)
        texts.append(encoded)
        cases += part_cases
    concat = _concat_channels(checkpoint, run) if contract.inpaints else None
    say(f"reference: {contract.denoiser.component} in torch, {run.plan.steps} steps")
    latents, part_cases = _denoiser_stage(checkpoint, run, _Texts.joined(texts), concat, seldom)
    cases += part_cases
    say(f"reference: {contract.codec.name} in torch")
    image, part_cases = _codec_stage(checkpoint, contract, latents, seldom)
    cases += part_cases

    trajectory = Trajectory(
        prompt=PROMPT,
        negative=NEGATIVE,
        seed=SEED,
        sampler=run.plan.sampler.canonical,
        steps=run.plan.steps,
        guidance=run.guidance,
        size=(image.exact.shape[3], image.exact.shape[2]),
        timesteps=tuple(row.timestep for row in run.plan.rows),
        latents_floor=latents.floor(EXACT.latents_floor),
        image_floor=image.floor(EXACT.image_floor),
        latents=latents.exact,
        image=image.exact[0],
    )
    tokenizers = {text.component: text.tokenizer for text in contract.text}
    facts = Facts(_latent(checkpoint), checkpoint.schedule, contract.defaults, tokenizers)
    (package / reference_file.FILE).parent.mkdir(exist_ok=True)
    reference_file.write(package / reference_file.FILE, Reference(facts, PROMPTS, tokens, tuple(cases), trajectory))


def paced(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return what says a text only if the last one was said PAUSE seconds ago."""
    last = time.monotonic()

    def seldom(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PAUSE:
            say(text)
            last = time.monotonic()

    return seldom


def estimate_memory(checkpoint: Checkpoint, part: str) -> int:
    """Estimate the bytes of weights that the reference of a part holds at once, from their headers alone."""
    count = checkpoint.parameter_count(part)
    if count <= HELD_WEIGHTS:
        return HELD_BYTES * count
    return STREAMED_BYTES * largest_block(checkpoint.empty(part))


def _model(checkpoint: Checkpoint, part: str) -> nn.Module:
    """Return a part's model in float32. How it gets its weights changes no result."""
    is_held = checkpoint.parameter_count(part) <= HELD_WEIGHTS
    return checkpoint.load(part) if is_held else checkpoint.stream(part)


def _latent(checkpoint: Checkpoint) -> LatentSpec:
    return checkpoint.family.latent(checkpoint.configs)


def _text_stage(
    checkpoint: Checkpoint, text: TextRole, tokens: np.ndarray, say: Callable[[str], None]
) -> tuple[_Texts, list[Case]]:
    """Return a text encoder's outputs for the empty and the real prompt, and its cases."""
    spec = checkpoint.specs[text.component]
    model = _model(checkpoint, spec.part)
    inputs = {text.input: tokens}
    rounded = run_model(spec, model, inputs)
    cases = evaluate(model, [*seeded(spec), Request(spec, "captured prompts", inputs)], say)
    exact = run_model(spec, model, inputs)

    def pair(output: str) -> _Pair:
        return _Pair(rounded[output], exact[output].astype(np.float32))

    return _Texts(pair(text.output), None if text.pooled is None else pair(text.pooled)), cases


def _sampling_run(checkpoint: Checkpoint, contract: Contract) -> _SamplingRun:
    """Take the package's own defaults and size, within the cost that a run may have."""
    part = checkpoint.specs[contract.denoiser.component].part
    steps, (width, height) = reference_size(contract, checkpoint.parameter_count(part))
    latent = contract.latent
    shape = (latent.channels, height // latent.downsample, width // latent.downsample)
    plan = compile_plan(checkpoint.schedule, contract.defaults.parsed_sampler, steps)
    return _SamplingRun(contract, plan, contract.defaults.guidance, shape)


def _concat_channels(checkpoint: Checkpoint, run: _SamplingRun) -> _Pair:
    """Return the concat channels (1, 1 + C, h, w) of the probe: its mask and its masked image, encoded."""
    encoder = run.contract.codec.encoder
    spec, space = checkpoint.specs[encoder.component], _latent(checkpoint)
    model = _model(checkpoint, spec.part)
    mask, pixels = probe_channels(run.size, space.downsample)
    stream = Noise("philox", [SEED], run.shape).stream(MASKED_STREAM)
    noise = stream if run.contract.encodes_moments else None

    def concat() -> np.ndarray:
        latents = space.sample(run_model(spec, model, {encoder.input: pixels})[encoder.output], noise)
        return np.concatenate([mask, latents], axis=1).astype(np.float32)

    rounded = concat()
    model.double()
    return _Pair(rounded, concat())


def _denoiser_stage(
    checkpoint: Checkpoint, run: _SamplingRun, texts: _Texts, concat: _Pair | None, say: Callable[[str], None]
) -> tuple[_Pair, list[Case]]:
    """Return the latents (steps, C, h, w) after every step, and the denoiser's cases."""
    role = run.contract.denoiser
    spec = checkpoint.specs[role.component]
    model = _model(checkpoint, spec.part)
    captured: list[Arrays] = []
    rounded = _sample(spec, model, run, texts.of(False), None if concat is None else concat.rounded, captured, say)
    timesteps = (0.0, checkpoint.schedule.num_train_timesteps - 1.0, 500.37)
    requests = seeded(spec, {role.timestep: timesteps}, role.context)
    for index in sorted({0, len(captured) // 2, len(captured) - 1}):
        requests.append(Request(spec, f"captured at step {index + 1}", captured[index]))
    cases = evaluate(model, requests, say)
    exact = _sample(spec, model, run, texts.of(True), None if concat is None else concat.exact, [], say)
    return _Pair(rounded, exact), cases


def _sample(
    spec: ComponentSpec,
    model: nn.Module,
    run: _SamplingRun,
    texts: tuple[np.ndarray, np.ndarray],
    concat: np.ndarray | None,
    captured: list[Arrays],
    say: Callable[[str], None],
) -> np.ndarray:
    """Run the runtime's own loop (float32 by definition) around the torch model: latents (steps, C, h, w)."""
    role = run.contract.denoiser
    both = run.contract.evaluates_negative(run.guidance)
    context, pooled = (values if both else values[1:] for values in texts)
    extra = extra_inputs(run.contract, ImageSizes(run.size, (0, 0), run.size), pooled, run.guidance)

    def denoise(x: np.ndarray, timestep: float) -> np.ndarray:
        sample = x if concat is None else np.concatenate([x, concat], axis=1)
        inputs = {
            role.sample: np.concatenate([sample, sample]) if both else sample,  # (2, C, h, w)
            role.timestep: np.array(timestep, np.float32),
            role.context: context,
            **extra,
        }
        captured.append(inputs)
        output = run_model(spec, model, inputs)[role.output].astype(np.float32)
        return guide(output[:1], output[1:], run.guidance) if both else output

    noise = Noise("philox", [SEED], run.shape)
    latents = []
    for step in run_plan(run.plan, denoise, noise.initial(), noise.row):
        latents.append(step.latents)
        say(f"reference: {spec.name} in {precision_of(model)}, step {step.index + 1} of {step.total}")
    return np.concatenate(latents)


def _codec_stage(
    checkpoint: Checkpoint, contract: Contract, latents: _Pair, say: Callable[[str], None]
) -> tuple[_Pair, list[Case]]:
    """Return the image (1, 3, H, W), and the cases of both halves of the codec."""
    encode, decode = contract.codec.encoder, contract.codec.decoder
    encoder, decoder = checkpoint.specs[encode.component], checkpoint.specs[decode.component]
    model, space = _model(checkpoint, decoder.part), _latent(checkpoint)

    def unscaled(array: np.ndarray) -> Arrays:
        return {decode.input: space.unscaled(array[-1:])}

    rounded = run_model(decoder, model, unscaled(latents.rounded))[decode.output]
    requests = [
        *seeded(encoder),
        Request(encoder, "captured image", {encode.input: _dithered(np.clip(rounded, -1, 1))}),
        *seeded(decoder),
        Request(decoder, "captured latents", unscaled(latents.rounded)),
    ]
    cases = evaluate(model, requests, say)
    exact = run_model(decoder, model, unscaled(latents.exact))[decode.output]
    return _Pair(rounded, exact.astype(np.float32)), cases


def _dithered(image: np.ndarray) -> np.ndarray:
    """Add noise of one level of brightness, as every photograph has.

    On a plain background every pixel is the same and is rounded the same way: an engine, which sums in another order
    than torch, was seen to be up to 20 times as far from float64 as torch is; with the noise up to 2 times.
    """
    noise = np.random.default_rng(SEED).standard_normal(image.shape, np.float32)
    return np.asarray(image + np.float32(2 / 255) * noise, np.float32)
