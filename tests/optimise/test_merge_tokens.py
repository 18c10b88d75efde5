"""Merged tokens beside the paper's algorithm in numpy, on a layer all of whose numbers are random."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.lossy.work import multiply_accumulates
from ldm_export.optimise.fuse_attention import fuse_attention
from ldm_export.optimise.matching import dims
from ldm_export.optimise.merge_tokens import MOST, merge_tokens
from ldm_export.optimise.remove_unused import remove_unused
from ldm_export.optimise.self_attention import self_attentions
from ldm_runtime.engines.ort.session import OrtEngine
from ldm_runtime.package.open import read_manifest
from tests.optimise.graphs import normal, operators, parse, run
from tests.optimise.test_cut_at import feeds_for
from tests.tiny_build import TinyBuild

C, HEADS = 8, 2
EPS = 1e-5
WEIGHTS = {
    "norm": 1 + normal(C, seed=1) / 4,
    "shift": normal(C, seed=2),
    "query": normal(C, C, seed=3),
    "key": normal(C, C, seed=4),
    "value": normal(C, C, seed=5),
    "out": normal(C, C, seed=6),
    "bias": normal(C, seed=7),
}
# image (B, H, W, C) -> y (B, H·W, C) = x + attention(norm(x))
BLOCK = """g (float[B, H, W, 8] image) => (float[B, N, 8] y) {
    flat = Constant<value = int64[3] {0, -1, 8}>()
    split = Constant<value = int64[4] {0, 0, 2, 4}>()
    join = Constant<value = int64[3] {0, 0, 8}>()
    scale = Constant<value = float {0.5}>()
    x = Reshape(image, flat)
    normed = LayerNormalization<axis = -1, epsilon = 1e-5>(x, norm, shift)
    q = MatMul(normed, query)
    k = MatMul(normed, key)
    v = MatMul(normed, value)
    q4 = Reshape(q, split)
    qh = Transpose<perm = [0, 2, 1, 3]>(q4)
    qs = Mul(qh, scale)
    k4 = Reshape(k, split)
    kh = Transpose<perm = [0, 2, 3, 1]>(k4)
    v4 = Reshape(v, split)
    vh = Transpose<perm = [0, 2, 1, 3]>(v4)
    scores = MatMul(qs, kh)
    p = Softmax<axis = -1>(scores)
    o = MatMul(p, vh)
    oh = Transpose<perm = [0, 2, 1, 3]>(o)
    o3 = Reshape(oh, join)
    projected = MatMul(o3, out)
    attended = Add(projected, bias)
    y = Add(attended, x)
}"""
SIZES = [(4, 4), (5, 6), (7, 3), (3, 3), (1, 5), (6, 1), (1, 1), (2, 2), (9, 8)]


def block(weights: Mapping[str, np.ndarray] = WEIGHTS, text: str = BLOCK) -> ir.Model:
    """The layer, with its tokens noted as the exporter notes them."""
    model = parse(text, weights)
    made = [value for node in model.graph for value in node.outputs]
    (unknown,) = {size for value in made if value.name == "x" for size in dims(value) or ()} - {"B", C}
    for value in made:
        sizes = dims(value)
        if sizes is not None:
            value.shape = ir.Shape(["H*W" if size in (unknown, "N") else size for size in sizes])
    return model


def merged(ratio: float, weights: Mapping[str, np.ndarray] = WEIGHTS, text: str = BLOCK) -> ir.Model:
    model, count = merge_tokens(block(weights, text), ratio)
    assert count == 1
    return model


def image(height: int, width: int, *, batch: int = 2, seed: int = 0) -> np.ndarray:
    return normal(batch, height, width, C, seed=10 + seed) + normal(C, seed=9)


# --- the paper's algorithm ---

Choice = tuple[list[int], list[int], list[list[int]]]


def choose(tokens: np.ndarray, height: int, width: int, count: int, *, cosine: bool = True) -> Choice:
    """Return for one image (N, C) its destinations, the sources that stay, and by destination what it takes in."""
    destinations = [row * width + column for row in range(0, height, 2) for column in range(0, width, 2)]
    sources = [place for place in range(height * width) if place not in destinations]
    unit = tokens / np.linalg.norm(tokens, axis=1, keepdims=True) if cosine else tokens
    nearest, likeness = {}, {}
    for source in sources:
        values = [float(unit[source] @ unit[destination]) for destination in destinations]
        nearest[source] = int(np.argmax(values))
        likeness[source] = max(values)
    ranked = sorted(sources, key=lambda source: -likeness[source])
    taken: list[list[int]] = [[] for _ in destinations]
    for source in ranked[:count]:
        taken[nearest[source]].append(source)
    return destinations, ranked[count:], taken


def attention(tokens: np.ndarray, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """Multi-head attention of tokens (N, C) to themselves, with its projections."""
    query, key, value = (tokens @ weights[name] for name in ("query", "key", "value"))
    heads = []
    for head in np.split(np.arange(C), HEADS):
        scores = query[:, head] @ key[:, head].T * 0.5
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        heads.append(shares / shares.sum(axis=1, keepdims=True) @ value[:, head])
    return np.concatenate(heads, axis=1) @ weights["out"] + weights["bias"]


def by_the_paper(
    pictures: np.ndarray,
    ratio: float,
    weights: Mapping[str, np.ndarray] = WEIGHTS,
    *,
    mean: bool = True,
    cosine: bool = True,
    more: int = 0,
) -> np.ndarray:
    """y (B, H·W, C) in float64. The options are mistakes: a sum, no cosine, so many tokens more or less."""
    batch, height, width, _ = pictures.shape
    x = pictures.reshape(batch, height * width, C).astype(np.float64)
    centred = x - x.mean(axis=2, keepdims=True)
    normed = (
        centred / np.sqrt(np.square(centred).mean(axis=2, keepdims=True) + EPS) * weights["norm"] + weights["shift"]
    )
    y = x.copy()
    for tokens, read, result in zip(x, normed, y, strict=True):
        count = round(100 * ratio) * len(tokens) // 100 + more
        destinations, single, taken = choose(tokens, height, width, count, cosine=cosine)
        groups = [[place, *more] for place, more in zip(destinations, taken, strict=True)] + [[each] for each in single]
        joined = [read[group].mean(axis=0) if mean else read[group].sum(axis=0) for group in groups]
        for group, made in zip(groups, attention(np.stack(joined), weights), strict=True):
            result[group] += made
    return y


def distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).max())


@pytest.mark.parametrize("ratio", [0.25, 0.5, MOST])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_it_is_the_paper_s(height: int, width: int, ratio: float):
    pictures = image(height, width)
    (y,) = run(merged(ratio), {"image": pictures})
    assert distance(y, by_the_paper(pictures, ratio)) < 2e-5


MISTAKES: dict[str, dict[str, Any]] = {
    "sum": {"mean": False},
    "no cosine": {"cosine": False},
    "one more": {"more": 1},
    "one less": {"more": -1},
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_noticed(mistake: dict[str, Any]):
    pictures = image(5, 6)
    (y,) = run(merged(0.5), {"image": pictures})
    assert distance(y, by_the_paper(pictures, 0.5, **mistake)) > 1e-2


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_weight_moves_what_comes_out(name: str):
    pictures = image(5, 6)
    other = {**WEIGHTS, name: WEIGHTS[name] * np.float32(1.05)}
    (y,) = run(merged(0.5, other), {"image": pictures})
    assert distance(y, by_the_paper(pictures, 0.5, other)) < 2e-5
    assert distance(y, by_the_paper(pictures, 0.5)) > 1e-3


@pytest.mark.parametrize(("height", "width"), [(3, 3), (1, 1), (2, 1)])
def test_where_nothing_is_merged_it_is_exact(height: int, width: int):
    """A tenth of nine tokens is none."""
    pictures = image(height, width)
    (exact,) = run(block(), {"image": pictures})
    np.testing.assert_allclose(run(merged(0.1), {"image": pictures})[0], exact, rtol=2e-6, atol=2e-6)


def test_merging_equal_tokens_is_exact():
    """Of windows of equal tokens one is left each, and each stands for four: the shares of attention are the same."""
    pictures = image(4, 5).repeat(2, axis=1).repeat(2, axis=2)
    (exact,) = run(block(), {"image": pictures})
    (y,) = run(merged(MOST), {"image": pictures})
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-5)
    pictures[:, 3, 4] = normal(C, seed=20)
    (exact,) = run(block(), {"image": pictures})
    assert distance(run(merged(MOST), {"image": pictures})[0], exact) > 1e-2


def test_images_of_a_batch_do_not_touch_one_another():
    pictures = image(5, 6, batch=3)
    (y,) = run(merged(0.5), {"image": pictures})
    for alone, one in zip(pictures, y, strict=True):
        np.testing.assert_allclose(run(merged(0.5), {"image": alone[None]})[0][0], one, rtol=1e-5, atol=1e-5)


def test_tokens_of_zeros_give_numbers():
    pictures = image(4, 4)
    pictures[0, 0:2, 1] = 0
    assert np.isfinite(run(merged(0.5), {"image": pictures})[0]).all()


# --- the graph ---


def test_a_second_time_changes_nothing():
    assert merge_tokens(merged(0.5), 0.25)[1] == 0


def test_merged_attention_is_fused():
    """Fused before or after, it is the same graph's numbers."""
    after, count = fuse_attention(merged(0.5))
    assert count == 1
    before, count = merge_tokens(remove_unused(fuse_attention(block())[0])[0], 0.5)
    assert count == 1
    for model in (remove_unused(after)[0], before):
        assert operators(model).count("MultiHeadAttention") == 1 and "Softmax" not in operators(model)
        for height, width in SIZES:
            pictures = image(height, width)
            assert distance(run(model, {"image": pictures})[0], by_the_paper(pictures, 0.5)) < 2e-5


def test_the_work_that_is_left_is_counted():
    """Of 24 tokens 12 are merged; 6 are destinations, 18 sources, which are compared."""
    sizes = {"B": 2, "H": 4, "W": 6}
    exact = 2 * (4 * 24 * C * C + 2 * 24 * 24 * C)
    assert multiply_accumulates(block(), sizes) == exact
    found = multiply_accumulates(merged(0.5), sizes)
    assert found == 2 * (4 * 12 * C * C + 2 * 12 * 12 * C + 18 * 6 * C + 12 * 6 * C) < exact


def test_few_tokens_are_left_alone():
    (attention_,) = self_attentions(block())
    sizes = {"B": 2, "H": 4, "W": 6}
    assert attention_.tokens(sizes) == 24
    assert merge_tokens(block(), 0.5, sizes, 25)[1] == 0
    assert merge_tokens(block(), 0.5, sizes, 24)[1] == 1


OTHERS = {
    "to a text": BLOCK.replace("image)", "image, float[B, T, 8] t)").replace("MatMul(normed, key)", "MatMul(t, key)"),
    "of a text": BLOCK.replace("H, W, 8] image", "T, 8] image").replace("Reshape(image, flat)", "Identity(image)"),
    "no attention": BLOCK.replace("Softmax<axis = -1>(scores)", "Sigmoid(scores)"),
    "no residual": BLOCK.replace("Add(attended, x)", "Identity(attended)"),
    "read elsewhere": BLOCK.replace("y) {", "y, float[B, N, 8] z) {").replace("    q4 =", "    z = Relu(q)\n    q4 ="),
    "of so many tokens": BLOCK.replace("int64[4] {0, 0, 2, 4}", "int64[4] {-1, 30, 2, 4}"),
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS.keys())
def test_what_only_resembles_it_is_left_alone(text: str):
    assert text != BLOCK
    model = parse(text, WEIGHTS)
    assert merge_tokens(model, 0.5)[1] == 0


@pytest.mark.parametrize("ratio", [0.0, -0.5, 0.76, 1.0, float("nan")])
def test_other_ratios_are_refused(ratio: float):
    with pytest.raises(ValueError, match="ratio of tokens to merge is"):
        merge_tokens(block(), ratio)


# --- whole networks ---


def merging_diffusers(network: Any, ratio: float) -> None:
    """Let every attention of the image to itself in diffusers' UNet read tokens merged by the paper's algorithm."""
    import torch
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    sides: list[tuple[int, int]] = []
    tokens: list[np.ndarray] = []

    def wrapped(forward: Callable[..., Any]) -> Callable[..., Any]:
        def merging(read: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
            made = []
            for x, one in zip(tokens[-1], read, strict=True):
                count = round(100 * ratio) * len(x) // 100
                destinations, single, taken = choose(x, *sides[-1], count)
                groups = [[place, *more] for place, more in zip(destinations, taken, strict=True)]
                groups += [[each] for each in single]
                joined = torch.stack([one[group].mean(dim=0) for group in groups])
                result = torch.zeros_like(one)
                for group, value in zip(groups, forward(joined[None], *arguments, **named)[0], strict=True):
                    result[group] = value
                made.append(result)
            return torch.stack(made)

        return merging

    for module in network.modules():
        if isinstance(module, Transformer2DModel):
            module.register_forward_pre_hook(lambda _, given: sides.append(tuple(given[0].shape[2:])))
        if isinstance(module, BasicTransformerBlock):
            module.norm1.register_forward_pre_hook(lambda _, given: tokens.append(given[0].double().numpy()))
            module.attn1.forward = wrapped(module.attn1.forward)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["model.onnx", "model.ort_cpu.onnx"])
@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl"])
def test_a_unet_is_diffusers_with_merged_tokens(
    tiny_build: Callable[[str], TinyBuild], tmp_path: Path, kind: str, form: str
):
    import torch
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention import BasicTransformerBlock

    built = tiny_build(kind)
    folder = Path(shutil.copytree(built.package / "unet", tmp_path / "unet"))
    feeds = feeds_for(read_manifest(built.package).contract.components["unet"])
    model, count = merge_tokens(read_graph(folder / form), 0.5)
    write_graph(model, folder / "merged.onnx")
    engine = OrtEngine(folder / "merged.onnx", threads=1)
    made = engine.run(feeds)["out_sample"]
    engine.close()
    network = UNet2DConditionModel.from_pretrained(built.source, subfolder="unet").eval()
    assert count == sum(isinstance(module, BasicTransformerBlock) for module in network.modules()) > 1
    tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
    added = {"text_embeds": tensors.get("text_embeds"), "time_ids": tensors.get("time_ids")}
    given = (tensors["sample"], tensors["timestep"], tensors["encoder_hidden_states"])
    kept = {name: value for name, value in added.items() if value is not None} or None
    with torch.no_grad():
        exact = network(*given, added_cond_kwargs=kept).sample.numpy()
        merging_diffusers(network, 0.5)
        expected = network(*given, added_cond_kwargs=kept).sample.numpy()
    np.testing.assert_allclose(made, expected, rtol=1e-3, atol=1e-4)
    assert distance(made, exact) > 10 * distance(made, expected)
