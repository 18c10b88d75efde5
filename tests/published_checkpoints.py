"""What published checkpoints are made of, in small: pipeline, configs, scheduler, and its use.

The configs are those of the repositories, or of what one is known to consist of. The use is an estimate of how much a
checkpoint and its fine-tunes are drawn with: together 189.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.published_configs import TEXT_ENCODER, UNET, VAE

Config = dict[str, Any]

BETAS: Config = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}
PNDM: Config = {
    "_class_name": "PNDMScheduler",
    **BETAS,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
DDIM: Config = {
    "_class_name": "DDIMScheduler",
    **BETAS,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
EULER: Config = {"_class_name": "EulerDiscreteScheduler", **BETAS, "steps_offset": 1, "use_karras_sigmas": False}
EULER_A: Config = {**EULER, "_class_name": "EulerAncestralDiscreteScheduler"}
DEIS: Config = {"_class_name": "DEISMultistepScheduler", **BETAS, "solver_order": 2}
KARRAS: Config = {"_class_name": "DPMSolverMultistepScheduler", **BETAS, "use_karras_sigmas": True}
LCM: Config = {"_class_name": "LCMScheduler", **BETAS, "original_inference_steps": 50}
TCD: Config = {"_class_name": "TCDScheduler", **BETAS, "original_inference_steps": 50}
EDM: Config = {
    "_class_name": "EDMDPMSolverMultistepScheduler",
    "sigma_data": 0.5,
    "sigma_min": 0.002,
    "sigma_max": 80.0,
}
V: Config = {"prediction_type": "v_prediction"}
ZERO_SNR: Config = {**V, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
TRAILING: Config = {"timestep_spacing": "trailing"}

ATTENTION, UP_ATTENTION = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
ONE_LAYER: Config = {"layers_per_block": 1, "mid_block_type": "UNetMidBlock2DCrossAttn"}
THREE_LEVELS: Config = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": [ATTENTION] * 3,
    "up_block_types": [UP_ATTENTION] * 3,
    "layers_per_block": 1,
    "mid_block_type": None,
}
EMA: Config = {name: UNET["sdxl_inpaint"][name] for name in ("decay", "inv_gamma", "min_decay", "optimization_step")}
EMA |= {"power": 0.75, "update_after_step": 0, "use_ema_warmup": False}
TAESD = VAE["taesd"]
ASYMMETRIC: Config = {
    "_class_name": "AsymmetricAutoencoderKL",
    "down_block_out_channels": [128, 256, 512, 512],
    "up_block_out_channels": [192, 384, 768, 768],
    "latent_channels": 4,
}
REFINER_UNET: Config = {
    "attention_head_dim": [6, 12, 24, 24],
    "block_out_channels": [384, 768, 1536, 1536],
    "cross_attention_dim": 1280,
    "down_block_types": ["DownBlock2D", ATTENTION, ATTENTION, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", UP_ATTENTION, UP_ATTENTION, "UpBlock2D"],
    "projection_class_embeddings_input_dim": 2560,
    "transformer_layers_per_block": 4,
}
PLAYGROUND_VAE: Config = {
    "scaling_factor": 0.5,
    "latents_mean": [-1.6574, 1.886, -1.383, 2.5155],
    "latents_std": [8.4927, 5.9022, 6.5498, 5.2299],
}


@dataclass(frozen=True)
class Published:
    """One row: a checkpoint as the folder of a diffusers pipeline, and what `build` is told besides.

    use: 0 where another row counts it. parts: folder -> config.json. beside: more components of its model_index.json.
    elsewhere: part -> config.json of the folder that `--unet` or `--vae` names; None: a file of weights alone.
    few_step: the kind that `--few-step` names.
    """

    name: str
    architecture: str
    use: int
    pipeline: str
    parts: Mapping[str, Config]
    scheduler: Config
    beside: tuple[str, ...] = ()
    tokenizers: tuple[str, ...] = field(default=("tokenizer",))
    elsewhere: Mapping[str, Config | None] = field(default_factory=dict)
    few_step: str | None = None


def _row(
    base: str, name: str, use: int, scheduler: Config, pipeline: str, what: str, unet: Config, vae: Config, **more: Any
) -> Published:
    replaced = "_class_name" in vae  # an autoencoder of its own, or changes
    parts = {
        "unet": UNET[base] | unet,
        "vae": vae if replaced else VAE[base] | vae,
        "text_encoder": TEXT_ENCODER[base] | more.pop("text", {}),
    }
    if base == "sdxl":
        parts["text_encoder_2"] = TEXT_ENCODER["sdxl_2"]
        more.setdefault("tokenizers", ("tokenizer", "tokenizer_2"))
    for part in more.pop("without", ()):
        del parts[part]
    return Published(name, what, use, pipeline, parts, scheduler, **more)


def sd1(
    name: str, use: int, scheduler: Config = PNDM, pipeline: str = "StableDiffusionPipeline", **more: Any
) -> Published:
    what, unet, vae = more.pop("what", "SD1"), more.pop("unet", {}), more.pop("vae", {})
    more.setdefault("beside", ("safety_checker", "feature_extractor"))
    return _row("sd15", name, use, scheduler, pipeline, what, unet, vae, **more)


def sd2(
    name: str, use: int, scheduler: Config = DDIM, pipeline: str = "StableDiffusionPipeline", **more: Any
) -> Published:
    what, unet, vae = more.pop("what", "SD2"), more.pop("unet", {}), more.pop("vae", {})
    return _row("sd21", name, use, scheduler, pipeline, what, unet, vae, **more)


def sdxl(
    name: str, use: int, scheduler: Config = EULER, pipeline: str = "StableDiffusionXLPipeline", **more: Any
) -> Published:
    what, unet, vae = more.pop("what", "SDXL"), more.pop("unet", {}), more.pop("vae", {})
    return _row("sdxl", name, use, scheduler, pipeline, what, unet, vae, **more)


def beside_sdxl(name: str, use: int, kind: str, unet: Config | None = None, what: str = "SDXL, few steps") -> Published:
    """Return the row of a distilled UNet, a file or a folder, that is drawn with beside SDXL base."""
    return sdxl(f"{name} (UNet beside a base)", use, what=what, elsewhere={"unet": unet}, few_step=kind)


CUT: Config = {"mid_block_type": "UNetMidBlock2D"}

PUBLISHED: tuple[Published, ...] = (
    sd1("SD 1.5", 16),
    sd1("SD 1.4", 8),
    sd1("Realistic Vision 5.1, 6", 4, DDIM),
    sd1("DreamShaper 8", 4, DEIS),
    sd1("Anything v3 to v5, Counterfeit", 4, DDIM),
    sd1("anime fine-tunes with a cut text encoder", 2, EULER_A, text={"num_hidden_layers": 11}),
    sd1("fine-tunes saved with DPM++ 2M Karras", 2, KARRAS),
    sd1(
        "SD 1.5 inpainting",
        8,
        pipeline="StableDiffusionInpaintPipeline",
        unet={"in_channels": 9},
        what="SD1, 9 channels",
    ),
    sd1("small-sd, BK-SDM-Base", 2, unet=ONE_LAYER, what="SD1, 1 layer"),
    sd1("BK-SDM-Small", 1, unet={**ONE_LAYER, "mid_block_type": None}, what="SD1, no middle"),
    sd1("tiny-sd, BK-SDM-Tiny", 2, unet=THREE_LEVELS, what="SD1, 3 levels, no middle"),
    sd1("fine-tune with LCM-LoRA merged", 2, LCM, what="SD1, LCM"),
    sd1("fine-tune with Hyper-SD or TCD merged", 1, TCD, what="SD1, TCD"),
    sd1(
        "LCM-DreamShaper-v7",
        4,
        LCM,
        "LatentConsistencyModelPipeline",
        unet={"time_cond_proj_dim": 256},
        what="SD1, LCM with embedded guidance",
    ),
    sd1("the same saved as StableDiffusionPipeline", 1, LCM, unet={"time_cond_proj_dim": 256}, what="the same"),
    sd2(
        "SDXS-512",
        1,
        EULER,
        unet={
            **THREE_LEVELS,
            "attention_head_dim": [5, 10, 20],
            "sample_size": 64,
            "only_cross_attention": [True, False, False],
        },
        vae=TAESD,
        what="SD2-like, TAESD, one step",
        few_step="turbo",
    ),
    sd1("fine-tune whose UNet EMAModel saved", 1, unet=EMA),
    sd2("SD 2.0, 2.1 base", 4, PNDM, unet={"sample_size": 64}),
    sd2("SD 2.0, 2.1 768-v", 8, {**DDIM, **V}, what="SD2, v-prediction"),
    sd2(
        "SD 2 inpainting",
        4,
        PNDM,
        "StableDiffusionInpaintPipeline",
        unet={"in_channels": 9, "sample_size": 64},
        what="SD2, 9 channels",
    ),
    sd2("Waifu Diffusion 1.4", 1),
    sd2("SD 2 fine-tunes with zero terminal SNR", 1, {**DDIM, **ZERO_SNR}, what="SD2, v-prediction, trailing"),
    sd2(
        "SD-Turbo",
        8,
        {**EULER, **TRAILING},
        unet={"upcast_attention": None, "sample_size": 64},
        what="SD2, few steps",
        few_step="turbo",
    ),
    sdxl("SDXL base 1.0", 16),
    sdxl("Pony, Illustrious, Animagine, Juggernaut, RealVis", 16, EULER_A),
    sdxl("NoobAI-XL v-pred", 4, {**EULER, **ZERO_SNR}, what="SDXL, v-prediction, zero SNR"),
    sdxl("SDXL-Turbo", 8, {**EULER_A, **TRAILING}, unet={"sample_size": 64}, what="SDXL, few steps", few_step="turbo"),
    beside_sdxl("SDXL-Lightning, 4 steps", 8, "lightning"),
    beside_sdxl("SDXL-Lightning, 1 step", 0, "lightning-1step"),
    beside_sdxl("Hyper-SDXL, 1 step", 0, "hyper-1step"),
    beside_sdxl("DMD2, 4 steps", 0, "dmd2"),
    beside_sdxl("DMD2, 1 step", 0, "dmd2-1step"),
    beside_sdxl(
        "LCM-SDXL", 2, "lcm", UNET["sdxl"] | {"time_cond_proj_dim": 256}, what="SDXL, LCM with embedded guidance"
    ),
    sdxl(
        "SDXL refiner",
        4,
        pipeline="StableDiffusionXLImg2ImgPipeline",
        unet=REFINER_UNET,
        without=("text_encoder",),
        tokenizers=("tokenizer_2",),
        what="SDXL, second encoder only",
    ),
    sdxl(
        "SDXL inpainting 0.1",
        8,
        pipeline="StableDiffusionXLInpaintPipeline",
        unet=UNET["sdxl_inpaint"],
        what="SDXL, 9 channels",
    ),
    sdxl("Playground v2.5", 4, EDM, vae=PLAYGROUND_VAE, what="SDXL, EDM"),
    sdxl(
        "SSD-1B",
        2,
        unet={
            **CUT,
            "transformer_layers_per_block": [0, [2, 2], [4, 4]],
            "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
        },
        what="SDXL, cut",
    ),
    sdxl(
        "Segmind-Vega",
        1,
        unet={
            **CUT,
            "transformer_layers_per_block": [0, [1, 1], [2, 2]],
            "reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], 1],
        },
        what="SDXL, cut",
    ),
    sdxl(
        "KOALA-700M",
        1,
        unet={"mid_block_type": None, "layers_per_block": 1, "transformer_layers_per_block": [0, 2, 5]},
        what="SDXL, cut",
    ),
    sd1(
        "InstructPix2Pix",
        4,
        pipeline="StableDiffusionInstructPix2PixPipeline",
        unet={"in_channels": 8},
        what="SD1, 8 channels",
    ),
    sd2(
        "Marigold depth, normals", 4, pipeline="MarigoldDepthPipeline", unet={"in_channels": 8}, what="SD2, 8 channels"
    ),
    sd2(
        "SD 2 depth",
        2,
        pipeline="StableDiffusionDepth2ImgPipeline",
        unet={"in_channels": 5},
        beside=("depth_estimator", "feature_extractor"),
        what="SD2, 5 channels",
    ),
    sd2(
        "SD 2.1 unCLIP",
        1,
        pipeline="StableUnCLIPImg2ImgPipeline",
        unet={"class_embed_type": "projection", "projection_class_embeddings_input_dim": 2048},
        beside=("image_encoder", "image_normalizer", "image_noising_scheduler"),
        what="SD2, class embedding",
    ),
    sd2(
        "SD x4 upscaler",
        4,
        pipeline="StableDiffusionUpscalePipeline",
        unet={"in_channels": 7, "num_class_embeds": 1000},
        beside=("low_res_scheduler",),
        what="SD2, 7 channels",
    ),
    sd1(
        "GLIGEN",
        1,
        pipeline="StableDiffusionGLIGENPipeline",
        unet={"attention_type": "gated"},
        what="SD1, gated attention",
    ),
    sd1("SD 1.5 folder that names the Img2Img class", 1, pipeline="StableDiffusionImg2ImgPipeline"),
    sd1("stable-diffusion-safe", 1, pipeline="StableDiffusionPipelineSafe"),
    sd1("TAESD under SD 1.5", 4, elsewhere={"vae": TAESD}, what="SD1, AutoencoderTiny"),
    sdxl("TAESDXL under SDXL", 2, elsewhere={"vae": TAESD}, what="SDXL, AutoencoderTiny"),
    sd1("AsymmetricAutoencoderKL under SD 1.5", 1, elsewhere={"vae": ASYMMETRIC}, what="SD1, another VAE class"),
    sd1(
        "16-channel VAE under a UNet",
        1,
        unet={"in_channels": 16, "out_channels": 16},
        vae={"latent_channels": 16, "shift_factor": 0.0609, "scaling_factor": 1.5305},
        what="SD1, 16 channels",
    ),
)
