"""Our text encoder is transformers' CLIPTextModel, number for number."""

from typing import Any

import pytest
import torch
from torch import nn

from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.models import CLIPTextModel
from tests.oracles import blind_parameters, relative_rms, saved_config, tiny_text_encoder, tiny_vocabulary

TOLERANCE = 1e-6
VOCABULARY = len(tiny_vocabulary()[0])
END = VOCABULARY - 1  # the highest id, as in CLIP

VARIATIONS: dict[str, dict[str, Any]] = {
    "sd15": {},
    "GELU": {"hidden_act": "gelu"},
    "one layer": {"num_hidden_layers": 1},
    "one head": {"num_attention_heads": 1},
    "another epsilon": {"layer_norm_eps": 1e-2},
    "a short window": {"max_position_embeddings": 16},
    "end of text by id": {"eos_token_id": END},
}


def build(kind: str = "sd15", **changes: Any) -> tuple[nn.Module, CLIPTextModel]:
    """The oracle with random weights, and ours with the same tensors in the same memory."""
    oracle = tiny_text_encoder(kind, **changes)
    ours = CLIPTextModel(TextEncoderConfig.from_dict(saved_config(oracle)))
    ours.load_state_dict(oracle.state_dict(), strict=True, assign=True)
    return oracle, ours.eval()


def prompts(*lengths: int, tokens: int = 16) -> torch.Tensor:
    """One row per prompt: begin, `length` words, end, and then ends as padding."""
    ids = torch.full((len(lengths), tokens), END)
    ids[:, 0] = END - 1
    for row, length in enumerate(lengths):
        words = torch.randint(0, VOCABULARY - 2, (length,), generator=torch.Generator().manual_seed(row))
        ids[row, 1 : 1 + length] = words
    return ids


@torch.no_grad()
def difference(oracle: nn.Module, ours: nn.Module, ids: torch.Tensor) -> float:
    """Of the two outputs, the larger."""
    wanted = oracle(input_ids=ids)
    hidden, pooled = ours(ids)
    return max(relative_rms(hidden, wanted.last_hidden_state), relative_rms(pooled, wanted.pooler_output))


@pytest.mark.parametrize("name", VARIATIONS)
def test_output_is_transformers(name: str) -> None:
    oracle, ours = build(**VARIATIONS[name])
    assert difference(oracle, ours, prompts(3, 0, 14)) <= TOLERANCE
    assert difference(oracle, ours, prompts(1, tokens=5)) <= TOLERANCE


def test_output_is_transformers_in_sd21() -> None:
    """SD 2.x takes the last layer but one of OpenCLIP-H, *with* the final norm: a model of one layer less."""
    oracle, ours = build("sd21", num_hidden_layers=4)
    ids = prompts(5, 11, tokens=77)
    with torch.no_grad():
        penultimate = oracle(input_ids=ids, output_hidden_states=True).hidden_states[-2]
        wanted = oracle.text_model.final_layer_norm(penultimate)
    config = TextEncoderConfig.from_dict({**ours.config.to_dict(), "num_hidden_layers": 3})
    shorter = CLIPTextModel(config)
    state = {name: value for name, value in ours.state_dict().items() if ".layers.3." not in name}
    shorter.load_state_dict(state, strict=True)
    assert difference(oracle, ours, ids) <= TOLERANCE
    assert relative_rms(shorter(ids)[0], wanted) <= TOLERANCE
    assert relative_rms(ours(ids)[0], wanted) > 100 * TOLERANCE


@pytest.mark.parametrize("tokens", [1, 2, 76, 77])
def test_any_token_count_up_to_the_window_works(tokens: int) -> None:
    oracle, ours = build()
    ids = torch.randint(0, VOCABULARY, (2, tokens), generator=torch.Generator().manual_seed(tokens))
    assert difference(oracle, ours, ids) <= TOLERANCE


def test_more_tokens_than_the_window_are_refused() -> None:
    _, ours = build(max_position_embeddings=16)
    with pytest.raises(RuntimeError, match="must match"):
        ours(prompts(3, tokens=17))


@pytest.mark.parametrize("eos_token_id", [2, END])
def test_pooled_output_is_the_first_end_of_text(eos_token_id: int) -> None:
    _, ours = build(eos_token_id=eos_token_id)
    hidden, pooled = ours(prompts(3, 0, 14))
    assert torch.equal(pooled, hidden[torch.arange(3), torch.tensor([4, 1, 15])])


def test_legacy_end_of_text_is_the_highest_id_not_two() -> None:
    """A prompt that holds id 2 is not pooled there, and another end than the highest id is not missed."""
    ids = prompts(6)
    ids[0, 2] = 2
    _, legacy = build(eos_token_id=2)
    hidden, pooled = legacy(ids)
    assert torch.equal(pooled[0], hidden[0, 7])
    _, given = build(eos_token_id=3)
    ids[0, 2] = 3
    hidden, pooled = given(ids)
    assert torch.equal(pooled[0], hidden[0, 2])


@pytest.mark.parametrize("name", VARIATIONS)
def test_parameters_are_transformers(name: str) -> None:
    oracle, ours = build(**VARIATIONS[name])
    wanted = {key: value.shape for key, value in oracle.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == wanted


def test_later_tokens_do_not_change_earlier_ones() -> None:
    _, ours = build()
    before = prompts(8)
    after = before.clone()
    after[0, 6] = 17
    hidden = [ours(ids)[0][0] for ids in (before, after)]
    assert relative_rms(hidden[0][:6], hidden[1][:6]) <= TOLERANCE
    assert relative_rms(hidden[0][6:], hidden[1][6:]) > 100 * TOLERANCE


def test_every_tensor_counts() -> None:
    """Changing any parameter by 1 % moves the output far past the tolerance: nothing agrees by accident.

    The keys' biases are the exception that attention's mathematics makes: they add the same number to all
    logits of a query, and softmax does not see it.
    """
    _, ours = build("sd21")
    ids = prompts(3, 9)
    blind = blind_parameters(ours, lambda: ours(ids)[0], 10 * TOLERANCE)
    assert blind == [f"text_model.encoder.layers.{layer}.self_attn.k_proj.bias" for layer in range(3)]


def test_every_token_counts() -> None:
    _, ours = build()
    before = prompts(14)
    for position in range(16):
        after = before.clone()
        after[0, position] = 5
        assert relative_rms(ours(after)[0], ours(before)[0]) > 100 * TOLERANCE


def test_untrained_model_gives_tokens_of_order_one_that_differ() -> None:
    torch.manual_seed(0)
    hidden, _ = CLIPTextModel(TextEncoderConfig(vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=4))(
        prompts(5, 12)
    )
    assert 0.5 < hidden.std() < 2.0
    assert (hidden[0] - hidden[1]).std() > 0.1
