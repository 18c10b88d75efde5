"""Deep features cut out of UNets of every family: the same numbers again, less work, and nothing of another place."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from ldm_export.errors import ExportError
from ldm_export.export.graph_file import read_graph, write_graph
from ldm_export.optimise.cut_at import KEPT, cut_depths, deep_and_shallow
from ldm_runtime.engines.ort.session import OrtEngine
from ldm_runtime.package.open import read_manifest
from ldm_runtime.package.tensor_spec import ComponentContract
from tests.once import make_once
from tests.optimise.graphs import normal, parse
from tests.oracles import build_tiny_sd
from tests.tiny_build import TinyBuild, packaged

BUILTIN = Path(__file__).parents[2] / "runtime/ldm_runtime/builtin"
FORMS = ("model.onnx", "model.ort_cpu.onnx")
DEPTHS = {"sd15": 2, "sd21": 3, "sdxl": 2, "inpaint": 2}  # residual blocks of the last up block
SIZES = {"batch": 2, "height": 5, "width": 6}  # odd sides too: on the way up the size is the skip's

Build = Callable[[str], TinyBuild]
Feeds = dict[str, np.ndarray]


def feeds_for(contract: ComponentContract) -> Feeds:
    made = {}
    for index, spec in enumerate(contract.inputs):
        made[spec.name] = normal(*(dim if isinstance(dim, int) else SIZES.get(dim, 7) for dim in spec.dims), seed=index)
    return {**made, "timestep": np.array(321.0, np.float32)}


def run(folder: Path, model: ir.Model, feeds: Feeds) -> Feeds:
    """Run a graph beside the weights in `folder`, with those of the feeds that it reads."""
    write_graph(model, folder / "trial.onnx")
    engine = OrtEngine(folder / "trial.onnx", threads=1)
    outputs = engine.run({spec.name: feeds[spec.name] for spec in engine.inputs})
    engine.close()
    return outputs


@pytest.fixture
def unet(tmp_path: Path) -> Path:
    """The UNet of the built-in model, whose graphs a test may lie down beside."""
    return Path(shutil.copytree(BUILTIN / "unet", tmp_path / "unet"))


def require_same(folder: Path, feeds: Feeds, form: str) -> list[np.ndarray]:
    """Cut at every depth: what comes out is the same to the bit. Returns what was kept, by depth."""
    model = read_graph(folder / form)
    before = ir.to_proto(model).SerializeToString()
    (exact,) = run(folder, model, feeds).values()
    kept = []
    for depth in range(1, cut_depths(model) + 1):
        deep, shallow = deep_and_shallow(model, depth)
        whole = run(folder, deep, feeds)
        read = run(folder, shallow, {**feeds, KEPT: whole[KEPT]})
        np.testing.assert_array_equal(whole["out_sample"], exact)
        np.testing.assert_array_equal(read["out_sample"], exact)
        require_shallow(shallow, depth)
        kept.append(whole[KEPT])
    assert ir.to_proto(model).SerializeToString() == before
    return kept


def require_shallow(model: ir.Model, depth: int) -> None:
    """Nothing of the deep part is left: no product of it, and no weight that no node reads."""
    products = {str(node.name) for node in model.graph if node.op_type in ("Conv", "MatMul", "MultiHeadAttention")}
    blocks = {name.split(".resnets")[0].split(".attentions")[0] for name in products if "blocks" in name}
    assert not any("mid_block" in name or "upsampler" in name or "downsampler" in name for name in products)
    assert {block for block in blocks if block.startswith("down")} <= {"down_blocks.0"}
    assert len({block for block in blocks if block.startswith("up")}) == 1
    assert len({name.split("/")[0] for name in products if name.startswith("up") and "conv1" in name}) == depth
    assert all(value.uses() for value in (*model.graph.initializers.values(), *model.graph.inputs))


@pytest.mark.parametrize("form", FORMS)
def test_the_built_in_model_computes_the_same(unet: Path, form: str):
    contract = read_manifest(BUILTIN).contract.components["unet"]
    feeds = feeds_for(contract)
    kept = require_same(unet, feeds, form)
    assert [value.shape for value in kept] == [(2, 96, 5, 6), (2, 160, 5, 6)]


@pytest.fixture(scope="session")
def with_guidance_embedding(tmp_path_factory: pytest.TempPathFactory) -> TinyBuild:
    """A latent consistency model, whose UNet reads the guidance as one more input."""

    def make(folder: Path) -> TinyBuild:
        return packaged(folder, build_tiny_sd(folder / "source", unet={"time_cond_proj_dim": 32}))

    return make_once(tmp_path_factory, "sd15-guidance-embedding", make)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*DEPTHS, "lcm"])
def test_every_family_keeps_what_its_residual_blocks_read(
    tiny_build: Build, request: pytest.FixtureRequest, tmp_path: Path, kind: str
):
    """What is kept is the first part of what diffusers' residual block is given; the rest is the skip."""
    import torch
    from diffusers import UNet2DConditionModel

    built: TinyBuild = request.getfixturevalue("with_guidance_embedding") if kind == "lcm" else tiny_build(kind)
    folder = Path(shutil.copytree(built.package / "unet", tmp_path / "unet"))
    feeds = feeds_for(read_manifest(built.package).contract.components["unet"])
    oracle = UNet2DConditionModel.from_pretrained(built.source, subfolder="unet").eval()
    seen: list[torch.Tensor] = []
    for resnet in reversed(oracle.up_blocks[-1].resnets):
        resnet.register_forward_pre_hook(lambda _, arguments: seen.insert(0, arguments[0]))
    texts = {"text_embeds": "pooled_projections", "time_ids": "time_ids"}
    tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
    added = {ours: tensors[name] for ours, name in _added(tensors, texts).items()}
    with torch.no_grad():
        oracle(
            tensors["sample"],
            tensors["timestep"],
            tensors["encoder_hidden_states"],
            timestep_cond=tensors.get("timestep_cond"),
            added_cond_kwargs=added or None,
        )
    for form in FORMS:
        kept = require_same(folder, feeds, form)
        assert len(kept) == DEPTHS.get(kind, 2)
        for value, given in zip(kept, seen, strict=True):
            np.testing.assert_allclose(value, given[:, : value.shape[1]].numpy(), rtol=1e-3, atol=1e-4)


def _added(tensors: dict[str, object], names: dict[str, str]) -> dict[str, str]:
    """Return diffusers' names of SDXL's inputs -> the graph's."""
    return {theirs: name for theirs, own in names.items() for name in (theirs, own) if name in tensors}


def test_what_another_place_made_is_seen(tiny_build: Build, tmp_path: Path):
    """Features of one residual block further down, of the same shape."""
    built = tiny_build("sd21")
    folder = Path(shutil.copytree(built.package / "unet", tmp_path / "unet"))
    feeds = feeds_for(read_manifest(built.package).contract.components["unet"])
    model = read_graph(folder / "model.onnx")
    exact = run(folder, model, feeds)["out_sample"]
    wrong = run(folder, deep_and_shallow(model, 2)[0], feeds)[KEPT]
    drawn = run(folder, deep_and_shallow(model, 1)[1], {**feeds, KEPT: wrong})["out_sample"]
    assert drawn.shape == exact.shape
    assert np.sqrt(np.mean((drawn - exact) ** 2)) > 0.05 * np.sqrt(np.mean(exact**2))


def test_a_graph_without_up_blocks_is_refused():
    model = parse("g (float[B, 3] x) => (float[B, 3] y) { y = Relu(x) }")
    assert cut_depths(model) == 0
    with pytest.raises(ExportError, match="this denoiser has no up block to cut at"):
        deep_and_shallow(model, 1)


@pytest.mark.parametrize("depth", [0, 3])
def test_a_depth_that_is_not_there_is_refused(depth: int):
    model = read_graph(BUILTIN / "unet/model.onnx")
    with pytest.raises(
        ExportError, match=rf"depth to cut at is {depth}, but .* has 2 residual blocks; expected 1 to 2"
    ):
        deep_and_shallow(model, depth)


def test_sizes_that_no_input_has_are_refused():
    model = read_graph(BUILTIN / "unet/model.onnx")
    for node in model.graph:
        if node.name == "up_blocks.2/Concat_2":
            node.inputs[0].shape = ir.Shape(["batch", 96, "half", "width"])
    with pytest.raises(ExportError, match=r"has the sizes \(batch, 96, half, width\) in FLOAT; expected FLOAT and"):
        deep_and_shallow(model, 1)
