"""Images against diffusers' pipelines, family by family and variant by variant; docs/models.md has the table.

    python -m tests.parity_matrix          # draw all and print the table
    python -m tests.parity_matrix --write  # and write it into docs/models.md

The models are tiny and structurally faithful, every tensor random; torch stands in for engines. Two prompts, the second
with an exclamation mark and longer than a window, from the same torch seed and from the same latents; then from an
image.
"""

import logging
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image

from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.checkpoint.replaced import with_parts
from ldm_runtime.noise.torch_cpu import TorchGenerator
from ldm_runtime.pipeline import Pipeline
from tests.oracles import build_tiny_sd, randomise
from tests.published_checkpoints import DEIS, EULER, EULER_A, KARRAS, LCM, TCD, TRAILING, ZERO_SNR, Config
from tests.torch_pipeline import torch_pipeline

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = (
    "<!-- from here on written by tests/parity_matrix.py -->\n",
    "<!-- to here, by tests/parity_matrix.py -->\n",
)
PROMPTS = ("a red apple, 3d style", "the smile of a blue cat! " * 30)
WIDTH, HEIGHT, STEPS, SEED = 32, 24, 4, 5
MOST, MOST_MEAN = 2.0, 0.1  # levels of 255
TINY_VAE: Config = {
    "encoder_block_out_channels": (16, 16),
    "decoder_block_out_channels": (16, 16),
    "num_encoder_blocks": (1, 2),
    "num_decoder_blocks": (2, 1),
}


@dataclass(frozen=True)
class Variant:
    """A tiny checkpoint: the kind of `build_tiny_sd`, and what differs from it. pipeline: diffusers' class."""

    name: str
    kind: str
    pipeline: str
    unet: Config = field(default_factory=dict)
    scheduler: Config = field(default_factory=dict)
    guidance: float = 5.0
    vae: Config | None = None  # of a tiny autoencoder

    @property
    def inpaints(self) -> bool:
        return "Inpaint" in self.pipeline


def variants() -> list[Variant]:
    """List every family with what its published checkpoints differ in."""
    sd, consistent = "StableDiffusionPipeline", "LatentConsistencyModelPipeline"
    attention, up_attention = ["CrossAttnDownBlock2D"] * 2, ["CrossAttnUpBlock2D"] * 2
    embedded: Config = {"time_cond_proj_dim": 32}
    alone = {"only_cross_attention": (True, False), "mid_block_type": None, "layers_per_block": 1}
    alone |= {"down_block_types": attention, "up_block_types": up_attention}
    found = [
        Variant("SD1, PNDM", "sd15", sd),
        *(Variant(f"SD1, {each['_class_name'].removesuffix('Scheduler')}", "sd15", sd, {}, each)
          for each in (DEIS, EULER_A, KARRAS, LCM, TCD)),
        Variant("SD1, LCM with embedded guidance", "sd15", sd, embedded, LCM, 8.0),
        Variant("the same, LatentConsistencyModelPipeline", "sd15", consistent, embedded, LCM, 8.0),
        Variant("SD1, no middle, one layer", "sd15", sd, {"mid_block_type": None, "layers_per_block": 1}),
        Variant("SD1, text alone in one level", "sd15", sd, alone),
        Variant("SD1, AutoencoderTiny", "sd15", sd, vae=TINY_VAE),
        Variant("SD1, inpainting", "inpaint", "StableDiffusionInpaintPipeline"),
        Variant("SD2, v-prediction", "sd21", sd),
        Variant("SD2, zero terminal SNR", "sd21", sd, {}, ZERO_SNR),
        Variant("SD2, Euler trailing, as SD-Turbo", "sd21", sd, {}, {**EULER, **TRAILING, "prediction_type": "epsilon"},
                0.0),
    ]  # fmt: skip
    xl = "StableDiffusionXLPipeline"
    cut: Config = {"mid_block_type": "UNetMidBlock2D", "transformer_layers_per_block": (0, 1, 2)}
    return found + [
        Variant("SDXL, Euler", "sdxl", xl),
        Variant("SDXL, v-prediction, zero terminal SNR", "sdxl", xl, {}, {**EULER, **ZERO_SNR}),
        Variant("SDXL, Euler a trailing, as SDXL-Turbo", "sdxl", xl, {}, {**EULER_A, **TRAILING}, 0.0),
        Variant("SDXL, LCM with embedded guidance", "sdxl", xl, embedded, LCM, 8.0),
        Variant("SDXL, plain middle, no layers in one level", "sdxl", xl, cut),
        Variant("SDXL, AutoencoderTiny", "sdxl", xl, vae=TINY_VAE),
        Variant("SDXL, inpainting", "sdxl_inpaint", "StableDiffusionXLInpaintPipeline"),
    ]


class Comparison:
    """A variant, opened in diffusers and here."""

    def __init__(self, variant: Variant, work: Path) -> None:
        self.variant = variant
        folder = build_tiny_sd(
            work / "source", variant.kind, unet=variant.unet or None, scheduler=variant.scheduler or None
        )
        checkpoint, own = open_checkpoint(folder), {}
        if variant.vae is not None:
            own["vae"] = randomise(diffusers.AutoencoderTiny(**variant.vae), 4)
            own["vae"].save_pretrained(work / "vae")
            checkpoint = with_parts(checkpoint, {"vae": work / "vae"})
        index = folder / "model_index.json"
        if variant.pipeline.startswith("Latent"):
            index.write_text(index.read_text().replace("StableDiffusionPipeline", variant.pipeline))
            checkpoint = open_checkpoint(folder)
        self.theirs = getattr(diffusers, variant.pipeline).from_pretrained(folder, **own)
        self.changing = self.theirs
        if not variant.inpaints:
            kind = getattr(diffusers, variant.pipeline.replace("Pipeline", "Img2ImgPipeline"))
            self.changing = kind.from_pretrained(folder, **own)
        for each in (self.theirs, self.changing):
            each.set_progress_bar_config(disable=True)
            each.watermark = None
        (work / "tokenizers").mkdir()
        self.ours: Pipeline = torch_pipeline(checkpoint, work / "tokenizers")

    def differences(self) -> dict[str, tuple[float, float]]:
        """Return the largest and the mean difference in levels of 255, by what was drawn."""
        found = {"image": [self._from_image(prompt) for prompt in PROMPTS]}
        if not self.variant.inpaints:
            found["seed"] = [self._from_noise(prompt, None) for prompt in PROMPTS]
            latents = TorchGenerator(6).normal((1, 4, HEIGHT // self._factor, WIDTH // self._factor))
            found["latents"] = [self._from_noise(prompt, latents) for prompt in PROMPTS]
        return {name: (max(most for most, _ in each), max(mean for _, mean in each)) for name, each in found.items()}

    @property
    def _factor(self) -> int:
        return self.ours.contract.latent.downsample

    def _from_noise(self, prompt: str, latents: np.ndarray | None) -> tuple[float, float]:
        given = {} if latents is None else {"latents": torch.from_numpy(latents)}
        expected = self.theirs(prompt, width=WIDTH, height=HEIGHT, **given, **self._options()).images[0]
        own = {} if latents is None else {"latents": latents}
        return _difference(self._draw(prompt, size=(WIDTH, HEIGHT), **own), expected)

    def _from_image(self, prompt: str) -> tuple[float, float]:
        x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        image = Image.fromarray(np.stack([x * 8, y * 10, (x * y) % 256], axis=2).astype(np.uint8))
        options: dict[str, Any] = {"image": image, "strength": 0.75}
        theirs = dict(options)
        if self.variant.inpaints:
            mask = Image.fromarray(np.where(x < WIDTH // 2, 255, 0).astype(np.uint8))
            options["mask"] = mask
            theirs |= {"mask_image": mask, "width": WIDTH, "height": HEIGHT}
        expected = self.changing(prompt, **theirs, **self._options()).images[0]
        return _difference(self._draw(prompt, **options), expected)

    def _options(self) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(SEED)
        return {"num_inference_steps": STEPS, "guidance_scale": self.variant.guidance, "generator": generator}

    def _draw(self, prompt: str, **options: Any) -> Image.Image:
        return self.ours(prompt, steps=STEPS, guidance=self.variant.guidance, seed=SEED, noise="torch", **options)[0]


def _difference(found: Image.Image, expected: Image.Image) -> tuple[float, float]:
    apart = np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64))
    return float(apart.max()), float(apart.mean())


def table() -> tuple[str, bool]:
    """Draw everything: the table in Markdown, and whether all of it is within the tolerance."""
    lines = ["| variant | from a seed | from latents | from an image, or inpainted |", "|---|---|---|---|"]
    passed = True
    for variant in variants():
        with tempfile.TemporaryDirectory() as work:
            found = Comparison(variant, Path(work)).differences()
        passed &= all(most <= MOST and mean <= MOST_MEAN for most, mean in found.values())
        cells = [_cell(found.get(name)) for name in ("seed", "latents", "image")]
        lines.append(f"| {variant.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n", passed


def _cell(found: tuple[float, float] | None) -> str:
    return "" if found is None else f"{found[0]:.0f}, {found[1]:.4f}"


def main() -> None:
    logging.disable(logging.WARNING)
    diffusers.utils.logging.disable_progress_bar()
    text, passed = table()
    print(text)
    if not passed:
        sys.exit(f"an image differs by more than {MOST:g} levels, or {MOST_MEAN:g} in the mean")
    if "--write" in sys.argv[1:]:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
