"""Translations of the models' operators to standard ONNX, opset 18: one plain form each.

They take the place of torch's own translations because they stay small with dynamic sizes and are the forms
that ONNX Runtime, TensorRT and OpenVINO recognise. Checked against torch in tests/export.
"""

import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18

from ldm_export.errors import ExportError

op: Any = opset18  # called while the exporter records: arguments and results are ir.Value


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """Translate y = x·Wᵀ + b; the transpose of a parameter is later taken into the stored weight (`to_onnx`)."""
    product = op.MatMul(x, op.Transpose(weight, perm=[1, 0]))
    return product if bias is None else op.Add(product, bias)


def group_norm(
    x: Any,
    groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Any:
    """Translate to InstanceNormalization over groups, then scale and shift: ONNX had no equal before opset 21."""
    if weight is None or bias is None:
        raise ExportError("a GroupNorm without weight and bias cannot be exported; none of the models here has one")
    ones = op.Constant(value=ir.tensor([1.0] * groups, dtype=ir.DataType.FLOAT))
    zeros = op.Constant(value=ir.tensor([0.0] * groups, dtype=ir.DataType.FLOAT))
    grouped = op.Reshape(x, op.Constant(value_ints=[0, groups, -1]))  # (B, G, the rest)
    normal = op.Reshape(op.InstanceNormalization(grouped, ones, zeros, epsilon=eps), op.Shape(x))
    spread = op.Constant(value_ints=list(range(1, _rank(x) - 1)))  # (C,) -> (C, 1, 1)
    return op.Add(op.Mul(normal, op.Unsqueeze(weight, spread)), op.Unsqueeze(bias, spread))


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Translate softmax(q·kᵀ·scale [+ causal mask])·v for q (B, heads, N, d), k and v (B, heads, T, d)."""
    if attn_mask is not None or dropout_p != 0.0 or enable_gqa:
        raise ExportError("attention with a mask tensor, dropout or grouped heads cannot be exported")
    if scale is None:
        scale = 1.0 / math.sqrt(_size(query, 3))
    scaled = op.Mul(query, op.Constant(value=ir.tensor(scale, dtype=ir.DataType.FLOAT)))
    scores = op.MatMul(scaled, op.Transpose(key, perm=[0, 1, 3, 2]))  # (B, heads, N, T)
    if is_causal:
        scores = op.Add(scores, _causal_mask(query, key))
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _causal_mask(query: Any, key: Any) -> Any:
    """Make the mask (N, T): 0 where a token may look, -inf where it would see the future."""
    zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
    rows = op.Range(zero, op.Squeeze(op.Shape(query, start=2, end=3)), one)
    columns = op.Range(zero, op.Squeeze(op.Shape(key, start=2, end=3)), one)
    future = op.Greater(columns, op.Unsqueeze(rows, op.Constant(value_ints=[1])))
    return op.Where(
        future,
        op.Constant(value=ir.tensor(-math.inf, dtype=ir.DataType.FLOAT)),
        op.Constant(value=ir.tensor(0.0, dtype=ir.DataType.FLOAT)),
    )


def gelu(x: Any, approximate: str = "none") -> Any:
    """Translate x·(1 + erf(x/√2))/2; the tanh form is another function and is refused."""
    if approximate != "none":
        raise ExportError(f"GELU with approximate={approximate!r} cannot be exported; only the exact one can")
    bell = op.Add(op.Erf(op.Div(x, _number(math.sqrt(2.0)))), _number(1.0))
    return op.Mul(op.Mul(x, bell), _number(0.5))


def split(x: Any, size: int, dim: int = 0) -> Any:
    """Translate equal parts of a fixed axis (`chunk`)."""
    extent = _size(x, dim)
    if extent % size != 0:
        raise ExportError(f"an axis of {extent} does not split into equal parts of {size}")
    return op.Split(x, axis=dim, num_outputs=extent // size)


def _number(value: float) -> Any:
    return op.Constant(value=ir.tensor(value, dtype=ir.DataType.FLOAT))


def _rank(x: Any) -> int:
    assert x.shape is not None
    return len(x.shape)


def _size(x: Any, dim: int) -> int:
    assert x.shape is not None
    size = x.shape[dim]
    if not isinstance(size, int):
        raise ExportError(f"the operator needs a fixed size of axis {dim}, but it is the dynamic {size}")
    return size


aten = torch.ops.aten
TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    aten.linear.default: linear,
    aten.group_norm.default: group_norm,
    aten.scaled_dot_product_attention.default: scaled_dot_product_attention,
    aten.gelu.default: gelu,
    aten.split.Tensor: split,
}
