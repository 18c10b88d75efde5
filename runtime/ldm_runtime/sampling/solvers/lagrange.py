"""Lagrange's interpolating polynomials, which multistep solvers integrate."""

from collections.abc import Sequence


def lagrange(nodes: Sequence[float], chosen: int, origin: float = 0.0) -> list[float]:
    """Return the polynomial in (t - origin) that is 1 at nodes[chosen] and 0 at the others, constant term first."""
    coefficients = [1.0]
    for index, node in enumerate(nodes):
        if index != chosen:
            scale = nodes[chosen] - node
            coefficients = [
                (lower + (origin - node) * same) / scale
                for lower, same in zip([0.0, *coefficients], [*coefficients, 0.0], strict=True)
            ]
    return coefficients
