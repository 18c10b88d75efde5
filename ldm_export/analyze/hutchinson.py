"""The size of a function's Jacobian by random directions, without making it (Hutchinson 1990)."""

from collections.abc import Callable

import torch
from torch import Tensor


def column_energies(
    function: Callable[[Tensor], Tensor], at: Tensor, probes: int, generator: torch.Generator
) -> Tensor:
    """Estimate the squared norm of each column of each sample's Jacobian: like `at`, (B, …), in float64.

    Samples must not see one another. A probe v is a vector of random signs (Rademacher) in the space of outputs: the
    expectation of (Jᵀv)² is the sum of a column's squares, and the sum over columns the squared Frobenius norm of J.
    """
    outputs, backward, *_ = torch.func.vjp(function, at)
    found = torch.zeros_like(at, dtype=torch.float64)
    for _ in range(probes):
        signs = torch.randint(0, 2, outputs.shape, generator=generator).to(outputs.dtype) * 2 - 1
        found += backward(signs)[0].double().square() / probes
    return found
