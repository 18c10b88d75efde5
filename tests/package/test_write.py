"""A finished package: complete, honest about itself, a checkpoint again, and what optimum-onnx opens."""

import dataclasses
import hashlib
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import ldm_runtime
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.package import write
from ldm_export.package.write import UNLISTED, finish_package, with_files, with_proof, write_manifest
from ldm_export.recipes.build import BuildRecipe
from ldm_export.verify import reference_file
from ldm_export.verify.proven_contract import ProvenContract, digest
from ldm_export.verify.reference_file import Case, Facts, Reference, Trajectory
from ldm_export.verify.report import SCHEMA_VERSION, Report
from ldm_runtime.errors import PackageError
from ldm_runtime.package.manifest import Proof
from ldm_runtime.package.open import open_package, read_manifest
from ldm_runtime.sampling.plan import compile_plan
from tests.runtime.tiny_package import COMPONENTS

PROMPT, NEGATIVE = "red apple, 3d style", "blue"


def latents(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def copy(tiny_build, tmp_path) -> Path:
    """A copy of the tiny package that may be changed."""
    return Path(shutil.copytree(tiny_build("sd15").package, tmp_path / "package"))


@pytest.mark.parametrize("kind", ["sd15", "sd15-fp16", pytest.param("sd21", marks=pytest.mark.slow)])
def test_optimum_diffusers_and_the_runtime_draw_the_same_image(tiny_build, kind):
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from optimum.onnxruntime import ORTStableDiffusionPipeline

    built = tiny_build(kind)
    factor = built.checkpoint.configs["vae"].downsample
    noise = latents((1, 4, 48 // factor, 32 // factor))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch_pipe = StableDiffusionPipeline.from_pretrained(built.source, torch_dtype=torch.float32)
        onnx_pipe = ORTStableDiffusionPipeline.from_pretrained(built.package)
        pictures = []
        for pipe in (torch_pipe, onnx_pipe):
            pipe.scheduler = DDIMScheduler.from_config(torch_pipe.scheduler.config, clip_sample=False)
            pipe.set_progress_bar_config(disable=True)
            made = pipe(
                PROMPT,
                negative_prompt=NEGATIVE,
                num_inference_steps=4,
                guidance_scale=5.0,
                height=48,
                width=32,
                latents=noise.clone(),
                output_type="np",
            )
            pictures.append(made.images[0])
    assert np.abs(pictures[0] - pictures[1]).max() < 1e-4  # values are 0 to 1
    with ldm_runtime.load(built.package) as pipe:
        drawn = pipe(
            PROMPT,
            negative=NEGATIVE,
            steps=4,
            guidance=5.0,
            sampler="ddim",
            size=(32, 48),
            latents=noise.numpy(),
        )[0]
    levels = np.abs(np.asarray(drawn, np.float64) - 255.0 * pictures[0])
    assert levels.max() < 0.52  # half a level is the rounding to bytes


def test_the_generic_loader_of_optimum_knows_the_pipeline(tiny_build):
    from optimum.onnxruntime import ORTDiffusionPipeline

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = ORTDiffusionPipeline.from_pretrained(tiny_build("sd15").package)
    assert type(pipe).__name__ == "ORTStableDiffusionPipeline"


def test_every_file_is_listed_with_its_hash(tiny_build):
    package = tiny_build("sd15").package
    listed = read_manifest(package).files
    found = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert listed.keys() == {name for name in found if UNLISTED.fullmatch(name) is None}
    for name, entry in listed.items():
        content = (package / name).read_bytes()
        assert entry.size == len(content)
        assert entry.sha256 == hashlib.sha256(content).hexdigest()


def test_the_runtime_opens_it_with_full_checks(tiny_build):
    opened = open_package(tiny_build("sd15").package, check="full")
    opened.confirm()
    assert opened.manifest.components.keys() == set(COMPONENTS)


def test_one_changed_byte_is_noticed(copy):
    file = copy / "unet" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(PackageError, match="unet"):
        open_package(copy, check="full").confirm()


@pytest.mark.parametrize("kind", ["sd15", "sd15-fp16"])
def test_the_package_is_a_checkpoint_with_the_same_weights(tiny_build, kind):
    built = tiny_build(kind)
    again = open_checkpoint(built.package)
    assert again.configs == built.checkpoint.configs
    assert again.schedule == built.checkpoint.schedule
    for part in ("text_encoder", "unet", "vae"):
        wanted, got = (checkpoint.load(part, dtype=None).state_dict() for checkpoint in (built.checkpoint, again))
        assert wanted.keys() == got.keys()
        assert all(wanted[name].dtype == got[name].dtype for name in wanted)
        assert all(torch.equal(wanted[name], got[name]) for name in wanted)


def test_the_contract_is_the_checkpoints(tiny_build):
    built = tiny_build("sd15")
    contract = read_manifest(built.package).contract
    vae = built.checkpoint.configs["vae"]
    assert (contract.latent.channels, contract.latent.downsample) == (vae.latent_channels, vae.downsample)
    assert (contract.latent.scale, contract.latent.shift) == (vae.scaling_factor, 0.0)
    assert contract.schedule == built.checkpoint.schedule
    assert (contract.image.width, contract.image.height) == (32, 32)  # 16 latent pixels, twice as many
    for name, spec in built.specs.items():
        assert contract.components[name] == spec.contract
        for axis in (*spec.axes, *spec.multiples):
            assert contract.range_of(axis) == spec.size_range(axis)


def test_tokenizer_facts_are_transformers_own(tiny_build):
    from transformers import CLIPTokenizer

    for kind in ("sd15",):
        built = tiny_build(kind)
        facts = read_manifest(built.package).contract.text[0].tokenizer
        theirs = CLIPTokenizer.from_pretrained(built.source / "tokenizer")
        assert facts.max_length == theirs.model_max_length
        assert (facts.bos_token_id, facts.eos_token_id, facts.pad_token_id) == (
            theirs.bos_token_id,
            theirs.eos_token_id,
            theirs.pad_token_id,
        )


def test_provenance_names_source_and_tools(tiny_build):
    built = tiny_build("sd15")
    facts = read_manifest(built.package).provenance
    weights = built.source / "unet" / "diffusion_pytorch_model.safetensors"
    assert facts.source.sha256["unet/diffusion_pytorch_model.safetensors"] == (
        hashlib.sha256(weights.read_bytes()).hexdigest()
    )
    assert facts.tools["torch"] == torch.__version__
    assert facts.recipe["sampler"] == BuildRecipe().sampler
    assert (facts.opset, facts.ir_version) == (18, 10)


def test_licences_go_along_and_what_is_dropped_is_said(tiny_build, tmp_path):
    built = tiny_build("sd15")
    source = Path(shutil.copytree(built.source, tmp_path / "source"))
    (source / "LICENSE.md").write_text("Use it kindly.")
    index = json.loads((source / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (source / "model_index.json").write_text(json.dumps(index))
    package = tmp_path / "package"
    for name in COMPONENTS:
        shutil.copytree(built.package / name, package / name)
    made = finish_package(package, open_checkpoint(source), built.exports, recipe=BuildRecipe())
    assert made.dropped == ("safety_checker",)
    assert (package / "LICENSE.md").read_text() == "Use it kindly."
    assert "LICENSE.md" in made.files
    assert made.name == "source"


def test_a_recipe_that_no_package_can_keep_is_refused(tiny_build, tmp_path):
    built = tiny_build("sd15")
    package = tmp_path / "package"
    for name in COMPONENTS:
        shutil.copytree(built.package / name, package / name)
    with pytest.raises(PackageError, match="image"):
        finish_package(package, built.checkpoint, built.exports, recipe=BuildRecipe(width=33))
    assert not (package / "manifest.json").exists()


def write_reference(package: Path) -> None:
    """One case of every component, enough to say which sizes were compared."""
    contract = read_manifest(package).contract
    sizes = {"batch": 2, "tokens": 9, "context_tokens": 11, "height": 5, "width": 7}
    sizes |= {"image_height": 10, "image_width": 14}
    cases = []
    for component, tensors in contract.components.items():
        zeros = {
            tensor.name: np.zeros([sizes.get(dim, dim) for dim in tensor.dims], tensor.dtype)
            for tensor in (*tensors.inputs, *tensors.outputs)
        }
        made = {tensor.name: zeros.pop(tensor.name) for tensor in tensors.outputs}
        cases.append(Case(component, "one", 1e-6, zeros, made))
    defaults, latent = contract.defaults, contract.latent
    plan = compile_plan(contract.schedule, defaults.parsed_sampler, 1)
    trajectory = Trajectory(
        prompt="",
        negative="",
        seed=0,
        sampler=plan.sampler.canonical,
        steps=1,
        guidance=defaults.guidance,
        size=(latent.downsample, latent.downsample),
        timesteps=tuple(row.timestep for row in plan.rows),
        latents_floor=60.0,
        image_floor=60.0,
        latents=np.zeros((len(plan.rows), latent.channels, 1, 1), np.float32),
        image=np.zeros((3, latent.downsample, latent.downsample), np.float32),
    )
    tokenizers = {text.component: text.tokenizer for text in contract.text}
    facts = Facts(contract.latent, contract.schedule, contract.defaults, tokenizers)
    tokens = {name: np.zeros((1, contract.window), np.int64) for name in tokenizers}
    (package / "verify").mkdir()
    reference_file.write(package / reference_file.FILE, Reference(facts, ("",), tokens, tuple(cases), trajectory))


def report(*, passed: bool) -> Report:
    return Report(
        schema_version=SCHEMA_VERSION,
        package="tiny",
        engine="ort",
        passed=passed,
        facts=(),
        cases=(),
        trajectory=None,
        artefacts={},
        contract=ProvenContract(digest({}), {}),
    )


def test_the_reference_joins_the_files_and_the_proof_names_the_compared_sizes(copy):
    write_reference(copy)
    known = with_files(copy, read_manifest(copy))
    assert reference_file.FILE in known.files and known.proof == Proof(False, "verify/report.json", {})
    (copy / "verify" / "report.json").write_text("{}")
    made = with_proof(copy, with_files(copy, known), report(passed=True))
    assert made.proof.passed and "verify/report.json" not in made.files
    axes = made.contract.axes
    assert (axes["batch"].proven, axes["height"].proven, axes["image_width"].proven) == ((2,), (5,), (14,))
    assert (axes["tokens"].proven, axes["context_tokens"].proven) == ((9,), (11,))
    write_manifest(copy, made)
    assert read_manifest(copy) == made


def test_a_failed_report_proves_no_size(copy):
    write_reference(copy)
    made = with_proof(copy, with_files(copy, read_manifest(copy)), report(passed=False))
    assert not made.proof.passed
    assert all(axis.proven == () for axis in made.contract.axes.values())


def test_a_file_is_hashed_once(copy, monkeypatch):
    hashed: list[Path] = []
    real = write.sha256_of
    monkeypatch.setattr(write, "sha256_of", lambda path: hashed.append(path) or real(path))
    write_reference(copy)
    known = with_files(copy, read_manifest(copy))
    assert hashed == [copy / reference_file.FILE] and with_files(copy, known) == known
    assert len(hashed) == 1


def test_a_manifest_that_the_runtime_would_refuse_is_not_written(copy):
    before = (copy / "manifest.json").read_bytes()
    with pytest.raises(PackageError, match="name should not be empty"):
        write_manifest(copy, dataclasses.replace(read_manifest(copy), name=""))
    assert (copy / "manifest.json").read_bytes() == before
