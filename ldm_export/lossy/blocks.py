"""Weights of four bits, in blocks along the inputs that have a scale each, as ONNX Runtime's MatMulNBits reads them."""

import numpy as np

BLOCK = 32  # weights that share a scale
_ZERO = 8  # the level that stands for 0, which MatMulNBits takes where none is given


def pack_blocks(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round a weight (N, K) to four bits: uint8 (N, blocks, 16), two weights a byte, and scales, float32 (N · blocks,).

    The scale lets the weight of largest magnitude be −8 times it: of 16 levels none is unused. The lower half of a byte
    is the first weight. The last block is filled with zeros.
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
    """
    outputs, inputs = weight.shape
    count = -(-inputs // BLOCK)
    blocks = np.zeros((outputs, count * BLOCK), np.float32)
    blocks[:, :inputs] = weight
    blocks = blocks.reshape(outputs, count, BLOCK)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[..., None], axis=2)  # (N, blocks, 1)
    scales = extreme / np.float32(-_ZERO)
    scales[scales == 0] = 1
    levels = (np.clip(np.rint(blocks / scales), -_ZERO, _ZERO - 1) + _ZERO).astype(np.uint8)
    return levels[..., 0::2] | levels[..., 1::2] << 4, scales.reshape(-1)


def signed_blocks(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round a weight (I, O) to the same blocks, as DequantizeLinear of opset 21 reads them along axis 0.

    Returns what ONNX stores of INT4 (I, O), uint8 (I · O / 2,), the lower half of a byte first, and scales, float32
    (blocks, O). I is a multiple of a block.
    """
    inputs, outputs = weight.shape
    packed, scales = pack_blocks(weight.T)
    levels = _levels(packed).reshape(outputs, inputs).T  # (I, O)
    bits = (levels ^ _ZERO).reshape(-1)  # less 8, as two's complement of four bits
    return bits[0::2] | bits[1::2] << 4, scales.reshape(outputs, -1).T.copy()


def unpack_blocks(packed: np.ndarray, scales: np.ndarray, inputs: int) -> np.ndarray:
    """Return what is left of a weight that was packed: float32 (N, inputs)."""
    outputs, blocks, _ = packed.shape
    levels = _levels(packed).reshape(outputs, blocks, BLOCK)
    wide = (levels.astype(np.float32) - _ZERO) * scales.reshape(outputs, blocks, 1)
    return wide.reshape(outputs, -1)[:, :inputs]


def _levels(packed: np.ndarray) -> np.ndarray:
    """Return the numbers from 0 to 15 in bytes, the lower half of each first: uint8 (..., 2)."""
    return np.stack([packed & 15, packed >> 4], axis=-1)
