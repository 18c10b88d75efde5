"""What a derivative of a network takes: its work and its memory, counted without computing it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ldm_runtime.memory import available_memory

MORE = 1.25  # than what is kept for the way back: what is computed on it


@dataclass(frozen=True)
class Work:
    """One evaluation. macs: multiply-accumulates. kept: bytes for going back."""

    macs: int
    kept: int

    @property
    def memory(self) -> int:
        """Return about how many bytes a derivative needs, going back from the outputs."""
        return int(MORE * self.kept)


def count_work(function: Callable[[Tensor], Tensor], shape: Sequence[int]) -> Work:
    """Count the work of a function of a tensor of this shape from shapes alone: it takes no memory to speak of.

    Weights that derivatives read count as kept too. Raises what torch raises for a function that needs values.
    """
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage  # held, so that no other takes its place
        return tensor

    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        function(torch.zeros(*shape, requires_grad=True))
    macs = int(counter.get_total_flops()) // 2  # torch counts both of their operations
    return Work(macs, sum(each.nbytes() for each in storages.values()))


def lacking_memory(work: Work) -> str:
    """Return what is said where a derivative does not fit into the memory that is left; empty where it does."""
    left = available_memory()
    if left is None or work.memory <= left:
        return ""
    return (
        f"It needs about {work.memory / 1e9:.1f} GB of memory, and {left / 1e9:.1f} GB are left: free some, or use a "
        "larger machine."
    )
