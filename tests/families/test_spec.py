"""The table that exporter, verifier and manifest read says the same to each of them."""

import dataclasses

import numpy as np
import pytest

from ldm_export.configs.text_encoder import TextEncoderConfig
from ldm_export.configs.unet import UNetConfig
from ldm_export.configs.vae import VAEConfig
from ldm_export.families.spec import ComponentSpec, TracedAxis
from ldm_export.families.stable_diffusion import STABLE_DIFFUSION

TEXT = TextEncoderConfig(hidden_size=768, num_attention_heads=12)
UNET = UNetConfig(cross_attention_dim=768)
VAE = VAEConfig(
    block_out_channels=(128, 256, 512, 512),
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
)


@pytest.fixture
def table() -> dict[str, ComponentSpec]:
    return STABLE_DIFFUSION.specs({"text_encoder": TEXT, "unet": UNET, "vae": VAE})


def test_names_are_those_of_optimum_onnx(table):
    names = {name: ([t.name for t in spec.inputs], [t.name for t in spec.outputs]) for name, spec in table.items()}
    assert names == {
        "text_encoder": (["input_ids"], ["last_hidden_state", "pooler_output"]),
        "unet": (["sample", "timestep", "encoder_hidden_states"], ["out_sample"]),
        "vae_encoder": (["sample"], ["latent_parameters"]),
        "vae_decoder": (["latent_sample"], ["sample"]),
    }


def test_no_probe_has_a_traced_size(table):
    for spec in table.values():
        assert len(spec.probes) == 3
        for probe in spec.probes:
            assert all(probe[axis] != spec.traced[axis] for axis in spec.axes)


def test_a_probe_at_a_traced_size_is_refused(table):
    spec = table["vae_decoder"]
    with pytest.raises(AssertionError):
        dataclasses.replace(spec, probes=({**spec.probes[0], "height": spec.traced["height"]},))


def test_an_axis_is_traced_within_its_range():
    with pytest.raises(AssertionError):
        TracedAxis(1, 8, traced=9)


def test_probes_cover_a_single_row_and_batches_and_a_single_token(table):
    for name, spec in table.items():
        assert {1, 2, 4} == {probe["batch"] for probe in spec.probes}, name
    assert any(probe["context_tokens"] == 1 for probe in table["unet"].probes)
    assert any(probe["tokens"] == TEXT.max_position_embeddings for probe in table["text_encoder"].probes)


def test_image_axes_follow_the_latent_ones(table):
    spec = table["vae_decoder"]
    sizes = {"batch": 2, "height": 5, "width": 12}
    assert spec.shape(spec.inputs[0], sizes) == (2, 4, 5, 12)
    assert spec.shape(spec.outputs[0], sizes) == (2, 3, 40, 96)
    assert spec.size_range("image_height") == (8, 8 * spec.size_range("height")[1])


def test_samples_have_the_declared_shapes_and_types(table):
    for spec in table.values():
        for probe in spec.probes:
            sample = spec.sample(probe, seed=0)
            assert list(sample) == [tensor.name for tensor in spec.inputs]
            for tensor in spec.inputs:
                assert sample[tensor.name].dtype == tensor.dtype
                assert sample[tensor.name].shape == spec.shape(tensor, probe)


def test_samples_depend_on_the_seed_alone(table):
    spec = table["unet"]
    first, again, other = (spec.sample(spec.probes[1], seed=seed) for seed in (7, 7, 8))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])


def test_every_row_of_tokens_ends_somewhere_inside_the_vocabulary(table):
    spec = table["text_encoder"]
    for seed, probe in enumerate(spec.probes):
        ids = spec.sample(probe, seed)["input_ids"]
        assert ((ids == TEXT.eos_token_id).sum(axis=1) >= 1).all()
        assert ids.min() >= 0 and ids.max() < TEXT.vocab_size


def test_latents_for_the_decoder_have_the_spread_it_was_trained_on(table):
    spec = table["vae_decoder"]
    values = spec.sample({"batch": 4, "height": 64, "width": 64}, seed=0)["latent_sample"]
    assert values.std() == pytest.approx(1 / VAE.scaling_factor, rel=0.01)


@pytest.mark.parametrize("window", [2, 3, 8, 77])
def test_any_text_window_has_a_traced_size_and_probes(window):
    text = dataclasses.replace(TEXT, max_position_embeddings=window)
    table = STABLE_DIFFUSION.specs({"text_encoder": text, "unet": UNET, "vae": VAE})
    assert 2 <= table["text_encoder"].traced["tokens"] <= window
    assert table["text_encoder"].probes and table["unet"].probes
