"""The reference itself: equal to diffusers, as tight as it claims, and refused when it is damaged."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from ldm_export.errors import ExportError
from ldm_export.precision.table import ROUNDING_FACTOR
from ldm_export.verify import evaluate, reference, reference_file, reference_rules
from ldm_export.verify.metrics import difference, psnr
from ldm_export.verify.reference_file import FILE, Reference
from ldm_runtime.errors import NonFiniteError, PackageError
from ldm_runtime.package import safetensors
from ldm_runtime.package.open import read_manifest
from tests.runtime.noise.philox import initial_noise


@pytest.fixture
def known(proven) -> Reference:
    return reference_file.read(proven("sd15") / FILE)


def changed(known: Reference, **changes) -> Reference:
    return dataclasses.replace(known, **changes)


def test_the_sampling_run_equals_diffusers(tiny_build, known):
    from diffusers import StableDiffusionPipeline

    run = known.trajectory
    pipe = StableDiffusionPipeline.from_pretrained(tiny_build("sd15").source)
    pipe.set_progress_bar_config(disable=True)
    assert run.sampler == "pndm:skip_prk_steps=true"  # what its scheduler_config.json names
    found = []
    image = pipe(
        run.prompt,
        negative_prompt=run.negative,
        num_inference_steps=run.steps,
        guidance_scale=run.guidance,
        width=run.size[0],
        height=run.size[1],
        latents=torch.from_numpy(initial_noise(run.seed, 1, run.latents.shape[1:])),
        output_type="pt",
        callback_on_step_end=lambda pipe, index, timestep, state: found.append(state["latents"]) or {},
    ).images
    assert len(found) == run.steps + 1
    for theirs, ours in zip(found, run.latents, strict=True):
        assert psnr(theirs[0].numpy(), ours) > 90
    ours = np.clip(run.image / 2 + 0.5, 0, 1)
    assert psnr(image[0].numpy(), ours) > 90


def test_every_probe_size_is_a_case_and_no_case_has_a_traced_size(tiny_build, known):
    for name, spec in tiny_build("sd15").specs.items():
        shapes = [case.inputs[spec.inputs[0].name].shape for case in known.cases if case.component == name]
        for probe in spec.probes:
            assert spec.shape(spec.inputs[0], probe) in shapes
        for case in known.cases:
            if case.component == name:
                for tensor in spec.inputs:
                    for dim, size in zip(tensor.dims, case.inputs[tensor.name].shape, strict=True):
                        assert dim not in spec.axes or size != spec.axes[dim].traced


def test_timesteps_are_at_both_ends_and_between_whole_numbers(known):
    timesteps = {float(case.inputs["timestep"]) for case in known.cases if case.component == "unet"}
    assert {0.0, 999.0} <= timesteps
    assert any(timestep != round(timestep) for timestep in timesteps)


def test_inputs_are_captured_from_the_sampling_run(known):
    captured = [case for case in known.cases if case.name.startswith("captured")]
    assert {case.component for case in captured} == {"text_encoder", "unet", "vae_encoder", "vae_decoder"}
    for case in captured:
        if case.component == "unet":
            assert case.inputs["timestep"] in known.trajectory.timesteps


def test_tolerances_are_within_the_table_and_near_float32(known):
    for case in known.cases:
        assert 0 < case.tolerance <= evaluate.EXACT.relative_rms <= 1e-5
    assert np.median([case.tolerance for case in known.cases]) < 4e-6
    assert known.trajectory.latents_floor >= 60
    assert known.trajectory.image_floor >= 60


def test_prompts_test_the_window_and_the_empty_text(known):
    assert "" in known.prompts
    facts, tokens = known.facts.tokenizers["text_encoder"], known.tokens["text_encoder"]
    assert tokens.shape == (len(known.prompts), facts.max_length)
    assert any(row[-1] == facts.eos_token_id and row[-2] != row[-1] for row in tokens)


def test_the_same_model_gives_the_same_reference(tiny_build, known, tmp_path):
    """Written and read, inputs and facts are equal; outputs to float32 rounding, whatever the threads did."""
    reference_file.write(tmp_path / "again.safetensors", known)
    again = reference_file.read(tmp_path / "again.safetensors")
    assert again.facts == known.facts and again.prompts == known.prompts
    for one, other in zip(again.cases, known.cases, strict=True):
        assert (one.component, one.name, one.tolerance) == (other.component, other.name, other.tolerance)
        for name in one.inputs:
            assert one.inputs[name].shape == other.inputs[name].shape
            np.testing.assert_array_equal(one.inputs[name], other.inputs[name])
        for name in one.outputs:
            np.testing.assert_array_equal(one.outputs[name], other.outputs[name])
    reference_file.write(tmp_path / "third.safetensors", again)
    assert (tmp_path / "third.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_a_model_that_gives_nan_itself_is_refused(tiny_build):
    spec = tiny_build("sd15").specs["vae_decoder"]
    model = tiny_build("sd15").checkpoint.load("vae")
    model.decoder.conv_in.bias = torch.nn.Parameter(torch.full_like(model.decoder.conv_in.bias, torch.nan))
    with pytest.raises(NonFiniteError, match="vae_decoder gives NaN"):
        evaluate.run_model(spec, model, spec.sample(spec.probes[0], seed=0))


def test_embeddings_that_float32_cannot_follow_are_made_smaller(tiny_build):
    """Sharp attention on random embeddings: each case still has a tolerance that a float32 engine can keep."""
    spec = tiny_build("sd15").specs["unet"]
    model = tiny_build("sd15").checkpoint.load("unet")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("attn2.to_q.weight"):
                weight *= 3000.0
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    requests = evaluate.seeded(spec, {"timestep": (0.0, 999.0, 500.37)}, "encoder_hidden_states")
    first = [evaluate.run_model(spec, model, request.inputs) for request in requests]
    said: list[str] = []
    cases = evaluate.evaluate(model, requests, said.append)
    assert said[0] == f"reference: unet in float32, case 1 of {len(requests)}"
    assert said[-1] == f"reference: unet in float64, case {len(requests)} of {len(requests)}"
    assert all(torch.equal(tensor.float(), before[name]) for name, tensor in model.state_dict().items())
    most = evaluate.EXACT.relative_rms
    calmed = []
    model.float()
    for request, case, output in zip(requests, cases, first, strict=True):
        factor = 1.0
        if "embeddings x " in case.name:
            factor = float(case.name.rpartition(" x ")[2])
            calmed.append(factor)
            assert evaluate.tolerance_of(output, _exact(spec, model, request.inputs)) > most
        expected = request.inputs[request.context] * np.float32(factor)
        np.testing.assert_array_equal(case.inputs[request.context], expected)
        rounded = evaluate.run_model(spec, model, case.inputs)
        # Embeddings are made no smaller than CALMEST: on CPUs with AVX-512 torch has half of its room left there.
        room = ROUNDING_FACTOR / (2 if factor == evaluate.CALMEST else 1)
        assert room * difference(rounded["out_sample"], case.outputs["out_sample"]).relative_rms <= most
    assert calmed and max(calmed) <= 0.5


def _exact(spec, model, inputs):
    exact = evaluate.run_model(spec, model.double(), inputs)
    model.float()
    return exact


def test_progress_is_said_after_a_pause_only(monkeypatch):
    now, said = [0.0], []
    monkeypatch.setattr(reference.time, "monotonic", lambda: now[0])
    say = reference.paced(said.append)
    for now[0] in (1.0, reference.PAUSE, reference.PAUSE + 1.0, 2.0 * reference.PAUSE):
        say(f"at {now[0]:g} s")
    assert said == ["at 10 s", "at 20 s"]


def test_a_reference_over_32_megabytes_is_not_written(known, tmp_path):
    large = dataclasses.replace(known.trajectory, image=np.zeros((3, 1024, 3072), np.float32))
    with pytest.raises(ExportError, match="32000000"):
        reference_file.write(tmp_path / "large.safetensors", changed(known, trajectory=large))
    assert not (tmp_path / "large.safetensors").exists()


def test_a_prompt_without_tokens_is_refused(known, tmp_path):
    few = {"text_encoder": np.zeros((1, 77), np.int64)}
    reference_file.write(tmp_path / "r.safetensors", changed(known, tokens=few))
    with pytest.raises(PackageError, match="one row of tokens per prompt"):
        reference_file.read(tmp_path / "r.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cases": ()}, "no case of text_encoder, unet, vae_decoder, vae_encoder"),
        ({"tokens": {}}, "has not the tokens of every text encoder"),
    ],
)
def test_an_incomplete_reference_is_refused(known, proven, change, message):
    contract = read_manifest(proven("sd15")).contract
    reference_rules.require_complete(known, contract)
    with pytest.raises(PackageError, match=message):
        reference_rules.require_complete(changed(known, **change), contract)


def test_a_run_with_a_step_missing_is_refused(known, tmp_path):
    short = dataclasses.replace(known.trajectory, latents=known.trajectory.latents[:-1])
    reference_file.write(tmp_path / "r.safetensors", changed(known, trajectory=short))
    with pytest.raises(PackageError, match="has not latents for each of its timesteps"):
        reference_file.read(tmp_path / "r.safetensors")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_reference_that_holds_nan_is_refused(known, tmp_path, bad):
    case = known.cases[0]
    name, array = next(iter(case.outputs.items()))
    spoiled = array.copy()
    spoiled.flat[0] = bad
    cases = (dataclasses.replace(case, outputs={**case.outputs, name: spoiled}), *known.cases[1:])
    reference_file.write(tmp_path / "r.safetensors", changed(known, cases=cases))
    with pytest.raises(PackageError, match="NaN or infinity"):
        reference_file.read(tmp_path / "r.safetensors")


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -1e-6, 1.01e-5])
def test_a_tolerance_that_passes_everything_or_nothing_is_refused(known, tmp_path, tolerance):
    cases = (dataclasses.replace(known.cases[0], tolerance=tolerance), *known.cases[1:])
    reference_file.write(tmp_path / "r.safetensors", changed(known, cases=cases))
    with pytest.raises(PackageError, match="tolerance"):
        reference_file.read(tmp_path / "r.safetensors")


RUNS = [
    ({"latents_floor": -1e308}, r"latents_floor -1e\+308; expected 60\.0 to 120\.0 dB"),
    ({"image_floor": 120.5}, r"image_floor 120\.5; expected 60\.0 to 120\.0 dB"),
    ({"steps": 1000}, r"latents of 21 evaluations, fewer than its 1000 steps"),
    ({"steps": 19}, r"latents of 21 evaluations, but pndm:skip_prk_steps=true with 19 steps makes 20"),
    ({"steps": 0}, r"has no plan: steps is 0; expected an integer from 1 to 1000"),
    ({"guidance": 1.0}, r"guidance 1\.0, its defaults have 7\.5"),
    ({"sampler": "ddim"}, r"the sampler 'ddim', its defaults have 'pndm:skip_prk_steps=true'"),
    ({"seed": -1}, r"the seed -1; expected 0 to"),
    ({"size": (16, 16)}, r"its image has the shape \[3, \d+, \d+\], but the size is 16x16"),
]


@pytest.mark.parametrize(("change", "message"), RUNS)
def test_a_run_that_is_not_one_of_the_package_is_refused(known, tmp_path, change, message):
    run = dataclasses.replace(known.trajectory, **change)
    reference_file.write(tmp_path / "r.safetensors", changed(known, trajectory=run))
    with pytest.raises(PackageError, match=message):
        reference_file.read(tmp_path / "r.safetensors")


def test_timesteps_are_those_of_the_plan(known, tmp_path):
    first, *others = known.trajectory.timesteps
    for timestep, is_same in ((first * (1 + 1e-9), True), (first + 0.01, False)):
        run = dataclasses.replace(known.trajectory, timesteps=(timestep, *others))
        reference_file.write(tmp_path / f"{is_same}.safetensors", changed(known, trajectory=run))
    reference_file.read(tmp_path / "True.safetensors")
    with pytest.raises(PackageError, match="evaluation 1 of its sampling run has the timestep"):
        reference_file.read(tmp_path / "False.safetensors")


def test_latents_have_the_size_of_the_run(known, tmp_path):
    run = dataclasses.replace(known.trajectory, latents=known.trajectory.latents[:, :, 1:])
    reference_file.write(tmp_path / "r.safetensors", changed(known, trajectory=run))
    with pytest.raises(PackageError, match="its latents have the shape"):
        reference_file.read(tmp_path / "r.safetensors")


def test_a_case_without_an_output_that_a_run_reads_is_refused(known, proven):
    contract = read_manifest(proven("sd15")).contract
    case = next(case for case in known.cases if case.component == "unet")
    other = dataclasses.replace(case, outputs={"another": next(iter(case.outputs.values()))})
    cases = tuple(other if each is case else each for each in known.cases)
    with pytest.raises(PackageError, match=f"case unet/{case.name} lacks the output {contract.denoiser.output}"):
        reference_rules.require_complete(changed(known, cases=cases), contract)


def rewritten(source, out, *, drop=None, add=None, header=None):
    """The file with a tensor less or more, or its metadata changed."""
    tensors = dict(safetensors.read(source))
    metadata = safetensors.read_header(source).metadata
    if drop is not None:
        del tensors[drop]
    if add is not None:
        tensors[add] = np.zeros(2, np.float32)
    if header is not None:
        value = json.loads(metadata["reference"]) | header
        metadata = {"reference": json.dumps(value)}
    safetensors.write(out, tensors, metadata)
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": "trajectory/latents"}, "lacks the tensor 'trajectory/latents'"),
        ({"add": "surplus"}, "no case names: .surplus"),
        ({"header": {"schema_version": 99}}, "schema_version 99"),
        ({"header": {"surprise": 1}}, "surprise"),
    ],
)
def test_a_reference_that_does_not_fit_its_header_is_refused(proven, tmp_path, change, message):
    out = rewritten(proven("sd15") / FILE, tmp_path / "r.safetensors", **change)
    with pytest.raises(PackageError, match=message):
        reference_file.read(out)


def test_a_file_of_weights_is_no_reference(proven):
    with pytest.raises(PackageError, match="it is not a reference"):
        reference_file.read(proven("sd15") / "unet" / "model.safetensors")
