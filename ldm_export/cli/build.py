"""The verb `build`: build a verified package from a checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ldm_export.cli.options import PATH, SOURCE, checkpoint_options, read_gigabytes, read_list
from ldm_export.cli.show import stage_printer
from ldm_export.lossy.table import LOSSY
from ldm_export.package.choices import FEW_STEP
from ldm_export.precision.table import FLOATING
from ldm_export.process.streams import echo
from ldm_export.targets import TARGETS
from ldm_runtime.errors import one_line


@click.command()
@click.argument("source", required=False, type=SOURCE)
@click.option("--out", required=True, type=PATH, help="Folder of the package to write.")
@click.option(
    "--target",
    "targets",
    type=click.Choice(list(TARGETS)),
    multiple=True,
    help="Target to build besides the ONNX graphs, which every package has (repeatable).",
)
@click.option("--precision", type=click.Choice(FLOATING), help="Precision of the target (default: fp32).")
@click.option("--genai", is_flag=True, help="OpenVINO: also a folder openvino-genai, which OpenVINO GenAI opens.")
@click.option(
    "--compute-capability",
    metavar="8.6,8.9",
    help="TensorRT: compute capabilities (default: all GPUs that share one plan).",
)
@click.option(
    "--flavour", type=click.Choice(["auto", "rtx", "classic"]), help="TensorRT: flavour of the library (default: auto)."
)
@click.option(
    "--profile",
    "profiles",
    metavar="NAME=MIN:OPT:MAX",
    multiple=True,
    help="TensorRT: range of batch, size, width, height or windows (repeatable).",
)
@click.option("--refit", is_flag=True, help="TensorRT: build plans whose weights can be replaced.")
@click.option(
    "--weights",
    type=click.Choice(["whole", "w8", "w4"]),
    help="TensorRT for RTX: weights of plans in fp16 or bf16 as they are, or in eight or four bits (default: whole).",
)
@click.option("--weight-stripped", is_flag=True, help="TensorRT: build plans without weights; the graphs hold them.")
@click.option(
    "--vae",
    type=SOURCE,
    help="Autoencoder in place of SOURCE's, or that it lacks: its folder, a pipeline's, a file, or hf:OWNER/NAME.",
)
@click.option("--unet", type=SOURCE, help="UNet in place of SOURCE's, likewise.")
@click.option("--text-encoder", type=SOURCE, help="Text encoder in place of SOURCE's, likewise.")
@click.option("--text-encoder-2", type=SOURCE, help="Second text encoder in place of SOURCE's, likewise.")
@click.option("--config", type=PATH, help="Build recipe (TOML); docs/build.md lists its keys.")
@click.option(
    "--few-step",
    type=click.Choice(list(FEW_STEP)),
    help="Kind of a model distilled to a few steps: it gives the default sampler, steps and guidance.",
)
@click.option(
    "--budget",
    metavar="psnr=DB|ssim=SHARE",
    help="Also make what is lossy and within it: the least likeness of the worst image to the exact one.",
)
@click.option(
    "--lossy",
    metavar="METHOD,…",
    help=f"Lossy methods to try, of {', '.join(LOSSY)} (default: all for speed that run here).",
)
@click.option("--prompts", type=PATH, help="Prompts for the budget, one a line (default: the source's own, or ours).")
@checkpoint_options
@click.option("--max-memory", metavar="GB", type=float, help="Refuse to start a stage that would need more memory.")
@click.option("--force", is_flag=True, help="Replace an existing package, once the new one is complete.")
def build(
    source: Path | str | None,
    out: Path,
    targets: tuple[str, ...],
    precision: str | None,
    genai: bool,
    compute_capability: str | None,
    flavour: str | None,
    profiles: tuple[str, ...],
    refit: bool,
    weights: str | None,
    weight_stripped: bool,
    vae: Path | str | None,
    unet: Path | str | None,
    text_encoder: Path | str | None,
    text_encoder_2: Path | str | None,
    config: Path | None,
    few_step: str | None,
    budget: str | None,
    lossy: str | None,
    prompts: Path | None,
    variant: str | None,
    prediction: Any,
    zero_snr: bool,
    max_memory: float | None,
    force: bool,
) -> None:
    """Export SOURCE to a verified package: a diffusers folder, a single-file checkpoint or a package,
    or hf:OWNER/NAME[/FILE][@REVISION], which is fetched from Hugging Face's hub.

    Without SOURCE it is the built-in model.

    Every component is exported, optimised and compared with the torch model. A component that differs by more than
    its tolerance fails the build, and no package is left. --force replaces a complete package, but no other folder
    and none that holds other files.

    \b
    Examples:
      ldm-export build --out ./package
      ldm-export build ./stable-diffusion-v1-5 --out ./sd15 --max-memory 12
      ldm-export build ./stable-diffusion-v1-5 --vae ./taesd --out ./sd15-taesd
      ldm-export build hf:stabilityai/sd-turbo --variant fp16 --few-step turbo --out ./sd-turbo
      ldm-export build ./dreamshaper_8.safetensors --vae ./vae-ft-mse-840000-ema-pruned.safetensors --out ./dreamshaper
      ldm-export build ./v2-1_768-ema-pruned.safetensors --prediction v_prediction --out ./sd21
      ldm-export build --target openvino --precision fp16 --out ./package
      ldm-export build --budget psnr=30 --lossy int8 --prompts ./captions.txt --out ./package
      ldm-export build --target tensorrt --compute-capability 8.6,8.9 --profile batch=1:1:2 --out ./package
    """
    from ldm_export.build import build_package
    from ldm_export.recipes.build import load_build_recipe

    recipe = load_build_recipe(config)
    changes: dict[str, Any] = {"targets": targets} if targets else {}
    changes |= {} if few_step is None else {"few_step": few_step}
    changes |= {} if precision is None else {"precision": precision}
    changes |= {"openvino": replace(recipe.openvino, genai=True)} if genai else {}
    changes |= {} if budget is None else {"budget": budget}
    changes |= {} if lossy is None else {"lossy": read_list(lossy)}
    tensorrt: dict[str, Any] = {} if flavour is None else {"flavour": flavour}
    tensorrt |= {"profiles": profiles} if profiles else {}
    tensorrt |= {} if weights is None else {"weights": weights}
    tensorrt |= {} if compute_capability is None else {"compute_capabilities": read_list(compute_capability)}
    tensorrt |= {name: True for name, is_set in (("refit", refit), ("weight_stripped", weight_stripped)) if is_set}
    recipe = replace(recipe, **changes, tensorrt=replace(recipe.tensorrt, **tensorrt))
    parts = {"vae": vae, "unet": unet, "text_encoder": text_encoder, "text_encoder_2": text_encoder_2}
    report = build_package(
        source,
        out,
        recipe=recipe,
        variant=variant,
        parts={name: path for name, path in parts.items() if path is not None},
        prediction=prediction,
        zero_snr=zero_snr,
        max_memory=read_gigabytes(max_memory),
        prompts=prompts,
        force=force,
        progress=stage_printer(),
    )
    echo(report.table())
    fast = f" --budget {recipe.budget}" if recipe.budget != "exact" else ""
    echo(one_line(f"{out}: verified; try: ldm-export run {out} --prompt …{fast}"))
