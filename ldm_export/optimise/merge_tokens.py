"""Merges tokens of an image ahead of its attention to itself, and copies what comes out to those that were merged.

Token merging (Bolya and Hoffman 2023, arXiv:2303.17604). Neighbouring places of a feature map are much alike, and the
work of attention grows with the square of their number. The upper left token of each window of 2x2 is a destination,
the others are sources. Of each source the destination is found that is most like it, by the cosine of the angle
between both; the sources that are most like theirs are merged into it by the mean. Nothing is random. Where a side is
odd, the last windows are cut off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from ldm_export.optimise.matching import dims, insert_before, make_constant, make_sizes
from ldm_export.optimise.self_attention import SelfAttention, self_attentions

MOST = 0.75  # of an image's tokens; the rest are destinations

_END = np.iinfo(np.int64).max
_SMALLEST = 1e-12  # length of a token, of which a direction is left

_Size = int | str  # a number, or a formula of the sizes of the graph's inputs


def merge_tokens(
    model: ir.Model, ratio: float, sizes: Mapping[str, int] | None = None, least: int = 0
) -> tuple[ir.Model, int]:
    """Let attention of an image to itself read a share `ratio` of its tokens less; return in how many places it does.

    ratio: in whole hundredths, above 0 and at most `MOST`. Of N tokens N·ratio are merged, rounded down, but at most
    the sources. sizes, least: attention that has fewer tokens than `least` where the axes of the graph's inputs have
    these sizes is left as it is. Weights are not touched.
    """
    if not 0 < ratio <= MOST:
        raise ValueError(f"the ratio of tokens to merge is {ratio}; expected more than 0 and at most {MOST}")
    found = [each for each in self_attentions(model) if sizes is None or each.tokens(sizes) >= least]
    for attention in found:
        _merge_in(attention, round(100 * ratio))
    return model, len(found)


@dataclass(frozen=True)
class _Counts:
    """How many tokens there are of each kind. sources: `merged` and `single` ones."""

    batch: _Size
    channels: _Size
    tokens: _Size
    destinations: _Size
    sources: _Size
    merged: _Size
    single: _Size
    left: _Size  # destinations and single ones

    @classmethod
    def of(cls, attention: SelfAttention, percent: int) -> "_Counts":
        of_x, of_grid = dims(attention.x), dims(attention.grid)
        assert of_x is not None and of_grid is not None
        (batch, tokens, channels), (_, height, width, _) = of_x, of_grid
        destinations = f"((({height}) + 1)//2)*((({width}) + 1)//2)"
        sources = f"({tokens}) - {destinations}"
        merged = f"min(({tokens})*{percent}//100, {sources})"
        left = f"({tokens}) - {merged}"
        return cls(batch, channels, tokens, destinations, sources, merged, f"{sources} - {merged}", left)


@dataclass(frozen=True)
class _Match:
    """Which token goes where, int64. destinations, sources: places in the image, as vectors.

    order (B, sources): of sources, those that are most like a destination first. merged, single: its first and second
    part. into (B, merged): the destinations of the first.
    """

    counts: _Counts
    destinations: ir.Value
    sources: ir.Value
    order: ir.Value
    merged: ir.Value
    single: ir.Value
    into: ir.Value


class _Writer:
    """Writes nodes ahead of one; `name` begins their names."""

    def __init__(self, before: ir.Node, name: str) -> None:
        self._before = before
        self._name = name
        self._known: dict[tuple[int, ...], ir.Value] = {}

    def put(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        part: str,
        *,
        output: int = 0,
        shape: tuple[_Size, ...] | None = None,
        **attributes: Any,
    ) -> ir.Value:
        """Write a node and return one of its outputs. shape: of floats that a product reads or makes."""
        values = insert_before(self._before, op_type, inputs, f"{self._name}_{part}", attributes, output + 1)
        value = values[output]
        if shape is not None:
            value.dtype, value.shape = ir.DataType.FLOAT, ir.Shape(shape)
        return value

    def rows(self, tokens: ir.Value, places: ir.Value, part: str, shape: tuple[_Size, ...] | None = None) -> ir.Value:
        """Take of tokens (B, N, C) those at places (B, n), each image's own."""
        index = self.put("Unsqueeze", [places, self.ints(2)], f"{part}_index")
        return self.put("GatherND", [tokens, index], part, shape=shape, batch_dims=1)

    def range(self, start: ir.Value, end: ir.Value, part: str) -> ir.Value:
        """Write the integers from start (1,) to end (1,), which is not among them."""
        first = self.put("Squeeze", [start], f"{part}_start")
        last = self.put("Squeeze", [end], f"{part}_end")
        return self.put("Range", [first, last, make_constant(np.array(1, np.int64), self._before)], part)

    def ints(self, *numbers: int) -> ir.Value:
        if numbers not in self._known:
            self._known[numbers] = make_sizes(self._before, *numbers)
        return self._known[numbers]

    def number(self, number: float) -> ir.Value:
        return make_constant(np.array(number, np.float32), self._before)


def _merge_in(attention: SelfAttention, percent: int) -> None:
    """Let one attention read merged tokens."""
    counts = _Counts.of(attention, percent)
    normed = attention.norm.outputs[0]
    readers = list(normed.uses())
    first = next(node for node in attention.norm.graph or () if any(node is reader.node for reader in readers))
    match = _find_match(_Writer(attention.norm, "match"), attention, counts, percent)
    merged = _merge(_Writer(first, "merge"), normed, match)
    for reader in readers:
        reader.node.replace_input_with(reader.idx, merged)
    _note_fewer(attention, counts)
    whole = _unmerge(_Writer(attention.residual, "unmerge"), attention.attended, match)
    for index, value in enumerate(attention.residual.inputs):
        if value is attention.attended:
            attention.residual.replace_input_with(index, whole)


def _find_match(write: _Writer, attention: SelfAttention, counts: _Counts, percent: int) -> _Match:
    put, ints = write.put, write.ints
    sides = put("Shape", [attention.grid], "sides", start=1, end=3)
    tokens = put("ReduceProd", [sides, ints(0)], "tokens", keepdims=1)
    destinations, sources = _split(write, sides, tokens)
    most, nearest = _most_alike(write, attention.x, destinations, sources, counts)
    count = put("Shape", [sources], "count")
    order = put("TopK", [most, count], "order", output=1, axis=1)
    share = put("Div", [put("Mul", [tokens, ints(percent)], "hundredfold"), ints(100)], "share")
    end = put("Min", [share, count], "end")
    merged = put("Slice", [order, ints(0), end, ints(1)], "merged")
    single = put("Slice", [order, end, ints(_END), ints(1)], "single")
    into = put("GatherElements", [nearest, merged], "into", axis=1)
    return _Match(counts, destinations, sources, order, merged, single, into)


def _split(write: _Writer, sides: ir.Value, tokens: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return the places of destinations, and those of sources: first of even rows, then of odd ones."""
    put, ints = write.put, write.ints
    places = put("Reshape", [write.range(ints(0), tokens, "places"), sides], "image")

    def taken(part: str, first: tuple[int, int], step: tuple[int, int]) -> ir.Value:
        square = put("Slice", [places, ints(*first), ints(_END, _END), ints(0, 1), ints(*step)], f"{part}_image")
        return put("Reshape", [square, ints(-1)], part)

    beside, below = taken("beside", (0, 1), (2, 2)), taken("below", (1, 0), (2, 1))
    return taken("destinations", (0, 0), (2, 2)), put("Concat", [beside, below], "sources", axis=0)


def _most_alike(
    write: _Writer, x: ir.Value, destinations: ir.Value, sources: ir.Value, counts: _Counts
) -> tuple[ir.Value, ir.Value]:
    """Return how like the destination nearest to it each source is, and which that is, both (B, sources)."""
    put, batch, channels = write.put, counts.batch, counts.channels
    length = put("ReduceL2", [x, write.ints(2)], "length", keepdims=1)
    unit = put("Div", [x, put("Max", [length, write.number(_SMALLEST)], "divisor")], "unit")
    ours = put("Gather", [unit, sources], "ours", shape=(batch, counts.sources, channels), axis=1)
    theirs = put("Transpose", [put("Gather", [unit, destinations], "theirs", axis=1)], "turned", perm=[0, 2, 1])
    alike = put("MatMul", [ours, theirs], "alike", shape=(batch, counts.sources, counts.destinations))
    most = put("ReduceMax", [alike, write.ints(2)], "most", keepdims=0)
    return most, put("ArgMax", [alike], "nearest", axis=2, keepdims=0)


def _merge(write: _Writer, tokens: ir.Value, match: _Match) -> ir.Value:
    """Return (B, left, C) of tokens (B, N, C): destinations with what is merged into them, then single sources."""
    put, ints, counts = write.put, write.ints, match.counts
    batch, channels = counts.batch, counts.channels
    merged = write.rows(tokens, put("Gather", [match.sources, match.merged], "merged_places"), "merged")
    single = write.rows(tokens, put("Gather", [match.sources, match.single], "single_places"), "single")
    own = put("Gather", [tokens, match.destinations], "own", axis=1)

    numbers = write.range(ints(0), put("Shape", [match.destinations], "count"), "numbers")
    into = put("Unsqueeze", [match.into, ints(1)], "into")
    is_into = put("Equal", [put("Unsqueeze", [numbers, ints(1)], "number"), into], "is_into")
    weights = (batch, counts.destinations, counts.merged)
    weight = put("Cast", [is_into], "weight", shape=weights, to=int(ir.DataType.FLOAT))
    added = put("MatMul", [weight, merged], "added", shape=(batch, counts.destinations, channels))
    others = put("ReduceSum", [weight, ints(2)], "others", keepdims=1)
    mean = put("Div", [put("Add", [own, added], "sum"), put("Add", [others, write.number(1)], "size")], "mean")
    return put("Concat", [mean, single], "tokens", shape=(batch, counts.left, channels), axis=1)


def _note_fewer(attention: SelfAttention, counts: _Counts) -> None:
    """Note in the shapes of attention that there are fewer tokens."""
    for node in attention.nodes:
        for value in node.outputs:
            if value.shape is not None:
                sizes = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
                value.shape = ir.Shape([counts.left if size == counts.tokens else size for size in sizes])


def _unmerge(write: _Writer, tokens: ir.Value, match: _Match) -> ir.Value:
    """Return (B, N, C) of tokens (B, left, C): each is copied to all that were merged into it."""
    put, ints, counts = write.put, write.ints, match.counts
    count = put("Shape", [match.destinations], "count")
    batch = put("Shape", [match.order], "batch", start=0, end=1)
    each_own = put("Concat", [batch, count], "each_own", axis=0)
    left = put("Add", [count, put("Shape", [match.single], "single_count", start=1, end=2)], "left")
    own = put("Expand", [write.range(ints(0), count, "numbers"), each_own], "own")
    single = put("Expand", [write.range(count, left, "rest"), put("Shape", [match.single], "single_sides")], "single")
    taken = put("Concat", [own, match.into, single], "taken", axis=1)
    of_sources = put("Gather", [match.sources, match.order], "source_places")
    places = put("Concat", [put("Expand", [match.destinations, each_own], "places_own"), of_sources], "places", axis=1)
    index = put("ScatterElements", [taken, places, taken], "index", axis=1)  # of the image: all places are written to
    return write.rows(tokens, index, "tokens", (counts.batch, counts.tokens, counts.channels))
