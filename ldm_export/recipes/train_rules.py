"""The rules of a training recipe beyond its types, and the largest sizes, with reasons.

A value beyond its bound is a slip of a digit, or would fail hours later. The bounds of the models are their configs',
or lower where training has a reason. `train/needs.py` checks that a model within them fits into the machine's memory.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ldm_export.configs.strict import (
    MAX_BLOCKS,
    MAX_LAYERS,
    MAX_LAYERS_PER_BLOCK,
    MAX_LEVELS,
    MAX_WIDTH,
    MAX_WINDOW,
)
from ldm_export.recipes.samplers import MAX_SAMPLE_STEPS, sampler_name, try_sampler
from ldm_export.recipes.toml import Rule, Rules, Trial, one_of
from ldm_runtime.errors import LdmError
from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.sampling.schedule import BETA_SCHEDULES, TIMESTEP_SPACINGS, NoiseSchedule

PREDICTIONS = ("epsilon", "v_prediction")
SMALLEST_VOCABULARY = 2 * 256 + 2  # every byte inside and at the end of a word, BOS, EOS
MAX_STEPS = 10**8  # a step takes a millisecond at least: a day
MAX_BATCH = 2**16  # indices of a batch are drawn one by one
MAX_LEARNT_VOCABULARY = 2**17  # CLIP has 49,408 tokens; learning takes time in the number of merges
MAX_SIDE = 2**12  # pixels; all images of a training are kept in memory
MAX_LATENT_CHANNELS = 2**8  # the latents of all images are kept in memory; SD has 4, SD 3 has 16
MAX_WEIGHT = 1e6  # of a term of the loss; float32 keeps seven digits of their sum
MAX_RATE = 100.0  # rates beyond 1 only ever diverge
MAX_BACKGROUNDS = 256  # latents are kept for each image on each of them
MAX_PROMPTS = 256  # sampled as one batch

_RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{name}{digit}" for name in ("COM", "LPT") for digit in "0123456789¹²³"
}


def is_plain_name(name: str) -> bool:
    """Tell whether a folder can have that name on every system, and no shell or program reads more into it."""
    return (
        1 <= len(name.encode()) <= 100
        and name.isprintable()
        and not set(name) & set('<>:"/\\|?*')
        and name[0] not in ".- ~"
        and name[-1] not in ". "
        and name.partition(".")[0].rstrip().upper() not in _RESERVED
    )


def make_schedule(schedule: Any, prediction: str) -> NoiseSchedule:
    """Make the noise schedule of a recipe's table `schedule`. Raises FormatError."""
    return NoiseSchedule(
        num_train_timesteps=schedule.train_timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=schedule.beta_schedule,
        prediction_type=prediction,
        timestep_spacing=schedule.timestep_spacing,
        steps_offset=1,  # what diffusers' pipeline sets anyway
        set_alpha_to_one=True,
        rescale_betas_zero_snr=schedule.zero_terminal_snr,
    )


def _try_schedule(schedule: Any, prediction: str) -> NoiseSchedule | None:
    """Make the schedule, unless a rule of its own refuses one of its choices."""
    if schedule.beta_schedule not in BETA_SCHEDULES or schedule.timestep_spacing not in TIMESTEP_SPACINGS:
        return None
    return make_schedule(schedule, prediction) if prediction in PREDICTIONS else None


def _try_samples(schedule: Any, prediction: str, samples: Any) -> None:
    """Compile the plan of the samples, unless other rules refuse its steps or its schedule."""
    sampler = try_sampler(samples.sampler)
    try:
        noise_schedule = _try_schedule(schedule, prediction)
    except LdmError:
        return  # the schedule's own trial reports it
    if sampler is not None and noise_schedule is not None and 1 <= samples.steps <= MAX_SAMPLE_STEPS:
        compile_plan(noise_schedule, sampler, samples.steps)


def _between(field: str, low: float, high: float) -> Rule:
    return Rule((field,), lambda value: low <= value <= high, f"{field} must be from {low:,} to {high:,}")


def _above(field: str, high: float) -> Rule:
    return Rule((field,), lambda value: 0 < value <= high, f"{field} must be above 0 and at most {high:,}")


def _each(field: str, low: int, high: int) -> Rule:
    sentence = f"{field} must each be from {low:,} to {high:,}"
    return Rule((field,), lambda values: all(low <= value <= high for value in values), sentence)


def _levels(field: str) -> Rule:
    sentence = f"{field} must be 1 to {MAX_LEVELS} widths"
    return Rule((field,), lambda widths: 1 <= len(widths) <= MAX_LEVELS, sentence)


def _divides(divisor: str, number: str) -> Rule:
    """Make the rule that `divisor` divides `number`; of two lists, that each value divides its counterpart."""

    def holds(divisors: Any, numbers: Any) -> bool:
        numbers = numbers if isinstance(numbers, tuple) else (numbers,)
        divisors = divisors if isinstance(divisors, tuple) else (divisors,) * len(numbers)
        if len(divisors) != len(numbers):
            return True  # `_same_length` reports it
        return all(part > 0 and whole % part == 0 for part, whole in zip(divisors, numbers, strict=True))

    return Rule((divisor, number), holds, f"{divisor} must divide {number}")


def _shape_rules() -> Rules:
    """Return the rules of the sizes of images and models."""
    return [
        _between("data.size", 1, MAX_SIDE),
        _levels("vae.widths"),
        _levels("unet.widths"),
        _each("vae.widths", 1, MAX_WIDTH),
        _each("unet.widths", 1, MAX_WIDTH),
        _each("unet.heads", 1, MAX_WIDTH),
        *(_between(f"{part}.layers_per_block", 1, MAX_LAYERS_PER_BLOCK) for part in ("vae", "unet")),
        Rule(
            ("unet.layers_per_block", "unet.widths"),
            lambda layers, widths: 2 * len(widths) * (2 * layers + 1) <= MAX_BLOCKS,  # residual ones, transformers
            f"unet.layers_per_block and the number of unet.widths must give {MAX_BLOCKS} blocks at most",
        ),
        *(_divides(f"{part}.norm_groups", f"{part}.widths") for part in ("vae", "unet")),
        _divides("unet.heads", "unet.widths"),
        Rule(("unet.widths",), lambda widths: widths[:1] and widths[0] % 2 == 0, "unet.widths must begin with an even"),
        _same_length("unet.attention"),
        _same_length("unet.heads"),
        _between("vae.latent_channels", 1, MAX_LATENT_CHANNELS),
        _between("text_encoder.width", 1, MAX_WIDTH),
        _between("text_encoder.layers", 1, MAX_LAYERS),
        _between("text_encoder.heads", 1, MAX_WIDTH),
        _divides("text_encoder.heads", "text_encoder.width"),
        _between("tokenizer.vocab_size", SMALLEST_VOCABULARY, MAX_LEARNT_VOCABULARY),
        _between("tokenizer.max_length", 3, MAX_WINDOW),
        _fits_factor("data.size", lambda size, factor: size % factor == 0, "data.size must be a multiple of {}"),
        _fits_factor(
            "autoencoder.crop",
            lambda crop, factor: crop >= 0 and crop % factor == 0,
            "autoencoder.crop must be 0 or a multiple of {}",
        ),
        Rule(("autoencoder.crop", "data.size"), lambda crop, size: crop <= size, "autoencoder.crop must fit data.size"),
    ]


def _same_length(field: str) -> Rule:
    fields = (field, "unet.widths")
    return Rule(fields, lambda values, widths: len(values) == len(widths), f"{field} must have one value per width")


def _fits_factor(field: str, holds: Callable[[int, int], bool], sentence: str) -> Rule:
    """Make a rule of `field` and the number of image pixels to a latent pixel, along each side."""

    def factor(widths: tuple[int, ...]) -> int:
        return int(2 ** (min(len(widths), MAX_LEVELS) - 1)) if widths else 1

    return Rule(
        (field, "vae.widths"),
        lambda value, widths: holds(value, factor(widths)),
        lambda value, widths: sentence.format(factor(widths)),
    )


def _data_rules() -> Rules:
    def are_colours(colours: Mapping[str, tuple[int, ...]]) -> bool:
        return all(0 <= part <= 255 for colour in colours.values() for part in colour)

    def one_choice(share: float, file: object) -> bool:
        return share == 0 or file is None

    held_out = ("data.held_out", "data.held_out_captions")
    return [
        Rule(("data.background",), lambda c: all(0 <= x <= 255 for x in c), "data.background must be numbers in 0…255"),
        Rule(("data.backgrounds",), are_colours, "data.backgrounds must be numbers in 0…255"),
        Rule(("data.backgrounds",), lambda named: "" not in named, "data.backgrounds must have names"),
        Rule(
            ("data.backgrounds",),
            lambda x: len(x) < MAX_BACKGROUNDS,
            f"data.backgrounds must be below {MAX_BACKGROUNDS}",
        ),
        Rule(("data.held_out",), lambda share: 0 <= share < 1, "data.held_out must be from 0 to below 1"),
        Rule(held_out, one_choice, "data.held_out and data.held_out_captions exclude each other"),
        *(
            _between(f"captions.{name}", 0, 1)
            for name in ("dropout", "tag_probability", "short_probability", "plain_probability")
        ),
    ]


def _loss_rules() -> Rules:
    def has_weights(weight: float, file: object) -> bool:
        return weight == 0 or file is not None

    perceptual = ("autoencoder.perceptual", "autoencoder.perceptual_weights")
    return [
        Rule(perceptual, has_weights, "autoencoder.perceptual needs autoencoder.perceptual_weights"),
        _between("autoencoder.perceptual_every", 1, MAX_STEPS),
        _between("autoencoder.kl_warmup_steps", 0, MAX_STEPS),
        _between("autoencoder.shuffle_colours", 0, 1),
        *(_between(f"autoencoder.{name}", 0, MAX_WEIGHT) for name in ("l1", "mse", "kl", "perceptual")),
        one_of("diffusion.prediction", PREDICTIONS),
        _between("diffusion.min_snr_gamma", 0, MAX_WEIGHT),
        Rule(
            ("schedule.zero_terminal_snr", "diffusion.prediction"),
            lambda zero, prediction: not (zero and prediction == "epsilon"),
            "epsilon cannot be learnt with zero_terminal_snr: use v_prediction",
        ),
        _between("decoder.noise", 0, 1),
        _between("diffusion.restart.steps", 1, MAX_STEPS),
        Rule(
            ("diffusion.restart.rate",),
            lambda rate: 0 < rate <= 1,
            "diffusion.restart.rate must be above 0 and at most 1",
        ),
    ]


def _optimiser_rules(stage: str) -> Rules:
    table = f"{stage}.optimiser"
    return [
        _between(f"{table}.steps", 1, MAX_STEPS),
        _between(f"{table}.batch_size", 1, MAX_BATCH),
        _above(f"{table}.learning_rate", MAX_RATE),
        _between(f"{table}.muon_rate", 0, MAX_RATE),
        _above(f"{table}.clip_norm", 1e12),  # as good as none
        Rule(
            (f"{table}.warmup_steps", f"{table}.steps"),
            lambda warmup, steps: 0 <= warmup <= steps,
            f"{table}.warmup_steps must be from 0 to steps",
        ),
        _between(f"{table}.final_rate", 0, 1),
        _between(f"{table}.weight_decay", 0, MAX_RATE),
        Rule((f"{table}.ema_decay",), lambda decay: 0 <= decay < 1, f"{table}.ema_decay must be from 0 to below 1"),
    ]


def _samples_rules() -> Rules:
    schedule = ("schedule", "diffusion.prediction")
    return [
        _between("samples.every", 1, MAX_STEPS),
        _between("samples.steps", 1, MAX_SAMPLE_STEPS),
        _between("samples.guidance", 0, 1000),  # beyond it every value of an image is clipped
        _between("samples.seed", 0, 2**63 - 1),
        Rule(
            ("samples.prompts",),
            lambda prompts: len(prompts) <= MAX_PROMPTS,
            f"samples.prompts must be at most {MAX_PROMPTS}",
        ),
        _between("schedule.train_timesteps", 2, 100_000),
        one_of("schedule.beta_schedule", BETA_SCHEDULES),
        one_of("schedule.timestep_spacing", TIMESTEP_SPACINGS),
        sampler_name("samples.sampler"),
        Trial(schedule, _try_schedule, "schedule"),
        Trial((*schedule, "samples"), _try_samples, "samples"),
    ]


TRAIN_RULES: Rules = [
    Rule(
        ("name",),
        is_plain_name,
        'name must be a plain folder name on every system: 1 to 100 bytes, printable, none of <>:"/\\|?*, no dot, '
        "dash, tilde or blank first, no dot or blank last, not reserved by Windows",
    ),
    _between("seed", 0, 2**63 - 1),
    _between("checkpoint_every", 1, MAX_STEPS),
    one_of("save_precision", ("fp32", "fp16")),
    *_shape_rules(),
    *_data_rules(),
    *_loss_rules(),
    *(rule for stage in ("autoencoder", "text_encoder", "diffusion", "decoder") for rule in _optimiser_rules(stage)),
    *_samples_rules(),
]
