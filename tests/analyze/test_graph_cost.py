"""The cost of networks whose work and memory can be counted by hand."""

import pytest
import torch
from torch import nn

from ldm_export.analyze.graph_cost import Cost, count_cost
from ldm_export.models.layers import Attention


def on_meta(make: type[nn.Module] | object, *arguments: object, **options: object) -> nn.Module:
    with torch.device("meta"):
        return make(*arguments, **options)  # type: ignore[operator]


def test_convolutions_and_their_activations() -> None:
    network = on_meta(lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 4, 1)))
    cost = count_cost(network, (2, 3, 16, 12))
    cells = 2 * 16 * 12
    assert cost.macs == {"convolution": cells * (3 * 9 * 8 + 8 * 4), "attention": 0, "linear": 0}
    assert cost.parameters == 3 * 9 * 8 + 8 + 8 * 4 + 4
    assert cost.peak == 2 * 8 * cells * 4  # a convolution's result, and that of the activation after it


def test_attention_is_one_operator_beside_its_projections() -> None:
    cost = count_cost(on_meta(Attention, 32, heads=4), (2, 100, 32))
    assert cost.macs["linear"] == 4 * 2 * 100 * 32 * 32
    assert cost.macs["attention"] == 2 * 2 * 100 * 100 * 32
    assert cost.matrix == 2 * 4 * 100 * 100 * 4
    assert cost.peak < 2 * 4 * 100 * 100 * 4, "the matrix of attention is not held"


@pytest.mark.parametrize(("kind", "power"), [("linear", 1), ("attention", 2)])
def test_how_work_grows_with_tokens(kind: str, power: int) -> None:
    attention = on_meta(Attention, 32, heads=4)
    small, large = (count_cost(attention, (1, tokens, 32)) for tokens in (64, 256))
    assert large.macs[kind] == small.macs[kind] * 4**power


def test_what_is_freed_does_not_count() -> None:
    def peak(layers: int) -> int:
        return count_cost(
            on_meta(lambda: nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(layers)))), (1, 4, 8, 8)
        ).peak

    assert peak(2) == peak(20)


def test_weights_are_no_activations() -> None:
    cost = count_cost(on_meta(nn.Linear, 1000, 10), (1, 1000))
    assert cost == Cost({"convolution": 0, "attention": 0, "linear": 10_000}, 10_010, 40, 0)
