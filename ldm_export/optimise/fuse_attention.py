"""Fuses scaled dot-product attention to com.microsoft.MultiHeadAttention, for ONNX Runtime's CPU kernels.

Without a mask the kernel works in blocks and never holds all scores (Dao et al. 2022, FlashAttention). It
reads queries, keys and values as the projections write them, (B, tokens, heads·d).
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ldm_export.optimise.matching import (
    MICROSOFT,
    constant,
    dims,
    last_axis,
    operands,
    producer,
    replace,
    scalar,
    used_once,
)

_SPLIT = (0, 2, 1, 3)  # (B, tokens, heads, d) -> (B, heads, tokens, d), and back
_SPLIT_TRANSPOSED = (0, 2, 3, 1)  # (B, tokens, heads, d) -> (B, heads, d, tokens)


@dataclass(frozen=True)
class _Scores:
    query: ir.Value  # (B, N, heads·d)
    key: ir.Value  # (B, T, heads·d)
    heads: int
    scale: float
    causal: bool


def fuse_attention(model: ir.Model) -> tuple[ir.Model, int]:
    """Fuse softmax(split(q)·scale·split(k)ᵀ [+ causal mask])·split(v), merged, to MultiHeadAttention(q, k, v)."""
    count = 0
    for node in model.graph:
        if node.op_type == "Softmax" and node.domain == "":
            count += _fuse(model, node)
    return model, count


def _fuse(model: ir.Model, softmax: ir.Node) -> bool:
    probabilities = softmax.outputs[0]
    if not used_once(probabilities) or not last_axis(softmax, probabilities):
        return False
    scores = _match_scores(softmax.inputs[0])
    weighted = next(iter(probabilities.consumers()))
    if scores is None or weighted.op_type != "MatMul" or weighted.inputs[0] is not probabilities:
        return False
    value = _split_input(weighted.inputs[1], _SPLIT, scores.heads)
    merge = _match_merge(weighted.outputs[0])
    if value is None or merge is None:
        return False
    replace(
        merge,
        "MultiHeadAttention",
        [scores.query, scores.key, value],
        {"num_heads": scores.heads, "scale": scores.scale, "unidirectional": int(scores.causal)},
        domain=MICROSOFT,
    )
    model.opset_imports[MICROSOFT] = 1
    return True


def _match_scores(value: ir.Value | None) -> _Scores | None:
    """Match split(q)·scale·split(k)ᵀ, perhaps plus the causal mask."""
    added = producer(value, "Add")
    causal = False
    if added is not None:
        value = next((scores for scores, mask in operands(added) if _is_causal_mask(mask)), None)
        causal = True
    product = producer(value, "MatMul")
    scaled = None if product is None else producer(product.inputs[0], "Mul")
    if product is None or scaled is None:
        return None
    for split, number in operands(scaled):
        scale = scalar(number)
        query, heads = _split_input_and_heads(split, _SPLIT)
        if scale is None or query is None:
            continue
        key = _split_input(product.inputs[1], _SPLIT_TRANSPOSED, heads)
        if key is not None:
            return _Scores(query, key, heads, scale, causal)
    return None


def _split_input(value: ir.Value | None, perm: tuple[int, ...], heads: int) -> ir.Value | None:
    source, count = _split_input_and_heads(value, perm)
    return source if count == heads else None


def _split_input_and_heads(value: ir.Value | None, perm: tuple[int, ...]) -> tuple[ir.Value | None, int]:
    """Return x and the number of heads, where value = Transpose(Reshape(x (B, tokens, heads·d)), perm)."""
    transpose = producer(value, "Transpose")
    if transpose is None or tuple(transpose.attributes.get_ints("perm", ())) != perm:
        return None, 0
    split = transpose.inputs[0]
    reshape = producer(split, "Reshape")
    if reshape is None:
        return None, 0
    before, after = dims(reshape.inputs[0]), dims(split)
    if before is None or after is None or len(before) != 3 or len(after) != 4:
        return None, 0
    heads = after[2]
    if not isinstance(heads, int) or not _keeps_batch_and_tokens(reshape):
        return None, 0
    return reshape.inputs[0], heads


def _match_merge(value: ir.Value) -> ir.Node | None:
    """Return the Reshape that ends Reshape(Transpose(value), (B, tokens, heads·d))."""
    transpose = _only_consumer(value, "Transpose")
    if transpose is None or tuple(transpose.attributes.get_ints("perm", ())) != _SPLIT:
        return None
    reshape = _only_consumer(transpose.outputs[0], "Reshape")
    if reshape is None or len(dims(reshape.outputs[0]) or ()) != 3 or not _keeps_batch_and_tokens(reshape):
        return None
    return reshape


def _keeps_batch_and_tokens(reshape: ir.Node) -> bool:
    """Tell whether the first two sizes stay as they are, by the target's zeros or by the shapes that are noted."""
    target = constant(reshape.inputs[1])
    if target is not None and target[:2].tolist() == [0, 0]:
        return True
    before, after = dims(reshape.inputs[0]), dims(reshape.outputs[0])
    return before is not None and after is not None and before[:2] == after[:2]


def _only_consumer(value: ir.Value, op_type: str) -> ir.Node | None:
    if not used_once(value):
        return None
    node = next(iter(value.consumers()))
    return node if (node.op_type, node.domain) == (op_type, "") else None


def _is_causal_mask(value: ir.Value) -> bool:
    """Match Where(columns > rows, -inf, 0) over Range(0, tokens, 1) in both directions."""
    where = producer(value, "Where")
    if where is None or scalar(where.inputs[1]) != -np.inf or scalar(where.inputs[2]) != 0.0:
        return False
    future = producer(where.inputs[0], "Greater")
    if future is None:
        return False
    columns, rows = future.inputs
    unsqueeze = producer(rows, "Unsqueeze")
    if unsqueeze is None or unsqueeze.inputs[0] is not columns:
        return False
    axes, positions = constant(unsqueeze.inputs[1]), producer(columns, "Range")
    if axes is None or axes.reshape(-1).tolist() != [1] or positions is None:
        return False
    return scalar(positions.inputs[0]) == 0.0 and scalar(positions.inputs[2]) == 1.0
