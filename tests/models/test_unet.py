"""Our UNet is diffusers' UNet2DConditionModel, number for number, in every configuration that it accepts."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ldm_export.configs.unet import UNetConfig
from ldm_export.models import UNet2DConditionModel
from ldm_export.models.layers import Attention
from ldm_export.models.unet import timestep_embedding
from tests.oracles import blind_parameters, relative_rms, saved_config, seeded, tiny_unet

pytestmark = pytest.mark.slow

TOLERANCE = 1e-6
ATTENTION, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
UP_ATTENTION, UP_PLAIN = "CrossAttnUpBlock2D", "UpBlock2D"

# What differs from the tiny SD 1.5 configuration.
VARIATIONS: dict[str, dict[str, Any]] = {
    "sd15": {},
    "linear projections": {"use_linear_projection": True},
    "one level": {
        "block_out_channels": (16,),
        "down_block_types": (ATTENTION,),
        "up_block_types": (UP_ATTENTION,),
    },
    "four levels, two blocks each": {
        "block_out_channels": (8, 16, 24, 24),
        "layers_per_block": 2,
        "down_block_types": (ATTENTION, ATTENTION, ATTENTION, PLAIN),
        "up_block_types": (UP_PLAIN, UP_ATTENTION, UP_ATTENTION, UP_ATTENTION),
    },
    "blocks differ by level": {
        "block_out_channels": (8, 16, 24),
        "layers_per_block": (1, 3, 2),
        "transformer_layers_per_block": (2, 1, 3),
        "attention_head_dim": (1, 4, 3),
        "down_block_types": (ATTENTION, PLAIN, ATTENTION),
        "up_block_types": (UP_ATTENTION, UP_PLAIN, UP_ATTENTION),
    },
    "widths that fall": {"block_out_channels": (32, 16)},
    "one head": {"attention_head_dim": 1},
    "a head per channel": {"attention_head_dim": 16},
    "no attention but in the middle": {
        "down_block_types": (PLAIN, PLAIN),
        "up_block_types": (UP_PLAIN, UP_PLAIN),
    },
    "no middle": {"mid_block_type": None},
    "a middle of one residual block": {"mid_block_type": "UNetMidBlock2D"},
    "transformers without blocks": {"transformer_layers_per_block": (0, 1)},
    "another way up": {
        "layers_per_block": 2,
        "transformer_layers_per_block": [[2, 1], 1],
        "reverse_transformer_layers_per_block": [1, [1, 0, 3]],
    },
    "sines first, shifted": {"flip_sin_to_cos": False, "freq_shift": 1},
    "another epsilon": {"norm_eps": 1e-2},
    "another number of groups": {"norm_num_groups": 16},
    "other channels in and out": {"in_channels": 9, "out_channels": 8},
    "upcast attention": {"upcast_attention": True},
    "embedded guidance": {"time_cond_proj_dim": 10},
    "cross-attention only": {"only_cross_attention": True},
    "cross-attention only at one level": {
        "only_cross_attention": (True, False),
        "mid_block_type": None,
        "down_block_types": (ATTENTION, ATTENTION),
        "up_block_types": (UP_ATTENTION, UP_ATTENTION),
    },
}


def build(kind: str = "sd15", **changes: Any) -> tuple[nn.Module, UNet2DConditionModel]:
    """The oracle with random weights, and ours with the same tensors in the same memory."""
    oracle = tiny_unet(kind, **changes)
    ours = UNet2DConditionModel(UNetConfig.from_dict(saved_config(oracle)))
    ours.load_state_dict(oracle.state_dict(), strict=True, assign=True)
    return oracle, ours.eval()


def inputs(model: UNet2DConditionModel, *, batch: int = 2, height: int = 16, width: int = 16, tokens: int = 7):
    config = model.config
    sample = seeded(batch, config.in_channels, height, width, seed=1)
    return sample, torch.tensor(421.0), seeded(batch, tokens, config.cross_attention_dim, seed=2)


@torch.no_grad()
def difference(oracle: nn.Module, ours: UNet2DConditionModel, sample: Tensor, timestep: Tensor, text: Tensor) -> float:
    width = ours.config.time_cond_proj_dim
    guidance = None if width is None else seeded(len(sample), width, seed=3)
    theirs = oracle(sample, timestep, text, timestep_cond=guidance).sample
    return relative_rms(ours(sample, timestep, text, timestep_cond=guidance), theirs)


@pytest.mark.parametrize("name", VARIATIONS)
def test_output_is_diffusers(name: str) -> None:
    oracle, ours = build(**VARIATIONS[name])
    assert difference(oracle, ours, *inputs(ours)) <= TOLERANCE
    assert difference(oracle, ours, *inputs(ours, batch=1, height=9, width=6, tokens=1)) <= TOLERANCE


def test_output_is_diffusers_in_sd21() -> None:
    oracle, ours = build("sd21")
    assert difference(oracle, ours, *inputs(ours)) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd15", "four levels, two blocks each"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 13), (2, 3), (7, 9), (8, 11), (17, 16)])
def test_odd_sizes_work(name: str, height: int, width: int) -> None:
    oracle, ours = build(**VARIATIONS[name])
    assert difference(oracle, ours, *inputs(ours, height=height, width=width)) <= TOLERANCE


@pytest.mark.parametrize(
    "timestep",
    [
        torch.tensor(0.0),
        torch.tensor(999),
        torch.tensor(17.375),
        torch.tensor([3.5]),
        torch.tensor([0.25, 998.75]),
    ],
)
def test_timestep_may_be_fractional_and_per_image(timestep: Tensor) -> None:
    oracle, ours = build()
    sample, _, text = inputs(ours)
    assert difference(oracle, ours, sample, timestep, text) <= TOLERANCE


def test_batch_is_its_images() -> None:
    _, ours = build()
    sample, timestep, text = inputs(ours, batch=3)
    with torch.no_grad():
        batch = ours(sample, timestep, text)
        singles = [ours(sample[i : i + 1], timestep, text[i : i + 1]) for i in range(3)]
    assert relative_rms(batch, torch.cat(singles)) <= TOLERANCE


@pytest.mark.parametrize("name", VARIATIONS)
def test_parameters_are_diffusers(name: str) -> None:
    oracle = tiny_unet(**VARIATIONS[name])
    ours = UNet2DConditionModel(UNetConfig.from_dict(saved_config(oracle)))
    wanted = {key: value.shape for key, value in oracle.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == wanted


@pytest.mark.slow
def test_every_tensor_counts() -> None:
    """Changing any parameter by 1 % moves the output far past the tolerance: nothing agrees by accident."""
    _, ours = build("sd21")
    arguments = inputs(ours, batch=1, height=6, width=5)
    assert blind_parameters(ours, lambda: ours(*arguments), 10 * TOLERANCE) == []


@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_input_counts(which: int) -> None:
    _, ours = build()
    before = inputs(ours)
    after = list(before)
    after[which] = before[which] * 1.01
    with torch.no_grad():
        assert relative_rms(ours(*after), ours(*before)) > 100 * TOLERANCE


def test_every_token_counts() -> None:
    _, ours = build()
    sample, timestep, text = inputs(ours)
    with torch.no_grad():
        before = ours(sample, timestep, text)
        for token in range(text.shape[1]):
            changed = text.clone()
            changed[:, token] *= 1.1
            assert relative_rms(ours(sample, timestep, changed), before) > 100 * TOLERANCE


def test_gradient_checkpointing_changes_no_gradient() -> None:
    _, ours = build()
    arguments = inputs(ours)
    gradients = []
    for ours.gradient_checkpointing in (False, True):
        ours.zero_grad()
        ours(*arguments).square().mean().backward()
        gradients.append({name: value.grad.clone() for name, value in ours.named_parameters()})
    assert all(relative_rms(gradients[1][name], value) <= TOLERANCE for name, value in gradients[0].items())


def test_gradient_reaches_every_parameter() -> None:
    _, ours = build("sd21")
    ours(*inputs(ours)).square().mean().backward()
    assert [name for name, value in ours.named_parameters() if not value.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("upcast", [True, False])
def test_upcast_attention_is_float32_inside(upcast: bool) -> None:
    layer = Attention(16, heads=4, upcast=upcast).to(torch.bfloat16)
    seen = []
    original = torch.nn.functional.scaled_dot_product_attention
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.nn.functional,
            "scaled_dot_product_attention",
            lambda *arguments: seen.append(arguments[0].dtype) or original(*arguments),
        )
        assert layer(seeded(1, 5, 16).bfloat16()).dtype == torch.bfloat16
    assert seen == [torch.float32 if upcast else torch.bfloat16]


def test_timestep_embedding_is_the_papers() -> None:
    """Against the formula in float64, at the first and last frequency."""
    got = timestep_embedding(torch.tensor([250.5]), 8, flip_sin_to_cos=True, freq_shift=0).double()
    angles = 250.5 * 10000.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    assert torch.allclose(got, torch.cat([angles.cos(), angles.sin()])[None], atol=2e-5)
