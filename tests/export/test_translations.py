"""Each operator's ONNX form equals torch, at sizes that were not traced."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_export.export.translations import TRANSLATIONS

pytestmark = pytest.mark.slow


class Apply(nn.Module):
    """A function as a module, with one layer whose parameters it may use."""

    def __init__(self, function: Callable[..., Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.function, self.layer = function, layer
        for seed, parameter in enumerate(self.parameters()):
            values = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
            parameter.data = values if parameter.ndim > 1 else 1 + 0.5 * values

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs) if self.layer is None else self.layer(*inputs)


def exported(module: Apply, *shapes: tuple[int, ...], free: tuple[int, ...]) -> torch.onnx.ONNXProgram:
    """Traced at these shapes, the axes `free` of every input being dynamic."""
    inputs = tuple(torch.zeros(shape) for shape in shapes)
    axes = tuple({axis: torch.export.Dim.DYNAMIC for axis in free if axis < len(shape)} for shape in shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            inputs,
            dynamo=True,
            opset_version=18,
            dynamic_shapes=(axes,),
            custom_translation_table=TRANSLATIONS,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    return program


def compare(program: torch.onnx.ONNXProgram, module: Apply, *shapes: tuple[int, ...]) -> None:
    """At other shapes, ONNX Runtime gives what torch gives."""
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    random = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=random) for shape in shapes]
    feeds = {value.name: x.numpy() for value, x in zip(session.get_inputs(), inputs, strict=True)}
    (got,) = session.run(None, feeds)
    with torch.no_grad():
        wanted = module(*inputs).numpy()
    assert got.shape == wanted.shape
    assert np.linalg.norm(got - wanted) <= 1e-6 * np.linalg.norm(wanted)


def types(program: torch.onnx.ONNXProgram) -> list[str]:
    return [node.op_type for node in program.model.graph if node.op_type != "Constant"]


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_one_product_with_the_transposed_weight(bias):
    module = Apply(lambda x: x, nn.Linear(6, 5, bias=bias))
    program = exported(module, (3, 7, 6), free=(0, 1))
    assert types(program) == ["Transpose", "MatMul", *(["Add"] if bias else [])]
    compare(program, module, (2, 11, 6))


@pytest.mark.parametrize("rank", [3, 4])
def test_group_norm_is_an_instance_norm_over_groups(rank):
    module = Apply(lambda x: x, nn.GroupNorm(3, 12, eps=1e-3))
    program = exported(module, (3, 12, 5, 7)[:rank], free=(0, 2, 3))
    assert "InstanceNormalization" in types(program)
    compare(program, module, (2, 12, 9, 4)[:rank])


@pytest.mark.parametrize("causal", [True, False])
def test_attention_to_itself(causal):
    module = Apply(lambda x: F.scaled_dot_product_attention(x, x * 0.5, x + 1, is_causal=causal))
    program = exported(module, (3, 2, 9, 4), free=(0, 2))
    assert types(program).count("Where") == causal
    compare(program, module, (2, 2, 13, 4))
    compare(program, module, (1, 2, 1, 4))


def test_attention_to_another_sequence():
    module = Apply(lambda q, k: F.scaled_dot_product_attention(q, k, k + 1))
    program = exported(module, (3, 2, 9, 4), (3, 2, 6, 4), free=(0, 2))
    compare(program, module, (2, 2, 5, 4), (2, 2, 11, 4))


def test_attention_with_its_own_scale():
    module = Apply(lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.1))
    compare(exported(module, (3, 2, 9, 4), free=(0, 2)), module, (2, 2, 5, 4))


def test_gelu_is_the_exact_one():
    module = Apply(F.gelu)
    program = exported(module, (3, 7), free=(0,))
    compare(program, module, (5, 7))
    x = np.float32(1.5)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (got,) = session.run(None, {session.get_inputs()[0].name: np.full((1, 7), x)})
    assert got[0, 0] == pytest.approx(x * (1 + math.erf(x / math.sqrt(2))) / 2, rel=1e-6)


def test_chunk_is_one_split():
    module = Apply(lambda x: x.chunk(2, dim=-1)[0] * x.chunk(2, dim=-1)[1])
    program = exported(module, (3, 7, 10), free=(0, 1))
    assert "Split" in types(program) and "SequenceAt" not in types(program)
    compare(program, module, (2, 4, 10))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: F.gelu(x, approximate="tanh"), (3, 7)),
        (lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=x[0, 0] @ x[0, 0].T), (3, 2, 9, 4)),
        (lambda x: F.group_norm(x, 3), (3, 12, 5, 7)),
        (lambda x: x.split(4, dim=1)[0], (3, 7)),
    ],
    ids=["tanh-gelu", "attention-with-a-mask", "group-norm-without-weight", "uneven-split"],
)
def test_what_has_no_exact_form_is_refused(function, shape):
    with pytest.raises(torch.onnx.OnnxExporterError) as caught:
        exported(Apply(function), shape, free=(0,))
    reasons = []
    error: BaseException | None = caught.value
    while error is not None:
        reasons.append(str(error))
        error = error.__cause__
    assert any("cannot be exported" in reason or "does not split" in reason for reason in reasons)
