"""A graph that makes another shape than its contract says is one sentence, whatever part it is of and does next."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

import ldm_runtime
from ldm_runtime.components import Components
from ldm_runtime.deep_features import DeepFeatures
from ldm_runtime.errors import EngineError
from ldm_runtime.package.variants import Caching
from tests.runtime import cached_package
from tests.runtime.cached_package import KEPT
from tests.runtime.tiny_package import rehash

LONGEST = 8


def misshape(graph: Path, output: str, shape: list[int]) -> None:
    """Let a graph make an output of a shape that nobody can tell before it runs."""
    model = onnx.load(graph, load_external_data=False)
    for node in model.graph.node:
        node.output[:] = ["honest" if name == output else name for name in node.output]
        node.input[:] = ["honest" if name == output else name for name in node.input]
    sizes = [*shape, *[1] * (LONGEST - len(shape))]
    model.graph.node.extend(
        [
            helper.make_node("Constant", [], ["odd_sizes"], value_ints=sizes),
            helper.make_node("Constant", [], ["odd_first"], value_ints=[0]),
            helper.make_node("Constant", [], ["odd_rank"], value_ints=[len(shape)]),
            helper.make_node("ReduceMean", ["honest"], ["odd_mean"], keepdims=0),
            helper.make_node("IsNaN", ["odd_mean"], ["is_nan"]),  # never, but who knows that
            helper.make_node("Cast", ["is_nan"], ["odd_zero"], to=TensorProto.INT64),
            helper.make_node("Add", ["odd_rank", "odd_zero"], ["rank_at_last"]),
            helper.make_node("Slice", ["odd_sizes", "odd_first", "rank_at_last"], ["sizes"]),
            helper.make_node("Expand", ["odd_mean", "sizes"], [output]),
        ]
    )
    onnx.save(model, graph)


SHAPES = [
    ("unet", "out_sample", []),
    ("unet", "out_sample", [1]),
    ("unet", "out_sample", [3, 4, 6, 8]),
    ("unet", "out_sample", [2, 4, 6, 9]),
    ("unet", "out_sample", [2, 4, 6, 8, 1]),
    ("text_encoder", "last_hidden_state", []),
    ("text_encoder", "last_hidden_state", [1, 12, 7]),
    ("vae_decoder", "sample", []),
    ("vae_decoder", "sample", [1, 3, 48, 63]),
    ("vae_decoder", "sample", [1, 1, 48, 64]),
    ("vae_encoder", "latent_parameters", [1, 8, 6, 1]),
]


@pytest.mark.parametrize(("component", "output", "shape"), SHAPES)
def test_an_output_of_another_shape_is_one_sentence(
    package_copy: Path, component: str, output: str, shape: list[int]
) -> None:
    misshape(package_copy / component / "model.onnx", output, shape)
    rehash(package_copy)
    with ldm_runtime.load(package_copy, engine="ort") as pipe, pytest.raises(EngineError) as refused:
        pipe("red", seed=1, steps=2, image=Image.new("RGB", (64, 48)) if component == "vae_encoder" else None)
    made = f"made {output} as float32 of shape {tuple(shape)}, which is not what the contract says of "
    assert made in str(refused.value)


@pytest.mark.parametrize("shape", [[], [1, 4, 6, 8], [2, 4, 6, 9]])
def test_so_is_what_is_kept_for_the_next_rows(tmp_path: Path, shape: list[int]) -> None:
    package = cached_package.make(tmp_path / "cached")
    misshape(package / "unet/model.deep.onnx", KEPT, shape)
    rehash(package)
    with ldm_runtime.load(package, engine="ort", variant="cached") as pipe, pytest.raises(EngineError) as refused:
        pipe("red", seed=1, steps=4)
    assert f"made {KEPT} as float32 of shape {tuple(shape)}, which is not" in str(refused.value)


def test_what_is_kept_without_a_batch_is_made_anew_for_every_row() -> None:
    """A manifest may say that it is a single number: it has no images that the next row could ask for."""
    evaluated: list[str] = []

    class Parts:
        def open(self, component: str, artefact: str) -> SimpleNamespace:
            names = {"deep": ["sample"], "shallow": ["sample", KEPT]}[artefact]
            return SimpleNamespace(inputs=[SimpleNamespace(name=name) for name in names])

        def evaluate(self, component: str, feeds: Any, artefact: str) -> dict[str, np.ndarray]:
            evaluated.append(artefact)
            return {"out_sample": feeds["sample"], KEPT: np.array(1, np.float32)}

    features = DeepFeatures(cast(Components, Parts()), "unet", Caching(2, "deep", "shallow"))
    sample = {"sample": np.zeros((2, 4, 6, 8), np.float32)}
    for whole in (True, False):
        features.evaluate(sample, 2, whole=whole)
    assert evaluated == ["deep", "deep"]
