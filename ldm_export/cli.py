"""The command line: thin verbs that parse, call one function each, and print. Nothing imports this file."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ldm_runtime.errors import InputError, LdmError

if TYPE_CHECKING:
    from ldm_runtime.package import Check

LOG_EVERY_SECONDS = 2.0
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Verbs(click.Group):
    """Turns every error that is the user's or the machine's to one line on stderr and exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            click.echo("interrupted: nothing half-written was left behind", err=True)
            sys.exit(128 + signal.SIGINT)
        except LdmError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)
        except ModuleNotFoundError as error:
            extra = _extra_of(error.name, context.invoked_subcommand)
            if extra is None:
                raise
            click.echo(
                f"error: this verb needs {error.name}, which is not installed; "
                f"install it with: pip install 'ldm-export[{extra}]'",
                err=True,
            )
            sys.exit(1)
        except MemoryError:
            click.echo("error: the machine ran out of memory; ask for less at once or use a larger one", err=True)
            sys.exit(1)


def _extra_of(module: str | None, verb: str | None) -> str | None:
    """The extra of this project that brings a module which `verb` needs, or None if no extra brings it."""
    brought = ("torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "h5py", "resvg_py")
    if module is None or module.partition(".")[0] not in brought:
        return None
    return "train" if verb in ("train", "data") else "export"


@click.group(cls=Verbs, context_settings=CONTEXT)
@click.version_option(package_name="ldm-export")
def verbs() -> None:
    """Take a latent diffusion model to the edge: load or train it, export it, prove it, run it without torch.

    \b
    Examples:
      ldm-export run --prompt "red apple, 3d style"
      ldm-export build ./my-checkpoint --out ./my-package
      ldm-export verify ./my-package
    """


@verbs.command()
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the package to write.")
@click.option("--target", type=click.Choice(["onnx"]), default="onnx", show_default=True, help="What to build.")
@click.option("--precision", type=click.Choice(["fp32"]), help="Precision of the weights (default: fp32).")
@click.option("--config", type=click.Path(path_type=Path), help="Build recipe (TOML); see export_configs/.")
@click.option("--variant", help='Weight files to read, such as "fp16" for unet/….fp16.safetensors.')
@click.option("--max-memory", metavar="GB", type=float, help="Refuse to start a stage that would need more.")
@click.option("--force", is_flag=True, help="Replace an existing package, once the new one is complete.")
def build(
    source: Path | None,
    out: Path,
    target: str | None,
    precision: str | None,
    config: Path | None,
    variant: str | None,
    max_memory: float | None,
    force: bool,
) -> None:
    """Export SOURCE (a diffusers folder or a package; default: the built-in model) to a verified package.

    Every component is exported, optimised and compared with the torch model; a component that differs by more
    than its tolerance fails the build, and nothing is left behind.

    \b
    Examples:
      ldm-export build --out ./package
      ldm-export build ./stable-diffusion-v1-5 --out ./sd15 --max-memory 12
    """
    from ldm_export.build import build_package
    from ldm_export.build_recipe import load_build_recipe

    recipe = load_build_recipe(config)
    recipe = recipe if target is None else replace(recipe, target=target)
    recipe = recipe if precision is None else replace(recipe, precision=precision)
    limit = None if max_memory is None else _gigabytes(max_memory)
    report = build_package(
        source, out, recipe=recipe, variant=variant, max_memory=limit, force=force, progress=_stage_printer()
    )
    click.echo(report.table())
    click.echo(f"{out}: verified; try: ldm-export run {out} --prompt …")


@verbs.command()
@click.argument("package", required=False, type=click.Path(path_type=Path))
@click.option("--prompt", required=True, help='What to draw; "" is legal.')
@click.option("--negative", help="What to steer away from.")
@click.option("--steps", type=int, help="Sampling steps (default: the package's).")
@click.option("--guidance", type=float, help="Classifier-free guidance scale; 1 or less turns it off.")
@click.option("--seed", type=int, help="Seed of the first image; image b uses seed+b (default: a random one).")
@click.option("--sampler", help="ddim, euler, euler_ancestral, dpmpp_2m, dpmpp_2m_karras.")
@click.option("--size", metavar="WxH", help="Size in pixels, such as 512x512 (default: the package's).")
@click.option("--count", type=int, default=1, show_default=True, help="Number of images.")
@click.option("--engine", default="auto", show_default=True, help="Engine that runs the components.")
@click.option(
    "--check",
    type=click.Choice(["cached", "full", "size"]),
    default="cached",
    show_default=True,
    help="How the package's files are checked: hashes once per file, hashes now, or sizes only.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Output .png (default: named after the prompt).")
@click.option("--force", is_flag=True, help="Replace existing outputs.")
def run(
    package: Path | None,
    prompt: str,
    negative: str | None,
    steps: int | None,
    guidance: float | None,
    seed: int | None,
    sampler: str | None,
    size: str | None,
    count: int,
    engine: str,
    check: "Check",
    out: Path | None,
    force: bool,
) -> None:
    """Draw PROMPT with PACKAGE (default: the built-in model), without torch.

    \b
    Examples:
      ldm-export run --prompt "red apple, 3d style" --seed 1 --out apple.png
      ldm-export run ./sd15 --prompt "a lighthouse at dusk" --size 512x512 --steps 20 --count 4
    """
    import ldm_runtime
    from ldm_runtime.image import output_paths, save_png

    paths = output_paths(out, prompt=prompt, count=count, force=force)
    with ldm_runtime.load(package, engine=engine, check=check) as pipe:
        steps_run = pipe.sample(
            prompt,
            negative=negative,
            steps=steps,
            guidance=guidance,
            seed=seed,
            sampler=sampler,
            size=None if size is None else _size(size),
            count=count,
        )
        last = _show_steps(steps_run)
        for notice in pipe.notices:
            click.echo(f"note: {notice}", err=True)
        for image, path in zip(last.images(), paths, strict=True):
            save_png(image, path, force=force)
            click.echo(f"{path} (seed {image.info['seed']})")


@verbs.command()
@click.argument("package", required=False, type=click.Path(path_type=Path))
@click.option("--engine", default="auto", show_default=True, help="Engine to prove.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for report.json and report.html.")
@click.option("--force", is_flag=True, help="Replace an existing report folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(package: Path | None, engine: str, out: Path | None, force: bool, as_json: bool) -> None:
    """Prove again, offline and without torch, that PACKAGE (default: the built-in one) equals its reference.

    The exit code is 1 if it does not.

    \b
    Examples:
      ldm-export verify
      ldm-export verify ./sd15
      ldm-export verify ./sd15 --out ./proof
    """
    from ldm_export.verify import verify_package
    from ldm_runtime.pipeline import builtin_package

    folder = builtin_package() if package is None else package
    report = verify_package(folder, engine=engine, out=out, force=force, progress=_stage_printer())
    click.echo(report.to_json() if as_json else report.table())
    if not report.passed:
        for failure in report.failures:
            click.echo(f"error: {failure}", err=True)
        sys.exit(1)


@verbs.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable JSON.")
def inspect(path: Path | None, as_json: bool) -> None:
    """Tell what a package or checkpoint is (default: the built-in one): parts, sizes, contract, proof.

    A checkpoint needs the extra `export`.

    \b
    Examples:
      ldm-export inspect
      ldm-export inspect ./stable-diffusion-v1-5 --json
    """
    from ldm_export.describe import describe, render

    facts = describe(path)
    click.echo(json.dumps(facts, indent=2) if as_json else render(facts))


@verbs.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder that holds one run folder per recipe; an interrupted run continues there.",
)
def train(recipe: Path, runs: Path) -> None:
    """Train a latent diffusion model by RECIPE (TOML): autoencoder, then text encoder, then UNet.

    Ctrl-C saves and stops; the same command continues.

    \b
    Examples:
      ldm-export data --out data-cache/emoji-128 --size 128
      ldm-export train export_configs/emoji-128.toml
    """
    from ldm_export.train import train as run_training

    checkpoint = run_training(recipe, runs=runs, progress=lambda text: click.echo(text, err=True))
    click.echo(f"{checkpoint}: trained; try: ldm-export build {checkpoint} --out ./package")


@verbs.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for pictures and captions.")
@click.option("--size", type=int, default=128, show_default=True, help="Side of the pictures in pixels.")
@click.option(
    "--style",
    "styles",
    multiple=True,
    type=click.Choice(["3d", "gradient", "flat", "noto"]),
    help="Styles to fetch (repeatable; default: all four).",
)
def data(out: Path, size: int, styles: tuple[str, ...]) -> None:
    """Fetch the emoji pictures (with npm) and render them with captions, for training.

    \b
    Examples:
      ldm-export data --out data-cache/emoji-64 --size 64 --style 3d
    """
    from ldm_export.data import fetch_emoji

    chosen = styles if len(styles) > 0 else ("3d", "gradient", "flat", "noto")
    count = fetch_emoji(out, size=size, styles=chosen, progress=lambda text: click.echo(text, err=True))
    click.echo(f"{out}: {count} captioned pictures")


def _size(text: str) -> tuple[int, int]:
    width, separator, height = text.lower().partition("x")
    if not (separator and width.isdecimal() and height.isdecimal()):
        raise InputError(f"--size got {text!r}, expected WIDTHxHEIGHT in pixels, such as 512x512")
    return int(width), int(height)


def _gigabytes(value: float) -> int:
    if not value > 0:
        raise InputError(f"--max-memory got {value}, expected a positive number of gigabytes")
    return int(value * 1e9)


def _stage_printer() -> Callable[[str], None]:
    """Progress of long work on stderr: the seconds since the start, and what is being done."""
    started = time.monotonic()
    return lambda text: click.echo(f"[{time.monotonic() - started:7.1f} s] {text}", err=True)


def _show_steps(steps: Iterator[Any]) -> Any:
    """Drive the sampler and return its last step; progress is a bar for a person, some lines for a log."""
    started = said = time.monotonic()
    last = next(steps)
    with click.progressbar(length=last.total, label="sampling", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        bar.update(1)
        for last in steps:
            bar.update(1)
            now = time.monotonic()
            if now - said > LOG_EVERY_SECONDS and not sys.stderr.isatty():
                done = last.index + 1
                left = (now - started) / done * (last.total - done)
                click.echo(f"step {done} of {last.total}, {left:.0f} s left", err=True)
                said = now
    return last


def main() -> None:
    """Entry point: like Ctrl-C, a termination request unwinds, so that nothing half-written stays."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    verbs(prog_name="ldm-export")


if __name__ == "__main__":
    main()
