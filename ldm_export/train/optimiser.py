"""The optimiser of a training stage: AdamW, and Muon for the weight matrices where the recipe sets its rate.

AdamW after Loshchilov and Hutter 2019 (arXiv 1711.05101). Muon (Jordan et al. 2024, torch.optim.Muon) moves a matrix
along its orthogonalised momentum, so that directions of small gradients are learnt as fast as those of large ones. An
autoencoder needs that: behind its group norms, with AdamW, colours take thousands of steps longer than brightness.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ldm_export.recipes.train import OptimiserRecipe

MATRICES = (nn.Conv2d, nn.Linear)  # layers whose weight Muon takes; embeddings, norms and biases are AdamW's


class Optimiser:
    """The optimiser of all parameters of some modules, which must not be moved or reallocated afterwards."""

    def __init__(self, modules: Iterable[nn.Module], recipe: OptimiserRecipe) -> None:
        self.recipe = recipe
        modules = list(modules)
        weights = [layer.weight for module in modules for layer in module.modules() if isinstance(layer, MATRICES)]
        self.weights = weights if recipe.muon_rate > 0 else []
        self.matrices = [nn.Parameter(as_matrix(weight.detach(), weight)) for weight in self.weights]
        matrices = {id(weight) for weight in self.weights}
        rest = [p for module in modules for p in module.parameters() if id(p) not in matrices]
        decay = recipe.weight_decay
        self.adamw = torch.optim.AdamW(
            rest, lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=decay, foreach=True
        )
        self.muon = torch.optim.Muon(self.matrices, recipe.muon_rate, decay) if self.matrices else None

    def zero_grad(self) -> None:
        self.adamw.zero_grad(set_to_none=True)
        for weight in self.weights:
            weight.grad = None

    def step(self, factor: float) -> None:
        """Update the parameters by their gradients, at `factor` x the recipe's peak rates."""
        for group in self.adamw.param_groups:
            group["lr"] = factor * self.recipe.learning_rate
        self.adamw.step()
        if self.muon is None:
            return
        for group in self.muon.param_groups:
            group["lr"] = factor * self.recipe.muon_rate
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            matrix.grad = None if weight.grad is None else as_matrix(weight.grad, weight)
        self.muon.step()

    def state_dict(self) -> dict[str, Any]:
        return {"adamw": self.adamw.state_dict(), "muon": None if self.muon is None else self.muon.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adamw.load_state_dict(state["adamw"])
        if self.muon is not None:
            self.muon.load_state_dict(state["muon"])


def as_matrix(values: Tensor, weight: Tensor) -> Tensor:
    """Reshape `values` of a weight's shape (out, ...) to (out, rest), columns in the order of the weight's memory.

    The weight itself becomes a view. A convolution that is channels last becomes (out, height x width x in).
    """
    channels_last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return (values.permute(0, 2, 3, 1) if channels_last else values).flatten(1)
