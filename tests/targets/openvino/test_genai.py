"""The folder of OpenVINO GenAI: opened by GenAI itself, sharing our graphs' weights, and refused for other models."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import ldm_runtime
from ldm_export.cli.main import verbs
from ldm_export.errors import ExportError
from ldm_export.process.isolate import Outcome, run_isolated
from ldm_export.targets import TARGETS
from ldm_export.targets.openvino import build as openvino_build
from ldm_export.targets.openvino.genai import check_genai, scheduler_config, share_weights, write_integer_timestep
from ldm_export.targets.openvino.graph import convert
from ldm_export.verify.gate import prove_package
from ldm_runtime.engines.openvino.library import import_openvino, read_graph
from ldm_runtime.errors import EngineUnavailable, InputError
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.open import open_package, read_manifest
from ldm_runtime.sampling.schedule import FlowSchedule
from tests.runtime.tiny_package import COMPONENTS
from tests.targets.building import add, order

PROMPT = "red apple, 3d style " * 40  # more than a window: what is cut off is a part of the test

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def built(request, proven, tmp_path_factory) -> Path:
    package = tmp_path_factory.mktemp(request.param) / "package"
    shutil.copytree(proven("sd15"), package)
    stages = add(package, "openvino", precision=request.param, genai=True)
    assert [name for name, _, _ in stages] == [f"openvino {name}" for name in (*COMPONENTS, "unet for GenAI")]
    return package


@pytest.fixture(scope="module")
def contract(proven) -> Contract:
    return read_manifest(proven("sd15")).contract


def test_the_weights_lie_in_the_package_once(built):
    manifest = read_manifest(built)
    for name in COMPONENTS:
        graph = manifest.components[name].artefacts[-1]
        assert graph.files == (f"openvino/{name}/openvino_model.xml", f"openvino-genai/{name}/openvino_model.bin")
        assert [file.name for file in (built / "openvino" / name).iterdir()] == ["openvino_model.xml"]
    assert len(list(built.rglob("*.bin"))) == len(COMPONENTS) + 1  # the tokenizer's
    open_package(built, check="full").confirm()


def test_our_own_graph_is_the_one_without_the_option_and_passes_the_gate(built, tmp_path):
    manifest = read_manifest(built)
    precision = manifest.components["unet"].artefacts[-1].precision
    run_isolated(convert, built / "unet/model.onnx", tmp_path / "unet.xml", precision)
    assert (tmp_path / "unet.xml").read_bytes() == (built / "openvino/unet/openvino_model.xml").read_bytes()
    assert (tmp_path / "unet.bin").read_bytes() == (built / "openvino-genai/unet/openvino_model.bin").read_bytes()
    report = prove_package(built, manifest, engine="openvino")
    assert report.passed, report.failures
    assert {case.artefact for case in report.cases} == {"canonical", "openvino"}


def test_genais_unet_alone_has_a_timestep_of_its_own_kind(built):
    def kind(graph: str, weights: Path | None = None) -> tuple[type, list[int]]:
        (port,) = [port for port in read_graph(built / graph, weights).inputs if "timestep" in port.get_names()]
        return port.get_element_type().to_dtype().type, list(port.get_shape())

    weights = built / "openvino-genai/unet/openvino_model.bin"
    assert kind("openvino/unet/openvino_model.xml", weights) == (np.float32, [])
    assert kind("openvino-genai/unet/openvino_model.xml") == (np.int64, [1])
    for name in set(COMPONENTS) - {"unet"}:
        ours, theirs = (built / folder / name / "openvino_model.xml" for folder in ("openvino", "openvino-genai"))
        assert ours.read_bytes() == theirs.read_bytes()


def test_the_process_that_maps_the_weights_leaves_them_where_they_are(proven, tmp_path):
    """Windows removes no file that is mapped."""
    convert(proven("sd15") / "unet/model.onnx", tmp_path / "unet.xml", "fp32")
    write_integer_timestep(tmp_path / "unet.xml", "timestep", tmp_path / "genai.xml")
    own, theirs = tmp_path / "unet.bin", tmp_path / "genai.bin"
    assert own.read_bytes() == theirs.read_bytes()
    share_weights(own, theirs)
    assert theirs.exists() and not own.exists()


def test_weights_that_openvino_stores_otherwise_are_not_shared(tmp_path):
    own, theirs = tmp_path / "own.bin", tmp_path / "theirs.bin"
    own.write_bytes(b"12345678")
    theirs.write_bytes(b"12345679")
    with pytest.raises(ExportError, match=r"OpenVINO 20.* stores other weights .*build without --genai"):
        share_weights(own, theirs)
    assert own.exists()


def test_openvinos_own_format_needs_no_tokenizers(proven, tmp_path, monkeypatch):
    """One of its graphs is made and measured in this process, where OpenVINO Tokenizers is not installed."""
    monkeypatch.setitem(sys.modules, "openvino_tokenizers", None)
    monkeypatch.setattr(openvino_build, "run_isolated", lambda call, *args: Outcome(call(*args), 0, 0.0))
    package, name = tmp_path / "package", "vae_decoder"
    shutil.copytree(proven("sd15"), package)
    manifest = read_manifest(package)
    one = replace(manifest, components={name: manifest.components[name]})
    target = TARGETS["openvino"]
    made = target.build(target.check(order(package, "openvino")), package, one, lambda text: None)
    assert [artefact.exactness for artefact in made.artefacts[name]] == ["exact"]


@pytest.fixture(scope="module")
def pipeline(built, tmp_path_factory):
    import_openvino()
    import openvino_genai

    alone = tmp_path_factory.mktemp("alone") / "model"  # the folder is complete in itself
    shutil.copytree(built / "openvino-genai", alone)
    return openvino_genai.Text2ImagePipeline(str(alone), "CPU", INFERENCE_PRECISION_HINT="f32")


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_genai_draws_the_same_image_from_the_same_noise(built, pipeline, guidance):
    """GenAI cuts to whole levels where this runtime rounds, so one level may differ, and the rounding of both."""
    import openvino
    import openvino_genai

    contract = open_package(built).manifest.contract
    factor = contract.latent.downsample
    noise = np.random.default_rng(7).standard_normal((1, contract.latent.channels, 6, 8)).astype(np.float32)

    class Given(openvino_genai.Generator):
        def __init__(self):
            super().__init__()

        def randn_tensor(self, shape):
            assert tuple(shape) == noise.shape
            return openvino.Tensor(np.ascontiguousarray(noise))

    size = (8 * factor, 6 * factor)
    options = {"negative_prompt": "blue"} if guidance > 1 else {}
    sampler = json.loads((built / "openvino-genai/scheduler/scheduler_config.json").read_text())["_class_name"]
    assert sampler == "PNDMScheduler"
    drawn = pipeline.generate(
        PROMPT,
        width=size[0],
        height=size[1],
        num_inference_steps=5,
        guidance_scale=guidance,
        generator=Given(),
        **options,
    ).data[0]
    with ldm_runtime.load(built, engine="openvino") as pipe:
        negative = {"negative": "blue"} if guidance > 1 else {}
        steps = list(pipe.sample(PROMPT, sampler="plms", steps=5, guidance=guidance, latents=noise, **negative))
        exact = (steps[-1].decode()[0].transpose(1, 2, 0) / 2 + 0.5).clip(0, 1) * 255
    assert drawn.shape == exact.shape
    assert np.abs(drawn + 0.5 - exact).max() < 0.5 + 0.2
    assert exact.std() > 5


@pytest.fixture(scope="module")
def built_xl(proven, tmp_path_factory) -> Path:
    package = tmp_path_factory.mktemp("sdxl") / "package"
    shutil.copytree(proven("sdxl"), package)
    add(package, "openvino", genai=True)
    return package


@pytest.mark.parametrize("negative", [None, "blue"])
def test_genai_draws_sdxl(built_xl, negative):
    """The images are square, for GenAI tells the UNet the width before the height, unlike diffusers."""
    import_openvino()
    import openvino
    import openvino_genai

    noise = np.random.default_rng(7).standard_normal((1, 4, 8, 8)).astype(np.float32)

    class Given(openvino_genai.Generator):
        def __init__(self):
            super().__init__()

        def randn_tensor(self, shape):
            assert tuple(shape) == noise.shape
            return openvino.Tensor(np.ascontiguousarray(noise))

    theirs = openvino_genai.Text2ImagePipeline(str(built_xl / "openvino-genai"), "CPU", INFERENCE_PRECISION_HINT="f32")
    options = {} if negative is None else {"negative_prompt": negative}
    drawn = theirs.generate(
        PROMPT, width=32, height=32, num_inference_steps=5, guidance_scale=4.0, generator=Given(), **options
    ).data[0]
    with ldm_runtime.load(built_xl, engine="openvino") as pipe:
        *_, last = pipe.sample(PROMPT, negative=negative, steps=5, guidance=4.0, latents=noise)
        exact = (last.decode()[0].transpose(1, 2, 0) / 2 + 0.5).clip(0, 1) * 255
    assert np.abs(drawn + 0.5 - exact).max() < 0.5 + 0.2
    assert exact.std() > 5


@pytest.mark.parametrize(
    ("sampler", "name", "missing"),
    [
        ("ddim", "DDIMScheduler", False),
        ("plms", "PNDMScheduler", False),
        ("euler_ancestral", "EulerAncestralDiscreteScheduler", False),
        ("pndm", "DDIMScheduler", True),
        ("dpmpp_2m_karras", "DDIMScheduler", True),
        ("euler:sigmas=karras", "DDIMScheduler", True),
    ],
)
def test_the_scheduler_is_one_that_genai_has(contract, sampler, name, missing):
    config, notice = scheduler_config(replace(contract, defaults=replace(contract.defaults, sampler=sampler)))
    assert (config["_class_name"], config["clip_sample"] if name == "DDIMScheduler" else False) == (name, False)
    expected = f"OpenVINO GenAI does not have {sampler}; the folder openvino-genai says ddim" if missing else None
    assert notice == expected


def test_models_that_genai_cannot_draw_from_are_refused_before_the_work(contract):
    check_genai(contract)
    denoiser = replace(contract.denoiser, extra={"time_ids": "image_sizes"})
    cosine = replace(contract.schedule, beta_schedule="squaredcos_cap_v2")
    for changed, message in (
        (
            replace(contract, text=contract.text * 2),
            "has the text encoders text_encoder, text_encoder; OpenVINO GenAI cannot draw from it",
        ),
        (replace(contract, denoiser=denoiser), "has a UNet with the inputs time_ids"),
        (replace(contract, concat=("mask", "masked_latents")), "is for inpainting"),
        (replace(contract, schedule=cosine), "has a noise schedule that GenAI does not know"),
        (replace(contract, schedule=FlowSchedule(1000, 3.0, None)), "has a noise schedule that GenAI does not know"),
    ):
        with pytest.raises(InputError, match=f"--genai: this model {message}.*leave --genai out"):
            check_genai(changed)


def test_what_is_not_installed_is_said_before_the_work(contract, tiny_build, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino_tokenizers", None)
    with pytest.raises(EngineUnavailable, match="OpenVINO Tokenizers cannot be imported"):
        check_genai(contract)
    build = ["build", str(tiny_build("sd15").source), "--target", "openvino", "--genai", "--out", str(tmp_path / "p")]
    result = CliRunner().invoke(verbs, build)
    assert result.exit_code == 1 and "pip install 'ldm-export[openvino]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_option_without_its_target_is_refused(tiny_build, tmp_path):
    build = ["build", str(tiny_build("sd15").source), "--genai", "--out", str(tmp_path / "p")]
    result = CliRunner().invoke(verbs, build)
    assert (
        result.exit_code == 1
        and "--genai (openvino.genai) needs the target openvino: add --target openvino" in result.stderr
    )
