"""The size of Jacobians that are known."""

import pytest
import torch

from ldm_export.analyze.hutchinson import column_energies


def test_a_linear_map() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(30, 6, generator=generator)
    at = torch.randn(400, 6, generator=generator)
    found = column_energies(lambda z: z @ matrix.T, at, 10, generator)
    assert found.shape == at.shape
    assert found.mean(dim=0).numpy() == pytest.approx(matrix.square().sum(dim=0).numpy(), rel=0.12)
    assert float(found.sum(dim=1).mean()) == pytest.approx(float(matrix.square().sum()), rel=0.05)


def test_columns_that_do_not_overlap_are_exact_with_one_probe() -> None:
    scale = torch.tensor([2.0, 0.0, -3.0])
    found = column_energies(lambda z: z * scale, torch.ones(5, 3), 1, torch.Generator().manual_seed(1))
    assert found.tolist() == [[4.0, 0.0, 9.0]] * 5


def test_it_is_the_jacobian_at_the_sample() -> None:
    at = torch.tensor([[0.0], [2.0]])
    found = column_energies(lambda z: z**3, at, 1, torch.Generator())
    assert found.flatten().tolist() == [0.0, 144.0]
