"""Muon for matrices and AdamW for the rest, on the parameters themselves."""

import copy

import pytest
import torch
from torch import nn

from ldm_export.recipes.train import OptimiserRecipe
from ldm_export.train.optimiser import Optimiser, as_matrix

RECIPE = OptimiserRecipe(steps=10, batch_size=2, learning_rate=1e-3, warmup_steps=1, weight_decay=0.1, muon_rate=0.02)


def model(channels_last=True):
    torch.manual_seed(0)
    convolutions = (nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 1))
    layers = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))
    return layers.to(memory_format=torch.channels_last) if channels_last else layers


def loss(layers):
    x = torch.randn(16, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    return (layers(x) - torch.randn(16, 5, generator=torch.Generator().manual_seed(2))).square().sum()


def orthogonalised(gradient):
    """U V^T of the singular value decomposition, which Newton and Schulz's iteration approximates."""
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    return u @ v


@pytest.mark.parametrize("channels_last", [False, True])
def test_matrices_move_along_the_orthogonalised_gradient(channels_last):
    layers = model(channels_last)
    optimiser = Optimiser([layers], RECIPE)
    before = layers[0].weight.detach().clone()
    loss(layers).backward()
    optimiser.step(0.5)
    moved = (layers[0].weight.detach() - before * (1 - 0.5 * 0.02 * 0.1)).flatten(1)
    expected = -0.5 * 0.02 * orthogonalised(layers[0].weight.grad.flatten(1))
    assert torch.nn.functional.cosine_similarity(moved.flatten(), expected.flatten(), dim=0) > 0.97
    assert 0.7 < moved.norm() / expected.norm() < 1.3


def test_the_order_of_columns_does_not_matter():
    plain, last = model(channels_last=False), model()
    for layers in (plain, last):
        optimiser = Optimiser([layers], RECIPE)
        for _ in range(3):
            optimiser.zero_grad()
            loss(layers).backward()
            optimiser.step(1.0)
    for one, other in zip(plain.parameters(), last.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3)  # Muon orthogonalises in bfloat16


def test_a_matrix_is_a_view_of_the_weight():
    weight = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    as_matrix(weight, weight).zero_()
    assert weight.abs().sum() == 0


def test_norms_and_biases_move_as_with_adamw_alone():
    layers = model()
    alone = copy.deepcopy(layers)
    ours = Optimiser([layers], RECIPE)
    adamw = torch.optim.AdamW(alone.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    for trained in (layers, alone):
        loss(trained).backward()
    ours.step(1.0)
    adamw.step()
    assert torch.equal(layers[1].weight, alone[1].weight) and torch.equal(layers[0].bias, alone[0].bias)
    assert not torch.equal(layers[0].weight, alone[0].weight)


def test_every_parameter_is_trained_by_one_of_the_two():
    layers = nn.Sequential(nn.Embedding(7, 4), model())
    optimiser = Optimiser([layers], RECIPE)
    adamw = [p for group in optimiser.adamw.param_groups for p in group["params"]]
    assert len(adamw) + len(optimiser.weights) == len(list(layers.parameters()))
    assert any(p is layers[0].weight for p in adamw)


def test_its_state_resumes_bit_for_bit():
    first, second = model(), model()
    optimisers = [Optimiser([layers], RECIPE) for layers in (first, second)]

    def train(layers, optimiser, steps):
        for _ in range(steps):
            optimiser.zero_grad()
            loss(layers).backward()
            optimiser.step(1.0)

    train(first, optimisers[0], 4)
    train(second, optimisers[1], 2)
    resumed = Optimiser([second], RECIPE)
    resumed.load_state_dict(optimisers[1].state_dict())
    train(second, resumed, 2)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
