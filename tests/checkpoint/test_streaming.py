"""Models that read their weights as they run: the same to the last bit as models that hold them, in little memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.stored import StoredTensor, Tensors
from ldm_export.checkpoint.streaming import largest_block, stream
from ldm_export.checkpoint.tensors import write_tensors
from ldm_export.errors import CheckpointError
from ldm_export.process.isolate import run_isolated
from ldm_export.verify.evaluate import run_model, seeded
from ldm_runtime.package import safetensors
from tests.oracles import build_tiny_sd

WIDTH, LAYERS = 1024, 32


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.linear(self.norm(x))


class Stack(nn.Module):
    """Layers in a list, and a weight that stands in no module of its own."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(WIDTH))
        self.layers = nn.ModuleList(Layer() for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x * self.scale


class Reader(Stack):
    """A stack that reads a weight of a block that does not run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.layers[0].norm.weight


def saved(path: Path, model: nn.Module, dtype: torch.dtype | None = None) -> Tensors:
    write_tensors(path, model, dtype)
    header = safetensors.read_header(path)
    return {
        name: StoredTensor(path, path, name, info.dtype, info.shape, info.offset)
        for name, info in header.tensors.items()
    }


def on_meta(kind: type[Stack], layers: int) -> Stack:
    with torch.device("meta"):
        return kind(layers)


def evaluate(model: nn.Module) -> torch.Tensor:
    x = torch.linspace(-1, 1, WIDTH, dtype=next(model.parameters()).dtype).reshape(1, WIDTH)
    with torch.inference_mode():
        return model(x)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "dtype"), [("sd15", torch.float32), ("sd21", torch.float16)])
def test_every_component_computes_the_same_as_with_its_weights_in_memory(tmp_path, kind, dtype):
    checkpoint = open_checkpoint(build_tiny_sd(tmp_path / "model", kind, dtype=dtype))
    for spec in checkpoint.specs.values():
        held, streamed = in_memory(checkpoint.load(spec.part)), checkpoint.stream(spec.part)
        assert not held.training and not streamed.training
        for change in (nn.Module.float, nn.Module.double, nn.Module.float):  # as the reference does
            change(held), change(streamed)
            for request in seeded(spec)[:2]:
                expected = run_model(spec, held, request.inputs)
                for name, value in run_model(spec, streamed, request.inputs).items():
                    assert value.dtype == expected[name].dtype
                    np.testing.assert_array_equal(value, expected[name])
        assert {each.device.type for each in streamed.parameters()} == {"meta"}


def in_memory(model: nn.Module) -> nn.Module:
    """Copy mapped weights: kernels round otherwise where a file does not align them as an allocation is aligned."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_every_precision_are_read_as_a_load_reads_them(tmp_path, dtype):
    torch.manual_seed(0)
    model = Stack(2).to(dtype)
    tensors = saved(tmp_path / "model.safetensors", model)
    streamed = stream(on_meta(Stack, 2), tensors).double()
    assert torch.equal(evaluate(streamed), evaluate(model.float().double()))  # float64 is rounded to float32 first


def test_a_weight_that_is_read_outside_of_its_block_is_an_error_and_no_nonsense(tmp_path):
    tensors = saved(tmp_path / "model.safetensors", Stack(2))
    with pytest.raises(RuntimeError, match="meta"):
        evaluate(stream(on_meta(Reader, 2), tensors)).numpy()


def test_weights_are_dropped_when_a_block_fails(tmp_path):
    streamed = stream(on_meta(Stack, 2), saved(tmp_path / "model.safetensors", Stack(2)))
    with pytest.raises(RuntimeError):
        streamed(torch.zeros(1, 3))
    assert {each.device.type for each in streamed.parameters()} == {"meta"}


def test_a_file_that_becomes_shorter_meanwhile_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    streamed = stream(on_meta(Stack, 2), saved(file, Stack(2)))
    with open(file, "r+b") as opened:
        opened.truncate(file.stat().st_size // 2)
    with pytest.raises(CheckpointError, match="has become shorter while it was read"):
        evaluate(streamed)
    file.unlink()
    with pytest.raises(CheckpointError, match="cannot read .*model.safetensors: No such file"):
        evaluate(streamed)


def test_the_largest_block_is_the_one_with_most_weights():
    assert largest_block(on_meta(Stack, 3)) == WIDTH * WIDTH + 3 * WIDTH


@pytest.mark.slow
def test_memory_is_that_of_a_block(tmp_path):
    """32 layers of 4 MB, 8 MB in float64: the whole would take 400 MB."""
    file = tmp_path / "model.safetensors"
    torch.manual_seed(0)
    saved(file, Stack(LAYERS))
    peak = run_isolated(run_whole, file).peak_bytes
    assert peak - run_isolated(run_nothing).peak_bytes < 100e6


def run_whole(file: Path) -> None:
    header = safetensors.read_header(file)
    tensors = {
        name: StoredTensor(file, file, name, info.dtype, info.shape, info.offset)
        for name, info in header.tensors.items()
    }
    evaluate(stream(on_meta(Stack, LAYERS), tensors).double())


def run_nothing() -> None:
    evaluate(Stack(1).double())
