"""Recipes: one TOML file a person reads top to bottom, turned to frozen dataclasses; unknown keys are refused."""

import contextlib
import dataclasses
import hashlib
import math
import operator
import re
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ldm_export.config import TextEncoderConfig, UNetConfig, VAEConfig
from ldm_runtime.errors import ConfigError

Where = dict[str, tuple[str, ...]]
Colour = tuple[int, int, int]  # red, green, blue in 0…255
T = TypeVar("T")


@dataclass(frozen=True)
class Ground:
    """What a picture stands on where it is transparent; a caption says so unless the name is empty."""

    name: str
    colour: Colour


@dataclass(frozen=True)
class DataRecipe:
    """Which pictures to learn from. `where` keeps the rows whose value is listed, such as style = ["3d"].

    Where pictures are transparent they are composed over `background`, which captions do not mention, or over one of
    the named `backgrounds`, which they do. Never trained on, and what the held-out losses are measured on, are the
    captions in the file `held_out_captions`, one to a line, or else the share `held_out` of all rows.
    """

    folder: Path
    size: int
    where: Where = field(default_factory=dict)
    background: Colour = (255, 255, 255)
    backgrounds: dict[str, Colour] = field(default_factory=dict)
    held_out: float = 0.0
    held_out_captions: Path | None = None

    @property
    def grounds(self) -> tuple[Ground, ...]:
        """All that a picture may stand on; the first is the plain one, without a name."""
        return (Ground("", self.background), *(Ground(name, colour) for name, colour in self.backgrounds.items()))


@dataclass(frozen=True)
class TokenizerRecipe:
    vocab_size: int
    max_length: int


@dataclass(frozen=True)
class VAERecipe:
    """Widths from the finest level to the coarsest; every level but the last halves the picture."""

    widths: tuple[int, ...]
    layers_per_block: int
    latent_channels: int
    norm_groups: int


@dataclass(frozen=True)
class UNetRecipe:
    """Widths from the finest level to the coarsest, and which of the levels look at the text."""

    widths: tuple[int, ...]
    attention: tuple[bool, ...]
    heads: tuple[int, ...]
    layers_per_block: int
    norm_groups: int


@dataclass(frozen=True)
class OptimiserRecipe:
    """AdamW with linear warm-up, then cosine decay to `final_rate` x the peak; EMA of the weights for the result.

    A `muon_rate` above 0 trains the weights of convolutions and linear layers with Muon instead, at that peak rate.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    muon_rate: float = 0.0
    final_rate: float = 0.0
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.999


@dataclass(frozen=True)
class TextEncoderRecipe:
    """Stage 2: the text encoder by itself, foretelling the latents of its captions' pictures."""

    width: int
    layers: int
    heads: int
    optimiser: OptimiserRecipe


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Stage 1. The loss is the weighted sum of L1, squared error, perceptual distance and KL divergence.

    `crop` trains on random crops of that size; 0 trains on whole pictures. `perceptual_every` computes the
    perceptual term on every n-th step only (times n), since it costs more than the rest. `shuffle_colours` is the
    probability that a picture's red, green and blue trade places, so that rare colours are learnt too. `where` replaces
    the data's, to learn from more pictures than the UNet does. `kl` rises to its value linearly over the first
    `kl_warmup_steps`: high from the start, it would silence latent channels for good (Bowman et al. 2016, arXiv
    1511.06349).
    """

    optimiser: OptimiserRecipe
    l1: float
    mse: float
    kl: float
    kl_warmup_steps: int = 0
    perceptual: float = 0.0
    perceptual_weights: Path | None = None
    perceptual_every: int = 1
    crop: int = 0
    shuffle_colours: float = 0.0
    where: Where | None = None


@dataclass(frozen=True)
class DecoderRecipe:
    """Stage 4, which may be left out: the decoder once more, with the weights and crops of stage 1.

    The latents that it decodes get white noise, of up to `noise` times their own deviation.
    """

    optimiser: OptimiserRecipe
    noise: float


@dataclass(frozen=True)
class CaptionsRecipe:
    """How stages 2 and 3 word the captions.

    With probability `tag_probability` a caption is extended with up to three of its row's tags; with
    `short_probability` it is cut after its first comma; with `dropout` it is emptied, for guidance without a
    classifier. `plain_probability` is the share of pictures on the plain background, where there are named ones; a
    quarter of their captions calls it `plain_name`, if given.
    """

    dropout: float = 0.1
    tag_probability: float = 0.0
    short_probability: float = 0.0
    plain_probability: float = 0.5
    plain_name: str = ""


@dataclass(frozen=True)
class RestartRecipe:
    """More steps after a stage's own, on a second cosine from `rate` x the peak (Loshchilov and Hutter 2017, SGDR,
    arXiv 1608.03983)."""

    steps: int
    rate: float


@dataclass(frozen=True)
class DiffusionRecipe:
    """Stage 3: the UNet, on cached latents. `min_snr_gamma` caps the weight of easy timesteps (0 turns it off).

    `restart` trains on after the last step. The steps before it are the same with and without, so a finished training
    can be continued by one.
    """

    optimiser: OptimiserRecipe
    prediction: str = "v_prediction"
    min_snr_gamma: float = 5.0
    restart: RestartRecipe | None = field(default=None, repr=False)  # not in the identity of the steps before it


@dataclass(frozen=True)
class ScheduleRecipe:
    train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    zero_terminal_snr: bool = False
    timestep_spacing: str = "trailing"


@dataclass(frozen=True)
class SamplesRecipe:
    """The pictures drawn while training, every `every` steps; sampler, steps and guidance become the defaults."""

    prompts: tuple[str, ...]
    every: int
    sampler: str = "dpmpp_2m"
    steps: int = 20
    guidance: float = 3.0
    seed: int = 0


@dataclass(frozen=True)
class TrainRecipe:
    """`mixed_precision` computes in bfloat16 where the device has it; `gradient_checkpointing` saves memory.

    `save_precision` ("fp32", "fp16") is what the checkpoint's weights are rounded to.
    """

    name: str
    seed: int
    data: DataRecipe
    tokenizer: TokenizerRecipe
    text_encoder: TextEncoderRecipe
    vae: VAERecipe
    unet: UNetRecipe
    schedule: ScheduleRecipe
    autoencoder: AutoencoderRecipe
    diffusion: DiffusionRecipe
    samples: SamplesRecipe
    captions: CaptionsRecipe = field(default_factory=CaptionsRecipe)
    decoder: DecoderRecipe | None = None
    checkpoint_every: int = 200
    mixed_precision: bool = True
    gradient_checkpointing: bool = False
    save_precision: str = "fp32"
    identity: str = ""  # hash of the recipe's text: a run folder belongs to one recipe

    def __post_init__(self) -> None:
        for what, holds in _rules(self):
            if not holds:
                raise ConfigError(f"{what}{_got(self, what)}")

    def vae_config(self, scaling_factor: float = 1.0) -> VAEConfig:
        levels = len(self.vae.widths)
        return VAEConfig(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=self.vae.widths,
            layers_per_block=self.vae.layers_per_block,
            latent_channels=self.vae.latent_channels,
            norm_num_groups=self.vae.norm_groups,
            sample_size=self.data.size,
            scaling_factor=scaling_factor,
            force_upcast=False,
        )

    def unet_config(self) -> UNetConfig:
        down = tuple("CrossAttnDownBlock2D" if reads else "DownBlock2D" for reads in self.unet.attention)
        up = tuple("CrossAttnUpBlock2D" if reads else "UpBlock2D" for reads in reversed(self.unet.attention))
        return UNetConfig(
            sample_size=self.data.size // self.vae_config().downsample,
            in_channels=self.vae.latent_channels,
            out_channels=self.vae.latent_channels,
            down_block_types=down,
            up_block_types=up,
            block_out_channels=self.unet.widths,
            layers_per_block=self.unet.layers_per_block,
            attention_head_dim=self.unet.heads,
            cross_attention_dim=self.text_encoder.width,
            norm_num_groups=self.unet.norm_groups,
        )

    def text_encoder_config(self, vocab_size: int) -> TextEncoderConfig:
        """`vocab_size` is the learnt one; its last two ids are BOS and EOS, which is also the padding."""
        return TextEncoderConfig(
            vocab_size=vocab_size,
            hidden_size=self.text_encoder.width,
            intermediate_size=4 * self.text_encoder.width,
            num_hidden_layers=self.text_encoder.layers,
            num_attention_heads=self.text_encoder.heads,
            max_position_embeddings=self.tokenizer.max_length,
            pad_token_id=vocab_size - 1,
            bos_token_id=vocab_size - 2,
            eos_token_id=vocab_size - 1,
        )


def _rules(recipe: TrainRecipe) -> list[tuple[str, bool]]:
    """What must hold beyond the types; the models' own rules are checked by their configs."""
    data, vae, schedule = recipe.data, recipe.autoencoder, recipe.schedule
    factor = 2 ** (len(recipe.vae.widths) - 1)
    levels = len(recipe.unet.widths)
    rules = [
        ("name must be a plain folder name", recipe.name not in ("", ".", "..") and "/" not in recipe.name),
        ("seed and checkpoint_every must not be negative", recipe.seed >= 0 and recipe.checkpoint_every > 0),
        (f"data.size must be a multiple of {factor}", data.size > 0 and data.size % factor == 0),
        (f"autoencoder.crop must be 0 or a multiple of {factor} up to data.size", _crop_fits(recipe, factor)),
        ("data.held_out must be from 0 to below 1", 0 <= data.held_out < 1),
        ("data.held_out and data.held_out_captions exclude each other", _one_choice_of_held_out(data)),
        ("data.background and data.backgrounds must be numbers in 0…255", _are_colours(data.grounds)),
        ("data.backgrounds must have names", "" not in data.backgrounds),
        ("unet.attention and unet.heads need one value per width", levels == len(recipe.unet.attention)),
        ("unet.attention and unet.heads need one value per width", levels == len(recipe.unet.heads)),
        ("tokenizer.max_length must be at least 3", recipe.tokenizer.max_length >= 3),
        ("autoencoder.perceptual needs perceptual_weights", vae.perceptual == 0 or vae.perceptual_weights is not None),
        ("autoencoder.perceptual_every must be positive", vae.perceptual_every > 0),
        ("autoencoder.kl_warmup_steps must not be negative", vae.kl_warmup_steps >= 0),
        ("autoencoder.shuffle_colours must be from 0 to 1", 0 <= vae.shuffle_colours <= 1),
        ("the autoencoder's loss weights must not be negative", min(vae.l1, vae.mse, vae.kl, vae.perceptual) >= 0),
        ("diffusion.prediction must be epsilon or v_prediction", _predicts(recipe.diffusion.prediction)),
        ("diffusion.min_snr_gamma must not be negative", recipe.diffusion.min_snr_gamma >= 0),
        ("epsilon cannot be learnt with zero_terminal_snr: use v_prediction", _can_learn(recipe)),
        ("samples.every must be positive", recipe.samples.every > 0),
        ("schedule.train_timesteps must be at least 2", schedule.train_timesteps >= 2),
        ("save_precision must be fp32 or fp16", recipe.save_precision in ("fp32", "fp16")),
    ]
    for share in ("dropout", "tag_probability", "short_probability", "plain_probability"):
        rules.append((f"captions.{share} must be from 0 to 1", 0 <= getattr(recipe.captions, share) <= 1))
    optimisers = {
        "autoencoder": vae.optimiser,
        "text_encoder": recipe.text_encoder.optimiser,
        "diffusion": recipe.diffusion.optimiser,
    }
    if (restart := recipe.diffusion.restart) is not None:
        rules.append(("diffusion.restart.steps must be positive", restart.steps > 0))
        rules.append(("diffusion.restart.rate must be above 0 and at most 1", 0 < restart.rate <= 1))
    if recipe.decoder is not None:
        rules.append(("decoder.noise must be from 0 to 1", 0 <= recipe.decoder.noise <= 1))
        optimisers["decoder"] = recipe.decoder.optimiser
    for stage, optimiser in optimisers.items():
        rules += [(f"{stage}.optimiser.{what}", holds) for what, holds in _optimiser_rules(optimiser)]
    return rules


def _got(recipe: TrainRecipe, rule: str) -> str:
    """What the recipe has for the keys that a broken rule names, such as "a.steps and batch_size must be positive"."""
    named: dict[str, Any] = {}
    table = ""
    for key in re.findall(r"\w+(?:\.\w+)*", rule):
        for path in (key, f"{table}.{key}"):
            with contextlib.suppress(AttributeError):
                value = operator.attrgetter(path)(recipe)
                if not dataclasses.is_dataclass(value):
                    named[path] = value
                    table = path.rpartition(".")[0]
                break
    return f"; got {', '.join(f'{path} = {value!r}' for path, value in named.items())}" if named else ""


def _crop_fits(recipe: TrainRecipe, factor: int) -> bool:
    crop = recipe.autoencoder.crop
    return 0 <= crop <= recipe.data.size and crop % factor == 0


def _one_choice_of_held_out(data: DataRecipe) -> bool:
    return data.held_out == 0 or data.held_out_captions is None


def _are_colours(grounds: tuple[Ground, ...]) -> bool:
    return all(0 <= part <= 255 for ground in grounds for part in ground.colour)


def _predicts(prediction: str) -> bool:
    return prediction in ("epsilon", "v_prediction")


def _can_learn(recipe: TrainRecipe) -> bool:
    return not (recipe.schedule.zero_terminal_snr and recipe.diffusion.prediction == "epsilon")


def _optimiser_rules(optimiser: OptimiserRecipe) -> list[tuple[str, bool]]:
    return [
        ("steps and batch_size must be positive", optimiser.steps > 0 and optimiser.batch_size > 0),
        ("learning_rate and clip_norm must be positive", min(optimiser.learning_rate, optimiser.clip_norm) > 0),
        ("warmup_steps must be from 0 to steps", 0 <= optimiser.warmup_steps <= optimiser.steps),
        ("final_rate must be from 0 to 1", 0 <= optimiser.final_rate <= 1),
        ("ema_decay must be from 0 to below 1", 0 <= optimiser.ema_decay < 1),
        ("weight_decay and muon_rate must not be negative", min(optimiser.weight_decay, optimiser.muon_rate) >= 0),
    ]


def load_train_recipe(path: Path) -> TrainRecipe:
    """Read a training recipe.

    Raises:
        ConfigError: no such file, no TOML, an unknown or missing key, or a value of the wrong type or range.
    """
    table = read_toml(path)
    if "identity" in table:
        raise ConfigError(f"{path} has the unknown key 'identity'")
    digest = hashlib.sha256(repr(_sorted(table)).encode()).hexdigest()
    recipe = from_table(TrainRecipe, {**table, "identity": digest}, str(path))
    for config in (recipe.vae_config, recipe.unet_config, lambda: recipe.text_encoder_config(1024)):
        try:
            config()
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
    return recipe


def read_toml(path: Path) -> dict[str, Any]:
    """The file as a table. Raises ConfigError when it cannot be read or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None)
        raise ConfigError(f"cannot read the recipe {path}: {reason if reason is not None else error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the recipe {path} is not valid TOML: {error}") from None


def from_table(cls: type[T], table: object, where: str) -> T:
    """A dataclass from a TOML table: every key is a field of the right type, and every field without default is given.

    `where` names the file, and grows by the tables' names in error messages.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must be a table, not {table!r}")
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(table) - set(fields))
    if unknown:
        raise ConfigError(f"{where} has the unknown key {unknown[0]!r}; known are {', '.join(fields)}")
    for name, item in fields.items():
        has_default = item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING
        if name not in table and not has_default:
            raise ConfigError(f"{where} lacks the key {name!r}")
    kinds = typing.get_type_hints(cls)
    values = {name: _convert(kinds[name], value, f"{where}: {name}") for name, value in table.items()}
    try:
        return cls(**values)
    except ConfigError as error:  # a rule of the dataclass itself, which does not know its file
        raise ConfigError(f"{where}: {error}") from None


def _convert(kind: Any, value: object, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return from_table(kind, value, where)  # type: ignore[arg-type]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # only "… | None" occurs, and TOML has no null
        return _convert(arguments[0], value, where)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ConfigError(f"{where} must have {len(arguments)} values, not {len(value)}")
        return tuple(_convert(arguments[0], item, where) for item in value)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where} must be one of {', '.join(arguments)}, not {value!r}")
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    names = {
        dict: "table",
        tuple: "list",
        Path: "path",
        str: "text",
        float: "number",
        int: "whole number",
        bool: "true or false",
    }
    wanted = names[kind if origin is None else origin]
    raise ConfigError(f"{where} must be a {wanted}, not {value!r}" if kind is not bool else f"{where} must be {wanted}")


def _sorted(value: object) -> object:
    """The same value with tables in a fixed order, so that moving a line does not change a recipe's identity."""
    if isinstance(value, dict):
        return [(key, _sorted(value[key])) for key in sorted(value)]
    return [_sorted(item) for item in value] if isinstance(value, list) else value
