"""Models whose weights stay on disk: those of a block are read when it runs, and dropped when it has run.

A *block* is a module that is called as a whole and whose own modules have none themselves: an attention, a residual
block, a text encoder's embeddings. So a model needs the memory of its largest block and of its activations.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ldm_export.checkpoint.stored import StoredTensor, Tensors
from ldm_export.checkpoint.tensors import read_tensor


@dataclass(frozen=True)
class _Weight:
    """A parameter: where it is in the model, and where on disk."""

    owner: nn.Module
    name: str  # in `owner`
    stored: StoredTensor

    def load(self) -> None:
        """Read it as the model's `load` does, float32 at the most, then in the precision that the model now has."""
        value = read_tensor(self.stored)
        value = value.float() if value.dtype == torch.float64 else value
        self._put(_converted(value, getattr(self.owner, self.name).dtype))

    def drop(self) -> None:
        self._put(torch.empty_like(getattr(self.owner, self.name), device="meta"))

    def _put(self, value: torch.Tensor) -> None:
        self.owner.register_parameter(self.name, nn.Parameter(value, requires_grad=False))


def stream(model: nn.Module, tensors: Tensors) -> nn.Module:
    """Let `model`, which is on the meta device, read its weights as its blocks run; it is in eval mode then.

    They come in the precision that the model has at that time, as `float()` and `double()` set it. A forward that reads
    a weight outside of the block that it belongs to fails: torch does not compute with what has no memory.
    """
    for prefix, block, names in _blocks(model):
        weights = []
        for name in names:
            owner, _, own = name.rpartition(".")
            weights.append(_Weight(block.get_submodule(owner), own, tensors[prefix + name]))
        _surround(block, weights)
    return model.eval()


def largest_block(model: nn.Module) -> int:
    """Return the number of weights of the block with most of them."""
    return max(sum(block.get_parameter(name).numel() for name in names) for _, block, names in _blocks(model))


def _converted(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the values as `dtype`, in memory of numpy's: it asks the system for huge pages, which are there sooner."""
    if value.dtype == dtype:
        return value
    memory = np.empty(value.shape, np.float64 if dtype == torch.float64 else np.float32)
    return torch.from_numpy(memory).copy_(value)


def _surround(block: nn.Module, weights: list[_Weight]) -> None:
    def load(*_: object) -> None:
        for weight in weights:
            weight.load()

    def drop(*_: object) -> None:
        for weight in weights:
            weight.drop()

    block.register_forward_pre_hook(load)
    block.register_forward_hook(drop, always_call=True)


def _blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module, list[str]]]:
    """Yield the beginning of its weights' names, a module, and the names in it of what is read for its call.

    Weights that stand beside blocks, in no module of their own, are read for the call of what holds both.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) or (name and not _has_blocks(_parent(model, name))):
            continue
        names = [weight for weight, _ in module.named_parameters(recurse=not _has_blocks(module))]
        if names:
            yield f"{name}." if name else "", module, names


def _parent(model: nn.Module, name: str) -> nn.Module:
    """Return the module that a module of this name is in, lists of modules apart."""
    parent = model.get_submodule(name.rpartition(".")[0])
    return _parent(model, name.rpartition(".")[0]) if isinstance(parent, nn.ModuleList) else parent


def _has_blocks(module: nn.Module) -> bool:
    """Tell whether a module's own modules have modules themselves; lists of modules are looked through."""
    return any(any(True for _ in _children(child)) for child in _children(module))


def _children(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from _children(child)
        else:
            yield child
