"""The cost of a network, counted operator by operator from shapes alone: multiply-accumulates and live activations.

The network runs on torch's meta device, where tensors have shapes and no memory. The formulas of the operators are
torch's (`torch.utils.flop_counter`), which count two operations for a multiply-accumulate.
"""

import weakref
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

KINDS = ("convolution", "attention", "linear")


@dataclass(frozen=True)
class Cost:
    """The cost of one evaluation.

    macs: kind of operator -> multiply-accumulates. "attention" are the products of queries, keys and values alone,
    which grow with the square of the tokens; their projections are "linear", as are all other matrix products. peak:
    most bytes of activations in float32 that live at one moment, without weights and an operator's own work space:
    attention is one operator, which never holds the matrix of all weights (Rabe and Staats 2021, arXiv 2112.05682).
    matrix: bytes of the largest such matrix, for engines that do hold it.
    """

    macs: Mapping[str, int]
    parameters: int
    peak: int
    matrix: int

    @property
    def total(self) -> int:
        return sum(self.macs.values())


def count_cost(network: nn.Module, *inputs: tuple[int, ...] | Tensor) -> Cost:
    """Count one evaluation of a network on the meta device. inputs: shapes of float32 tensors, or tensors."""
    arguments = [each.to("meta") if isinstance(each, Tensor) else torch.empty(each, device="meta") for each in inputs]
    given = [*network.parameters(), *network.buffers(), *arguments]
    counter, attention = _Counter([each.untyped_storage() for each in given]), _Attention()
    with torch.no_grad(), counter, attention:
        network(*arguments)
    parameters = sum(each.numel() for each in network.parameters())
    macs = {**{kind: counter.macs[kind] for kind in KINDS}, "attention": attention.macs}
    return Cost(macs, parameters, counter.peak, attention.matrix)


class _Counter(TorchDispatchMode):
    """Sees every operator. given: storages that are there before, and do not count."""

    def __init__(self, given: list[Any]) -> None:
        super().__init__()
        self.macs: Counter[str] = Counter()
        self.live = self.peak = 0
        self._given = given
        self._known: weakref.WeakSet[Any] = weakref.WeakSet(given)

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        formula = flop_registry.get(operator.overloadpacket)
        if formula is not None:
            kind = "convolution" if "conv" in str(operator) else "linear"
            self.macs[kind] += formula(*args, **(kwargs or {}), out_val=result) // 2
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._watch(tensor.untyped_storage())
        self.peak = max(self.peak, self.live)
        return result

    def _watch(self, storage: Any) -> None:
        if storage not in self._known:  # a view is no new memory
            self._known.add(storage)
            size = storage.nbytes()
            self.live += size
            weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size


class _Attention(TorchFunctionMode):
    """Counts attention as one operator, which torch would take apart."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = self.matrix = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, key, value = args[:3]  # (B, heads, N, C), (B, heads, T, C) twice
        weights = query.shape[:-1].numel() * key.shape[-2]
        self.macs += weights * (query.shape[-1] + value.shape[-1])
        self.matrix = max(self.matrix, weights * query.element_size())
        return query.new_empty((*query.shape[:-1], value.shape[-1]))
