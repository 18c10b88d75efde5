"""The work of a graph, beside what torch counts of the network."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ldm_export.errors import ExportError
from ldm_export.export.graph_file import read_graph
from ldm_export.lossy.work import multiply_accumulates
from tests.optimise.graphs import normal, parse
from tests.tiny_build import TinyBuild

BUILTIN = Path(__file__).parents[2] / "runtime/ldm_runtime/builtin"


def test_products_are_counted_by_their_sizes() -> None:
    text = """g (float[B, 3, H, 8] x, float[B, 5, 6] t) => (float[B, 4, H, 8] y, float[B, 5, 7] z) {
        y = Conv<pads = [1, 1, 1, 1]>(x, w)
        z = MatMul(t, m)
    }"""
    model = parse(text, {"w": normal(4, 3, 3, 3), "m": normal(6, 7)})
    assert multiply_accumulates(model, {"B": 2, "H": 10}) == 2 * 4 * 10 * 8 * 27 + 2 * 5 * 7 * 6


def test_a_shape_that_is_not_noted_is_refused() -> None:
    model = parse("g (float[B, 6] t) => (float[B, 7] z) { z = MatMul(t, m) }", {"m": normal(6, 7)})
    with pytest.raises(ExportError, match="are not noted in the graph"):
        multiply_accumulates(model, {"H": 3})


def test_an_image_of_twice_the_side_takes_more_than_four_times_the_work() -> None:
    model = read_graph(BUILTIN / "unet/model.onnx")
    small, large = (
        multiply_accumulates(model, {"batch": 2, "height": side, "width": side, "context_tokens": 32})
        for side in (16, 32)
    )
    assert 4 * small < large < 5 * small


@pytest.mark.slow
def test_torch_counts_the_same(tiny_build: Callable[[str], TinyBuild]) -> None:
    import torch
    from diffusers import UNet2DConditionModel
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    built = tiny_build("sd15")
    network = UNet2DConditionModel.from_pretrained(built.source, subfolder="unet").eval()
    # The fused attention of a CPU is none of the operators that torch counts.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(torch.zeros(2, 4, 8, 10), 1, torch.zeros(2, 7, 24))
    sizes = {"batch": 2, "height": 8, "width": 10, "context_tokens": 7}
    model = read_graph(built.package / "unet/model.onnx")
    assert multiply_accumulates(model, sizes) == counter.get_total_flops() // 2
