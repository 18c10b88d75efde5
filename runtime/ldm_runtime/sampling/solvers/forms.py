"""Linear forms: weighted sums of what one row of a plan reads, so that a solver is written as in its paper."""

from collections.abc import Mapping, Sequence

Symbol = tuple[str, int]  # ("x", 0), ("history", slot), ("output", 0), ("clipped", 0), ("noise", plan row)


class Form:
    """A weighted sum of symbols; immutable. A weight that is exactly 0 is left out."""

    __slots__ = ("weights",)

    def __init__(self, weights: Mapping[Symbol, float]) -> None:
        self.weights = {symbol: weight for symbol, weight in weights.items() if weight != 0.0}

    def __add__(self, other: "Form") -> "Form":
        weights = dict(self.weights)
        for symbol, weight in other.weights.items():
            weights[symbol] = weights.get(symbol, 0.0) + weight
        return Form(weights)

    def __sub__(self, other: "Form") -> "Form":
        return self + other * -1.0

    def __mul__(self, factor: float) -> "Form":
        return Form({symbol: weight * factor for symbol, weight in self.weights.items()})

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "Form":
        return Form({symbol: weight / divisor for symbol, weight in self.weights.items()})

    def __repr__(self) -> str:
        return " ".join(f"{weight:+g}*{name}[{index}]" for (name, index), weight in self.weights.items()) or "0"


NOTHING = Form({})


def weighted_sum(weights: Sequence[float], forms: Sequence[Form]) -> Form:
    """Sum weight * form from left to right; both sequences are of one length."""
    return sum((weight * form for weight, form in zip(weights, forms, strict=True)), start=NOTHING)
