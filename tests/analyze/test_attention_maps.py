"""Attention whose shares are known: one token for each place, all tokens alike, and what the layer itself computes."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ldm_export.analyze.attention_maps import attention_shares, entropy_of, grouped, recorded
from ldm_export.models.layers import Attention, Transformer2DModel

TOKENS = 8
SIZE = (2, 4)  # one place for each token


def identity_attention(scale: float) -> Attention:
    """Attention whose queries and keys are its inputs; orthogonal ones, times a scale, meet one another alone."""
    attention = Attention(TOKENS, heads=1, context_channels=TOKENS)
    with torch.no_grad():
        for layer in (attention.to_q, attention.to_k, attention.to_v):
            layer.weight.copy_(scale * torch.eye(TOKENS))
    return attention


def test_orthogonal_keys_give_one_token_to_each_place() -> None:
    context = torch.eye(TOKENS)[None]
    shares = attention_shares(identity_attention(30.0), context, context)
    assert torch.allclose(shares[0, 0], torch.eye(TOKENS), atol=1e-6)
    assert entropy_of(shares).max() < 1e-4


def test_shuffled_tokens_are_seen() -> None:
    order = torch.tensor([3, 1, 2, 0, 7, 5, 6, 4])
    context = torch.eye(TOKENS)[None]
    shares = attention_shares(identity_attention(30.0), context, context[:, order])
    assert torch.equal(shares[0, 0].argmax(dim=1), order.argsort())
    assert not torch.allclose(shares[0, 0], torch.eye(TOKENS), atol=0.5)


def test_equal_keys_give_every_token_the_same() -> None:
    context = torch.eye(TOKENS)[None]
    shares = attention_shares(identity_attention(0.0), context, context)
    assert torch.allclose(entropy_of(shares), torch.full((1, 1, TOKENS), math.log(TOKENS)), atol=1e-5)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        options = {"layers": 1, "heads": 2, "context_channels": 6, "groups": 2, "linear_projection": True}
        self.fine, self.coarse = (Transformer2DModel(8, upcast=False, **options) for _ in range(2))  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.coarse(nn.functional.avg_pool2d(self.fine(x, context), 2), context)


def test_what_is_recorded_is_what_the_layers_compute() -> None:
    network, x, context = Network().eval(), torch.randn(3, 8, 4, 6), torch.randn(3, 5, 6)
    outputs = []
    attention = network.fine.transformer_blocks[0].attn2
    attention.register_forward_hook(lambda module, given, result: outputs.append((given[0], result)))
    with torch.no_grad(), recorded(network) as recorder:
        network(x, context)
    maps = recorder.take()
    assert list(maps) == [(4, 6), (2, 3)] and recorder.take() == {}
    assert [(layer.size, layer.tokens) for layer in recorder.layers] == [((4, 6), 5), ((2, 3), 5)]
    ((given, result),) = outputs
    shares = attention_shares(attention, given, context)
    with torch.no_grad():
        values = attention.to_v(context).unflatten(2, (2, -1)).transpose(1, 2)
        again = attention.to_out[0]((shares @ values).transpose(1, 2).flatten(2))
    assert torch.allclose(again, result, atol=1e-5)
    fine = maps[4, 6]
    assert fine.shares.shape == (3, 4, 6, 5) and np.allclose(fine.shares.sum(axis=-1), 1, atol=1e-5)
    assert np.allclose(fine.shares.reshape(3, 24, 5), shares.mean(dim=1).numpy(), atol=1e-6)
    network(x, context)
    assert recorder.take() == {}, "hooks are gone"


def test_groups_of_tokens() -> None:
    network = Network().eval()
    with torch.no_grad(), recorded(network) as recorder:
        network(torch.randn(2, 8, 4, 6), torch.randn(2, 5, 6))
    maps = recorder.take()[4, 6]
    found = grouped(maps.of(1), {"a": [0, 3], "b": [1, 2, 4]})
    assert found.shape == (3, 4, 6)
    assert found[0] == pytest.approx(maps.shares[1][..., [0, 3]].sum(axis=-1))
    assert found[:2].sum(axis=0) == pytest.approx(np.ones((4, 6)), abs=1e-5)
    assert found[2].max() <= math.log(5) + 1e-5
