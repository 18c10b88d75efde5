"""The cost of networks whose work and memory can be counted by hand."""

import pytest
import torch
from torch import nn

from ldm_export.analyze.graph_cost import CROSS, KINDS, SELF, Cost, count_cost
from ldm_export.models.layers import Attention

NONE = dict.fromkeys(KINDS, 0)


def on_meta(make: type[nn.Module] | object, *arguments: object, **options: object) -> nn.Module:
    with torch.device("meta"):
        return make(*arguments, **options)  # type: ignore[operator]


def test_convolutions_and_their_activations() -> None:
    network = on_meta(lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 4, 1)))
    cost = count_cost(network, (2, 3, 16, 12))
    cells = 2 * 16 * 12
    assert cost.macs == {**NONE, "convolution": cells * (3 * 9 * 8 + 8 * 4)} and cost.fixed == NONE
    assert cost.parameters == 3 * 9 * 8 + 8 + 8 * 4 + 4
    assert cost.peak == 2 * 8 * cells * 4  # a convolution's result, and that of the activation after it


def test_attention_is_one_operator_beside_its_projections() -> None:
    cost = count_cost(on_meta(Attention, 32, heads=4), (2, 100, 32))
    assert cost.macs["linear"] == 4 * 2 * 100 * 32 * 32
    assert cost.macs[SELF] == 2 * 2 * 100 * 100 * 32 and cost.macs[CROSS] == 0
    assert cost.matrix == 2 * 4 * 100 * 100 * 4
    assert cost.peak < 2 * 4 * 100 * 100 * 4, "the matrix of attention is not held"


@pytest.mark.parametrize(("kind", "power"), [("linear", 1), (SELF, 2)])
def test_how_work_grows_with_tokens(kind: str, power: int) -> None:
    attention = on_meta(Attention, 32, heads=4)
    small, large = (count_cost(attention, (1, tokens, 32)) for tokens in (64, 256))
    assert large.macs[kind] == small.macs[kind] * 4**power


def test_cross_attention_grows_with_the_places_and_with_the_tokens() -> None:
    attention = on_meta(Attention, 32, heads=4, context_channels=24)
    usual = count_cost(attention, (1, 64, 32), (1, 7, 24), fixed=[1])
    assert usual.macs[CROSS] == 2 * 64 * 7 * 32 and usual.macs[SELF] == 0
    places = count_cost(attention, (1, 256, 32), (1, 7, 24), fixed=[1])
    tokens = count_cost(attention, (1, 64, 32), (1, 28, 24), fixed=[1])
    assert places.macs[CROSS] == tokens.macs[CROSS] == 4 * usual.macs[CROSS]


def test_as_many_tokens_as_places_make_it_no_self_attention() -> None:
    attention = on_meta(Attention, 32, heads=4)
    crossed = count_cost(attention, (1, 64, 32), (1, 64, 32), fixed=[1])
    assert (crossed.macs[SELF], crossed.macs[CROSS]) == (0, 2 * 64 * 64 * 32)
    assert count_cost(attention, (1, 64, 32)).macs[SELF] == crossed.macs[CROSS]


def test_what_is_made_of_the_text_alone_is_fixed() -> None:
    cost = count_cost(on_meta(Attention, 32, heads=4, context_channels=24), (1, 64, 32), (1, 7, 24), fixed=[1])
    assert cost.fixed == {**NONE, "linear": 2 * 7 * 24 * 32}
    assert cost.macs["linear"] == cost.fixed["linear"] + 2 * 64 * 32 * 32


def test_all_of_a_text_encoder_is_fixed_its_attention_too() -> None:
    cost = count_cost(on_meta(Attention, 32, heads=4), (1, 7, 32), fixed=[0])
    assert cost.fixed == cost.macs and cost.macs[SELF] == 2 * 7 * 7 * 32


def test_what_an_evaluation_may_need_is_weights_activations_and_room_for_work() -> None:
    cost = Cost({**NONE, "linear": 1}, NONE, 1000, 300, 77)
    assert cost.memory == 4000 + 900


def test_what_is_freed_does_not_count() -> None:
    def peak(layers: int) -> int:
        return count_cost(
            on_meta(lambda: nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(layers)))), (1, 4, 8, 8)
        ).peak

    assert peak(2) == peak(20)


def test_weights_are_no_activations() -> None:
    cost = count_cost(on_meta(nn.Linear, 1000, 10), (1, 1000))
    assert cost == Cost({**NONE, "linear": 10_000}, NONE, 10_010, 40, 0)
