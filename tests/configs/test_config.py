"""Every option of diffusers' and transformers' configs is supported, refused by name, or without effect."""

import dataclasses
import inspect
import re
import time
from typing import Any

import diffusers
import pytest
import torch
import transformers

from ldm_export.configs.sdxl import ProjectingTextEncoderConfig, SDXLUNetConfig
from ldm_export.configs.strict import MAX_BLOCKS, MAX_WIDTH, NOTES, StrictConfig
from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.configs.unet import UNetConfig
from ldm_export.configs.vae import VAEConfig
from ldm_export.configs.vae_tiny import TinyVAEConfig
from ldm_export.errors import ConfigError
from tests import published_configs

ORACLES: dict[type, Any] = {
    UNetConfig: diffusers.UNet2DConditionModel,
    VAEConfig: diffusers.AutoencoderKL,
    TinyVAEConfig: diffusers.AutoencoderTiny,
    TextEncoderConfig: transformers.CLIPTextConfig,
    SDXLUNetConfig: diffusers.UNet2DConditionModel,
    ProjectingTextEncoderConfig: transformers.CLIPTextConfig,
}
SMALL = {
    UNetConfig: UNetConfig(block_out_channels=(32, 64, 64, 64)).to_dict(),
    VAEConfig: VAEConfig().to_dict(),
    TinyVAEConfig: TinyVAEConfig().to_dict(),
    TextEncoderConfig: TextEncoderConfig().to_dict(),
    SDXLUNetConfig: SDXLUNetConfig(
        block_out_channels=(32, 64, 64, 64),
        addition_embed_type="text_time",
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=128,
    ).to_dict(),
    ProjectingTextEncoderConfig: ProjectingTextEncoderConfig().to_dict(),
}
PUBLISHED = [
    (cls, kind, table[kind])
    for cls, table in (
        (UNetConfig, published_configs.UNET),
        (VAEConfig, published_configs.VAE),
        (TextEncoderConfig, published_configs.TEXT_ENCODER),
    )
    for kind in ("sd15", "sd21")
] + [
    (TinyVAEConfig, "taesd", published_configs.VAE["taesd"]),
    (SDXLUNetConfig, "sdxl", published_configs.UNET["sdxl"]),
    (SDXLUNetConfig, "sdxl_inpaint", published_configs.UNET["sdxl_inpaint"]),
    (VAEConfig, "sdxl", published_configs.VAE["sdxl"]),
    (TextEncoderConfig, "sdxl", published_configs.TEXT_ENCODER["sdxl"]),
    (ProjectingTextEncoderConfig, "sdxl_2", published_configs.TEXT_ENCODER["sdxl_2"]),
]


def options(cls: type) -> dict[str, Any]:
    """Each option of the oracle with its default."""
    parameters = inspect.signature(ORACLES[cls].__init__).parameters.values()
    skipped = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {p.name: p.default for p in parameters if p.name != "self" and p.kind not in skipped}


def fields(cls: Any) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(cls)}


@pytest.mark.parametrize("cls", ORACLES)
def test_every_option_of_the_oracle_is_known(cls: Any) -> None:
    assert set(options(cls)) - set(fields(cls)) - set(cls.ONLY) - cls.INERT == set()


@pytest.mark.parametrize("cls", [UNetConfig, VAEConfig, SDXLUNetConfig, TinyVAEConfig])
def test_no_option_is_invented(cls: Any) -> None:
    own = {"block_out_channels"} if cls is TinyVAEConfig else set()  # set by the constructor, saved with the rest
    assert (set(fields(cls)) | set(cls.ONLY) | cls.INERT) - set(options(cls)) == own


@pytest.mark.parametrize("cls", ORACLES)
def test_defaults_are_the_oracles(cls: Any) -> None:
    for name, default in options(cls).items():
        if name in fields(cls):
            assert fields(cls)[name] == default, name
        elif name in cls.ONLY:
            assert default in cls.ONLY[name], name


@pytest.mark.parametrize("cls", ORACLES)
def test_what_the_oracle_writes_is_read(cls: Any) -> None:
    if issubclass(cls, TextEncoderConfig):
        written = transformers.CLIPTextConfig(architectures=[cls.CLASS_NAME]).to_dict()
    else:
        written = dict(ORACLES[cls].from_config(SMALL[cls]).config) | {"_class_name": cls.CLASS_NAME}
    assert cls.from_dict(written) == cls.from_dict({**SMALL[cls], **written})


@pytest.mark.parametrize(("cls", "name"), [(cls, name) for cls in ORACLES for name in cls.ONLY])
def test_unsupported_value_is_refused_by_name(cls: Any, name: str) -> None:
    accepted = cls.from_dict({**SMALL[cls], name: cls.ONLY[name][0]})
    assert accepted == cls.from_dict(SMALL[cls])
    for value in ("another", 7):
        with pytest.raises(ConfigError, match=rf"{name} = {value!r}, which is not supported"):
            cls.from_dict({**SMALL[cls], name: value})


def test_true_is_not_one() -> None:
    with pytest.raises(ConfigError, match="downsample_padding = True"):
        UNetConfig.from_dict({**SMALL[UNetConfig], "downsample_padding": True})


# What diffusers' EMAModel writes into the config of the UNet that it saves.
EMA = {"decay": 0.9999, "inv_gamma": 1.0, "min_decay": 0.0, "optimization_step": 5000, "power": 0.75,
       "update_after_step": 0, "use_ema_warmup": False}  # fmt: skip


@pytest.mark.parametrize("cls", ORACLES)
def test_a_key_that_the_class_does_not_take_changes_nothing_and_is_listed(cls: Any) -> None:
    foreign = {**EMA, "resnet_flavour": "mild", "_a_note": 1}
    assert cls.from_dict({**SMALL[cls], **foreign}) == cls.from_dict(SMALL[cls])
    assert cls.unknown({**SMALL[cls], **foreign}) == tuple(sorted(foreign))
    assert cls.unknown(SMALL[cls]) == ()


@pytest.mark.slow
@pytest.mark.parametrize("cls", [UNetConfig, VAEConfig])
def test_diffusers_ignores_those_keys_too(cls: Any) -> None:
    torch.manual_seed(0)
    plain = ORACLES[cls].from_config(SMALL[cls])
    torch.manual_seed(0)
    foreign = ORACLES[cls].from_config({**SMALL[cls], **EMA, "resnet_flavour": "mild"})
    for name, value in plain.state_dict().items():
        assert torch.equal(value, foreign.state_dict()[name]), name
    source = "".join(inspect.getsource(each) for each in ORACLES[cls].__mro__[:-1] if "models" in each.__module__)
    read = set(re.findall(r"self\.config\.(\w+)", source))  # a file's foreign keys are there too
    assert read <= options(cls).keys(), read


@pytest.mark.parametrize("cls", ORACLES)
def test_a_known_key_mistyped_is_refused(cls: Any) -> None:
    for name in {*fields(cls), *cls.ONLY} - {"act_fn"}:
        for wrong in (name[:-1], name + "s", name[0] + name, name.replace("_", "-"), name.upper()):
            if wrong != name and wrong not in {*fields(cls), *cls.ONLY, *cls.INERT}:
                with pytest.raises(ConfigError, match=rf"unknown option {wrong} = 7, which looks like "):
                    cls.from_dict({**SMALL[cls], wrong: 7})


@pytest.mark.parametrize("cls", ORACLES)
def test_a_key_of_a_newer_library_is_refused(cls: Any) -> None:
    note = "transformers_version" if cls is TextEncoderConfig else "_diffusers_version"
    for version in ("0.39.0", "0.39.0.dev0", "0.6.0", 7, None):
        cls.from_dict({**SMALL[cls], note: version, "resnet_flavour": "mild"})
    for version in ("99.0.0", "99.1.dev0"):
        cls.from_dict({**SMALL[cls], note: version})
        with pytest.raises(ConfigError, match=rf"resnet_flavour = 'mild', and was written by \w+ {version}; known"):
            cls.from_dict({**SMALL[cls], note: version, "resnet_flavour": "mild"})


@pytest.mark.parametrize("cls", ORACLES)
def test_no_flood_of_keys(cls: Any) -> None:
    with pytest.raises(ConfigError, match="has 65 unknown options; expected 64 at most"):
        cls.from_dict({**SMALL[cls], **{f"x{index}" * 9: index for index in range(65)}})


@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, field.name) for cls in ORACLES for field in dataclasses.fields(cls) if field.type is bool],
)
def test_a_switch_that_is_null_is_off(cls: Any, name: str) -> None:
    config = cls.from_dict({**SMALL[cls], name: None})
    assert config == cls.from_dict({**SMALL[cls], name: False})
    theirs = [ORACLES[cls].from_config({**SMALL[cls], name: value}) for value in (None, False)]
    assert str(theirs[0]) == str(theirs[1])
    assert not any(vars(module).get("upcast_attention") for module in theirs[0].modules())


@pytest.mark.parametrize("cls", ORACLES)
def test_notes_and_inert_keys_change_nothing(cls: Any) -> None:
    extra = dict.fromkeys((NOTES | cls.INERT) - {"_class_name", "model_type", "architectures"}, "anything")
    assert cls.from_dict({**SMALL[cls], **extra}) == cls.from_dict(SMALL[cls])


@pytest.mark.parametrize(("cls", "kind", "data"), PUBLISHED)
def test_published_config_is_supported(cls: Any, kind: str, data: dict[str, Any]) -> None:
    config = cls.from_dict(data)
    for name in fields(cls).keys() & data.keys():
        value = getattr(config, name)
        said = False if data[name] is None and isinstance(value, bool) else data[name]  # a null switch is off
        assert (list(value) if isinstance(value, tuple) else value) == said, name


@pytest.mark.parametrize(("cls", "kind", "data"), PUBLISHED)
def test_what_we_write_is_what_we_read(cls: Any, kind: str, data: dict[str, Any]) -> None:
    config = cls.from_dict(data)
    assert cls.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("cls", [UNetConfig, VAEConfig, SDXLUNetConfig, TinyVAEConfig])
def test_diffusers_reads_what_we_write(cls: Any) -> None:
    config = SMALL[cls]
    opened = ORACLES[cls].from_config(config).config
    for name in fields(cls):
        value = opened[name]
        assert (list(value) if isinstance(value, tuple) else value) == config[name], name


def test_transformers_reads_what_we_write() -> None:
    config = TextEncoderConfig.from_dict(published_configs.TEXT_ENCODER["sd21"])
    opened = transformers.CLIPTextConfig.from_dict(config.to_dict())
    assert {name: getattr(opened, name) for name in fields(TextEncoderConfig)} == dataclasses.asdict(config)


@pytest.mark.parametrize(
    ("cls", "change"),
    [
        (UNetConfig, {"block_out_channels": []}),
        (UNetConfig, {"block_out_channels": 320}),
        (UNetConfig, {"block_out_channels": [32, 64, 64]}),
        (UNetConfig, {"block_out_channels": [32, 64, 64, 65]}),
        (UNetConfig, {"block_out_channels": [32, 64, 64, 0]}),
        (UNetConfig, {"down_block_types": ["DownBlock2D"] * 3}),
        (UNetConfig, {"down_block_types": ["AttnDownBlock2D"] * 4}),
        (UNetConfig, {"up_block_types": ["SimpleCrossAttnUpBlock2D"] * 4}),
        (UNetConfig, {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}),
        (UNetConfig, {"attention_head_dim": 5}),
        (UNetConfig, {"attention_head_dim": [8, 8, 8]}),
        (UNetConfig, {"attention_head_dim": 0}),
        (UNetConfig, {"attention_head_dim": None}),
        (UNetConfig, {"cross_attention_dim": [768, 768, 768, 768]}),
        (UNetConfig, {"transformer_layers_per_block": [[1], [1], [1], [1]]}),
        (UNetConfig, {"transformer_layers_per_block": [1, [1, 1], 1, 1]}),
        (UNetConfig, {"transformer_layers_per_block": [1, 1, 1]}),
        (UNetConfig, {"reverse_transformer_layers_per_block": [1, [1, 1], 1, 1]}),
        (UNetConfig, {"reverse_transformer_layers_per_block": [1, 1, 1]}),
        (UNetConfig, {"reverse_transformer_layers_per_block": "same"}),
        (UNetConfig, {"layers_per_block": 0}),
        (UNetConfig, {"layers_per_block": True}),
        (UNetConfig, {"norm_eps": "1e-5"}),
        (UNetConfig, {"norm_eps": 0}),
        (UNetConfig, {"norm_eps": float("nan")}),
        (UNetConfig, {"norm_num_groups": None}),
        (UNetConfig, {"freq_shift": 16}),
        (UNetConfig, {"time_cond_proj_dim": 2}),
        (UNetConfig, {"transformer_layers_per_block": [1, 1, 1]}),
        (UNetConfig, {"transformer_layers_per_block": -1}),
        (UNetConfig, {"transformer_layers_per_block": [[1, 1], 1, 1, 1]}),
        (UNetConfig, {"reverse_transformer_layers_per_block": [1, 1, 1, [1, 1]]}),
        (UNetConfig, {"only_cross_attention": [True, False]}),
        (UNetConfig, {"only_cross_attention": None}),
        (UNetConfig, {"time_cond_proj_dim": 7}),
        (UNetConfig, {"use_linear_projection": 1}),
        (UNetConfig, {"sample_size": [64, 64, 64]}),
        (VAEConfig, {"in_channels": 4}),
        (VAEConfig, {"out_channels": 1}),
        (VAEConfig, {"latent_channels": 0}),
        (VAEConfig, {"layers_per_block": [1, 1]}),
        (VAEConfig, {"scaling_factor": 0.0}),
        (VAEConfig, {"scaling_factor": None}),
        (VAEConfig, {"down_block_types": ["AttnDownEncoderBlock2D"]}),
        (VAEConfig, {"norm_num_groups": 48}),
        (VAEConfig, {"force_upcast": "no"}),
        (TinyVAEConfig, {"in_channels": 4}),
        (TinyVAEConfig, {"encoder_block_out_channels": [64, 64, 64, 32]}),
        (TinyVAEConfig, {"decoder_block_out_channels": []}),
        (TinyVAEConfig, {"num_encoder_blocks": [1, 3, 3]}),
        (TinyVAEConfig, {"num_decoder_blocks": 3}),
        (TinyVAEConfig, {"scaling_factor": 0.0}),
        (TextEncoderConfig, {"hidden_act": "gelu_new"}),
        (TextEncoderConfig, {"num_attention_heads": 7}),
        (TextEncoderConfig, {"eos_token_id": None}),
        (TextEncoderConfig, {"num_hidden_layers": 0}),
        (TextEncoderConfig, {"layer_norm_eps": -1.0}),
    ],
)
def test_senseless_value_is_refused_by_name(cls: Any, change: dict[str, Any]) -> None:
    cls.from_dict(SMALL[cls])
    culprit = {"norm_num_groups": "block_out_channels"} if cls is VAEConfig else {}
    # A wrong length is told of whichever of the two options is looked at first.
    names = {culprit.get(name, name) for name in change} | (
        {"down_block_types"} if "block_out_channels" in change else set()
    )
    named = "|".join(sorted(names))
    with pytest.raises(ConfigError, match=rf" has ({named}) = |: ({named})(\[\d+\])* must be .*; got "):
        cls.from_dict({**SMALL[cls], **change}, "here")


ABSURD: list[tuple[Any, str, Any]] = [
    *((UNetConfig, "sample_size", value) for value in (-8, 0, 10**9, [64, 0], 10**5000)),
    *((VAEConfig, "sample_size", value) for value in (-8, 0, 10**9)),
    *((VAEConfig, "scaling_factor", value) for value in (1e-30, -0.18, 1e30, float("inf"), float("nan"), 10**400)),
    (VAEConfig, "shift_factor", -1e30),
    *((UNetConfig, "layers_per_block", value) for value in (10**9, [2, 2, 2, 10**9], [[2]] * 4)),
    (VAEConfig, "layers_per_block", 10**9),
    (UNetConfig, "transformer_layers_per_block", 10**9),
    (UNetConfig, "transformer_layers_per_block", MAX_BLOCKS // 20),  # 20 times as many blocks
    (UNetConfig, "block_out_channels", [32] * 1000),
    (UNetConfig, "block_out_channels", [32, 64, 64, 32 * 10**9]),
    (VAEConfig, "block_out_channels", [2**15]),
    (UNetConfig, "down_block_types", ["DownBlock2D"] * 100_000),
    (UNetConfig, "norm_num_groups", 0),
    (VAEConfig, "norm_num_groups", -32),
    *((UNetConfig, "norm_eps", value) for value in (-1e-5, 1e-30, 1e30)),
    (UNetConfig, "attention_head_dim", -8),
    (UNetConfig, "cross_attention_dim", 10**9),
    (UNetConfig, "in_channels", 10**12),
    (UNetConfig, "freq_shift", -1),
    (VAEConfig, "latent_channels", 10**9),
    *((TinyVAEConfig, "num_encoder_blocks", value) for value in ([1] * 1000, [1, 3, 3, 10**9], [1, 3, 3, -1])),
    *((TinyVAEConfig, "encoder_block_out_channels", value) for value in ([0] * 4, [2**15] * 4)),
    *((TextEncoderConfig, "vocab_size", value) for value in (10**12, 0, -1, True, 49408.0)),
    (TextEncoderConfig, "hidden_size", 10**9),
    (TextEncoderConfig, "intermediate_size", 10**12),
    (TextEncoderConfig, "num_hidden_layers", 10**9),
    *((TextEncoderConfig, "num_attention_heads", value) for value in (0, -8, 10**9)),
    *((TextEncoderConfig, "max_position_embeddings", value) for value in (0, 1, 10**9)),
    *((TextEncoderConfig, "eos_token_id", value) for value in (-1, 10**30)),
    (TextEncoderConfig, "layer_norm_eps", 0),
]


@pytest.mark.parametrize(("cls", "name", "value"), ABSURD, ids=range(len(ABSURD)))
def test_absurd_value_is_refused_at_once_in_a_short_sentence(cls: Any, name: str, value: object) -> None:
    message = rf" has {name} = .* which is not supported: it must be|: {name}(\[\d+\])* (must be .*; got|is too large)"
    with pytest.raises(ConfigError, match=message) as caught:
        cls.from_dict({**SMALL[cls], name: value})
    assert len(str(caught.value)) < 300


def test_a_value_of_another_type_is_said_once_with_its_place_in_the_list() -> None:
    levels = [32, "64", 64, 64]
    with pytest.raises(ConfigError) as caught:
        UNetConfig.from_dict({**SMALL[UNetConfig], "block_out_channels": levels}, "unet/config.json")
    expected = 'unet/config.json: UNet2DConditionModel: block_out_channels[1] must be an integer; got "64"'
    assert str(caught.value) == expected


@pytest.mark.slow
def test_the_deepest_unet_that_passes_is_laid_out_in_seconds() -> None:
    """Without its weights: what opening a checkpoint does before it looks at the weights' shapes."""
    from ldm_export.models import UNet2DConditionModel

    depth = MAX_BLOCKS // 20 - 1
    widest = {"block_out_channels": (MAX_WIDTH,) * 4, "cross_attention_dim": MAX_WIDTH}
    config = UNetConfig(layers_per_block=2, transformer_layers_per_block=depth, **widest)
    start = time.process_time()
    with torch.device("meta"):
        count = sum(value.numel() for value in UNet2DConditionModel(config).parameters())
    assert time.process_time() - start < 60  # 2 s on a quiet machine
    assert 10**12 < count < 2**62


@pytest.mark.parametrize("cls", ORACLES)
@pytest.mark.parametrize("data", [None, [], "text", {}, {"_class_name": "VQModel"}, {"model_type": "bert"}])
def test_another_models_config_is_refused(cls: Any, data: object) -> None:
    with pytest.raises(
        ConfigError, match=r"^unet/config\.json (is not a JSON object|has _class_name|is for model_type)"
    ):
        cls.from_dict(data, "unet/config.json")


def test_text_encoder_with_projection_is_refused() -> None:
    data = {**SMALL[TextEncoderConfig], "architectures": ["CLIPTextModelWithProjection"]}
    with pytest.raises(ConfigError, match="CLIPTextModelWithProjection"):
        TextEncoderConfig.from_dict(data)


def test_file_is_named_in_errors() -> None:
    with pytest.raises(ConfigError, match=r"^model/vae/config\.json: AutoencoderKL has latent_channels = 0"):
        VAEConfig.from_dict({**SMALL[VAEConfig], "latent_channels": 0}, "model/vae/config.json")


def test_construction_checks_too() -> None:
    with pytest.raises(ConfigError, match="layers_per_block"):
        VAEConfig(layers_per_block=0)


def test_configs_are_frozen() -> None:
    config: StrictConfig = VAEConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.latent_channels = 8  # type: ignore[misc]


@pytest.mark.parametrize(("levels", "downsample"), [(1, 1), (2, 2), (4, 8)])
def test_downsample_follows_from_levels(levels: int, downsample: int) -> None:
    config = VAEConfig(
        block_out_channels=(32,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )
    assert config.downsample == downsample
