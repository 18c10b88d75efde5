"""Configs are read as diffusers' pipelines run them, not as the files say."""

import inspect
from typing import Any

import diffusers
import pytest
import torch

from ldm_export.checkpoint.pipeline_changes import scheduler_as_run
from ldm_export.checkpoint.scheduler import read_scheduler_config
from ldm_export.configs.vae import VAEConfig
from ldm_export.families.stable_diffusion import STABLE_DIFFUSION, unet_as_run
from ldm_runtime.sampling.solvers import read_sampler
from tests.oracles import TINY_UNET, tiny_unet, tiny_vae

DDIM = {"clip_sample": False, "steps_offset": 1}
PIPELINES = ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline")
SCHEDULERS: list[dict[str, Any]] = [
    {"_class_name": "PNDMScheduler"},
    {"_class_name": "PNDMScheduler", "skip_prk_steps": False, "steps_offset": 0},
    {"_class_name": "DDIMScheduler"},
    {"_class_name": "DDIMScheduler", "clip_sample": True, "steps_offset": 3},
    {"_class_name": "DDPMScheduler", "clip_sample": False},
    {"_class_name": "HeunDiscreteScheduler", "clip_sample": True},
    {"_class_name": "LCMScheduler", "clip_sample": True},
    {"_class_name": "EulerDiscreteScheduler", "clip_sample": True},
    {"_class_name": "FlowMatchEulerDiscreteScheduler"},
    {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "steps_offset": 0},
]

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def pipeline(name: str, **parts: Any) -> Any:
    """A pipeline of diffusers with some of its parts."""
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler", "safety_checker", "feature_extractor")
    return getattr(diffusers, name)(**dict.fromkeys(names) | parts, requires_safety_checker=False)


def unet(sample_size: int, version: str | None) -> Any:
    settings = {**TINY_UNET["sd15"], "sample_size": sample_size}
    return diffusers.UNet2DConditionModel.from_config(settings | ({"_diffusers_version": version} if version else {}))


@pytest.mark.parametrize("name", (*PIPELINES, "LatentConsistencyModelPipeline"))
@pytest.mark.parametrize("config", SCHEDULERS, ids=range(len(SCHEDULERS)))
def test_a_scheduler_is_read_as_the_pipeline_runs_it(name: str, config: dict[str, Any]) -> None:
    scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    run = dict(pipeline(name, scheduler=scheduler).scheduler.config)
    ours = scheduler_as_run(config, STABLE_DIFFUSION.pipelines[name])
    for key in {*ours} & {*run}:
        assert ours[key] == run[key], key
    if name == PIPELINES[0]:  # the other leaves clip_sample on, which some classes do not know
        read_scheduler_config(ours)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize(
    ("size", "version"),
    [(32, "0.6.0"), (16, "0.8.1"), (32, "0.8.0.dev0"), (32, "0.9.0"), (32, "0.9.0.dev0"), (32, "0.10.2"), (96, "0.6.0"),
     (32, "1.0"), (32, "0"), (64, "0.6.0"), (32, None)],
)  # fmt: skip
def test_a_small_sample_size_of_an_old_config_means_64(name: str, size: int, version: str | None) -> None:
    theirs = pipeline(name, unet=unet(size, version)).unet.config
    ours = unet_as_run({"sample_size": size} | ({"_diffusers_version": version} if version else {}))
    assert isinstance(ours, dict) and ours["sample_size"] == theirs["sample_size"]
    assert (ours["sample_size"] == 64) == (
        size == 64 or (size < 64 and version in ("0.6.0", "0.8.1", "0.8.0.dev0", "0"))
    )


def test_the_pipelines_pass_an_eta_of_zero_to_a_scheduler_that_would_take_another() -> None:
    scheduler = diffusers.TCDScheduler()
    assert inspect.signature(scheduler.step).parameters["eta"].default == 0.3
    for name in PIPELINES:
        pipe = pipeline(name, scheduler=scheduler)
        default = inspect.signature(type(pipe).__call__).parameters["eta"].default
        assert pipe.prepare_extra_step_kwargs(None, default)["eta"] == 0.0
    assert read_scheduler_config({"_class_name": "TCDScheduler"})[1] == read_sampler("tcd") == read_sampler("tcd:eta=0")


@pytest.mark.parametrize("kind", ["sd15", "inpaint"])
def test_the_latents_are_those_that_the_pipeline_gives_its_autoencoder(kind: str) -> None:
    """The pipelines of Stable Diffusion read a VAE's scale and not its shift, which those of SD 3 do."""
    vae = tiny_vae(kind, shift_factor=0.3, scaling_factor=0.7)
    name = PIPELINES[kind == "inpaint"]
    pipe = pipeline(name, vae=vae, unet=tiny_unet(kind), scheduler=diffusers.DDIMScheduler(**DDIM))
    pipe.set_progress_bar_config(disable=True)
    given: list[torch.Tensor] = []
    decode = vae.decode
    vae.decode = lambda latents, **options: given.append(latents) or decode(latents, **options)
    options: dict[str, Any] = {"latents": torch.randn(1, 4, 16, 16), "height": 32, "width": 32, "guidance_scale": 1.0}
    if kind == "inpaint":
        options |= {"image": torch.zeros(1, 3, 32, 32), "mask_image": torch.ones(1, 1, 32, 32)}
    options["prompt_embeds"] = torch.randn(1, 7, 24)
    last = pipe(**options, num_inference_steps=1, output_type="latent", generator=torch.manual_seed(3)).images
    pipe(**options, num_inference_steps=1, generator=torch.manual_seed(3))
    config = VAEConfig.from_dict({"_class_name": "AutoencoderKL", **vae.config})
    assert config.shift_factor == 0.3
    spec = STABLE_DIFFUSION.latent({"vae": config})
    assert torch.allclose(spec.unscaled(last), given[0], rtol=1e-6)


@pytest.mark.parametrize("config", [{}, [], None, {"sample_size": [32, 32], "_diffusers_version": "0.6.0"},
                                    {"sample_size": -8, "_diffusers_version": "0.6.0"},
                                    {"sample_size": 32, "_diffusers_version": "new"},
                                    {"sample_size": 32, "_diffusers_version": 5}])  # fmt: skip
def test_another_config_is_left_alone(config: object) -> None:
    assert unet_as_run(config) is config
