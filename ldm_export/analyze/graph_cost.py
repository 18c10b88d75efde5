"""The cost of a network, counted operator by operator from shapes alone: multiply-accumulates and live activations.

The network runs on torch's meta device, where tensors have shapes and no memory. The formulas of the operators are
torch's (`torch.utils.flop_counter`), which count two operations for a multiply-accumulate.
"""

import weakref
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

SELF, CROSS = "self-attention", "cross-attention"
KINDS = ("convolution", SELF, CROSS, "linear")


@dataclass(frozen=True)
class Cost:
    """The cost of one evaluation.

    macs: kind of operator -> multiply-accumulates. Both kinds of attention are the products of queries, keys and values
    alone; their projections are "linear", as are all other matrix products. In "self-attention" keys and queries are of
    the same places, and it grows with their square; in "cross-attention" the queries are of the image and the keys are
    not, and it grows with the places and with the keys. fixed: the part of each kind that does not depend on the image,
    and is the same at every size of it: all of a text encoder, and of a UNet the projections of the text's keys and
    values and what is made of the timestep.

    peak: most bytes of activations in float32 that live at one moment, without weights and an operator's own work
    space: attention is one operator, which never holds the matrix of all weights (Rabe and Staats 2021, arXiv
    2112.05682). matrix: bytes of the largest such matrix, for engines that do hold it.
    """

    macs: Mapping[str, int]
    fixed: Mapping[str, int]
    parameters: int
    peak: int
    matrix: int

    @property
    def total(self) -> int:
        return sum(self.macs.values())

    @property
    def memory(self) -> int:
        """Return the bytes that an evaluation may need without the matrix: weights, activations and twice as much."""
        return 4 * self.parameters + 3 * self.peak


def count_cost(network: nn.Module, *inputs: tuple[int, ...] | Tensor, fixed: Collection[int] = ()) -> Cost:
    """Count one evaluation of a network on the meta device.

    inputs: shapes of float32 tensors, or tensors. fixed: places among them of those that are not of the image.
    """
    arguments = [each.to("meta") if isinstance(each, Tensor) else torch.empty(each, device="meta") for each in inputs]
    given = [*network.parameters(), *network.buffers(), *arguments]
    counter = _Counter(given, [each for place, each in enumerate(arguments) if place not in fixed])
    with torch.no_grad(), counter, _Attention(counter):
        network(*arguments)
    parameters = sum(each.numel() for each in network.parameters())
    kinds = [{kind: counts[kind] for kind in KINDS} for counts in (counter.macs, counter.fixed)]
    return Cost(kinds[0], kinds[1], parameters, counter.peak, counter.matrix)


class _Counter(TorchDispatchMode):
    """Sees every operator.

    given: tensors that are there before, and do not count as activations. image: those of them that are of the image,
    as is then all that is made of them.
    """

    def __init__(self, given: list[Tensor], image: list[Tensor]) -> None:
        super().__init__()
        self.macs: Counter[str] = Counter()
        self.fixed: Counter[str] = Counter()
        self.live = self.peak = self.matrix = 0
        self._given = [each.untyped_storage() for each in given]
        self._known: weakref.WeakSet[Any] = weakref.WeakSet(self._given)
        self._image: weakref.WeakSet[Any] = weakref.WeakSet(each.untyped_storage() for each in image)

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        of_image = any(self.is_of_image(each) for each in _tensors([args, kwargs]))
        formula = flop_registry.get(operator.overloadpacket)
        if formula is not None:
            kind = "convolution" if "conv" in str(operator) else "linear"
            self.add(kind, formula(*args, **(kwargs or {}), out_val=result) // 2, of_image=of_image)
        for tensor in _tensors(result):
            if of_image:
                self._image.add(tensor.untyped_storage())
            self._watch(tensor.untyped_storage())
        self.peak = max(self.peak, self.live)
        return result

    def add(self, kind: str, macs: int, *, of_image: bool) -> None:
        self.macs[kind] += macs
        self.fixed[kind] += 0 if of_image else macs

    def is_of_image(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage() in self._image

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

    def __init__(self, counter: _Counter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, key, value = args[:3]  # (B, heads, N, C), (B, heads, T, C) twice
        counter, weights = self._counter, query.shape[:-1].numel() * key.shape[-2]
        of_image = counter.is_of_image(query)
        kind = CROSS if of_image and not counter.is_of_image(key) else SELF
        counter.add(kind, weights * (query.shape[-1] + value.shape[-1]), of_image=of_image)
        counter.matrix = max(counter.matrix, weights * query.element_size())
        return query.new_empty((*query.shape[:-1], value.shape[-1]))


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, Tensor)]
