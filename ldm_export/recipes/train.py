"""The training recipe: one TOML file, read strictly into frozen dataclasses."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.configs.unet import UNetConfig
from ldm_export.configs.vae import VAEConfig
from ldm_export.errors import ConfigError
from ldm_export.recipes.toml import COMPUTED, from_table, list_faults, parse_toml, read_text, require
from ldm_export.recipes.train_rules import TRAIN_RULES, make_schedule
from ldm_runtime.package.manifest import LatentSpec
from ldm_runtime.sampling.schedule import NoiseSchedule

Where = dict[str, tuple[str, ...]]
Colour = tuple[int, int, int]  # red, green, blue in 0…255


@dataclass(frozen=True)
class Background:
    """The colour under the transparent parts of an image; captions mention it unless the name is empty."""

    name: str
    colour: Colour


@dataclass(frozen=True)
class DataRecipe:
    """The images to learn from. `where` keeps the rows whose value is listed, such as style = ["3d"].

    Transparent images are composed over `background`, which captions do not mention, or over one of the named
    `backgrounds`, which they do. The captions in the file `held_out_captions`, one to a line, or else the share
    `held_out` of all rows, are never trained on: the held-out losses are measured on them.
    """

    folder: Path
    size: int
    where: Where = field(default_factory=dict)
    background: Colour = (255, 255, 255)
    backgrounds: dict[str, Colour] = field(default_factory=dict)
    held_out: float = 0.0
    held_out_captions: Path | None = None

    @property
    def all_backgrounds(self) -> tuple[Background, ...]:
        """Return the plain background, which has no name, and the named ones."""
        named = (Background(name, colour) for name, colour in self.backgrounds.items())
        return (Background("", self.background), *named)


@dataclass(frozen=True)
class TokenizerRecipe:
    vocab_size: int
    max_length: int


@dataclass(frozen=True)
class VAERecipe:
    """Widths from the finest level to the coarsest; every level but the last halves the image."""

    widths: tuple[int, ...]
    layers_per_block: int
    latent_channels: int
    norm_groups: int


@dataclass(frozen=True)
class UNetRecipe:
    """Widths from the finest level to the coarsest, and the levels that attend to the text."""

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
    """Stage 2: the text encoder by itself, predicting the latents of its captions' images."""

    width: int
    layers: int
    heads: int
    optimiser: OptimiserRecipe


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Stage 1. The loss is the weighted sum of L1, squared error, perceptual distance and KL divergence.

    `crop` trains on random crops of that size; 0 trains on whole images. `perceptual_every` computes the
    perceptual term on every n-th step only (times n), since it costs more than the rest. `shuffle_colours` is the
    probability that an image's red, green and blue trade places, so that rare colours are learnt too. `where` replaces
    the data's, to learn from more images than the UNet does. `kl` rises to its value linearly over the first
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
    """The wording of the captions in stages 2 and 3.

    With probability `tag_probability` a caption is extended with up to three of its row's tags; with
    `short_probability` it is cut after its first comma; with `dropout` it is emptied, for classifier-free
    guidance. `plain_probability` is the share of images on the plain background, where there are named ones; a
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
    """The images sampled while training, every `every` steps; sampler, steps and guidance become the defaults."""

    prompts: tuple[str, ...]
    every: int
    sampler: str = "dpmpp_2m"
    steps: int = 20
    guidance: float = 3.0
    seed: int = 0


@dataclass(frozen=True)
class TrainRecipe:
    """A whole recipe.

    `mixed_precision` computes in bfloat16 where the device has it; `gradient_checkpointing` saves memory. The
    checkpoint's weights are rounded to `save_precision` ("fp32", "fp16").
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
    identity: str = field(default="", metadata=COMPUTED)  # hash of what the recipe says
    text: str = field(default="", metadata=COMPUTED, repr=False, compare=False)  # the file as it was read

    def __post_init__(self) -> None:
        require(self, TRAIN_RULES)

    def noise_schedule(self) -> NoiseSchedule:
        return make_schedule(self.schedule, self.diffusion.prediction)

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

    def latent_spec(self, scale: float) -> LatentSpec:
        vae = self.vae_config(scale)
        return LatentSpec(vae.latent_channels, vae.downsample, vae.scaling_factor, shift=0.0)

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
        """Make the config for a learnt vocabulary; its last two ids are BOS and EOS, which is also the padding."""
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


def load_train_recipe(path: Path) -> TrainRecipe:
    """Read a training recipe.

    Raises:
        ConfigError: no such file, no TOML, or a list of faults: unknown and missing keys, values of the wrong type,
            out of range or in contradiction, samples that cannot be drawn.
    """
    text = read_text(path)
    table = parse_toml(text, path)
    recipe = from_table(
        TrainRecipe, table, str(path), TRAIN_RULES, text=lambda: text, identity=lambda: _identity(table)
    )
    if faults := _config_faults(recipe):
        raise ConfigError(list_faults(str(path), faults))
    return recipe


def _config_faults(recipe: TrainRecipe) -> list[str]:
    """List the faults of the models' configs that the recipe's own rules let pass."""
    faults = []
    for config in (
        recipe.vae_config,
        recipe.unet_config,
        lambda: recipe.text_encoder_config(recipe.tokenizer.vocab_size),
    ):
        try:
            config()
        except ConfigError as error:
            faults.append(str(error))
    return faults


def _identity(table: dict[str, object]) -> str:
    """Hash what the recipe says."""
    return hashlib.sha256(repr(_sorted(table)).encode()).hexdigest()


def _sorted(value: object) -> object:
    """Put tables into a fixed order, so that moving a line does not change a recipe's identity."""
    if isinstance(value, dict):
        return [(key, _sorted(value[key])) for key in sorted(value)]
    return [_sorted(item) for item in value] if isinstance(value, list) else value
