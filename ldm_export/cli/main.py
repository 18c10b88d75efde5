"""The command line: thin verbs that parse, call one function each, and print. Nothing imports this file."""

import io
import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ldm_export.cli.option_values import (
    PATH,
    read_engine_options,
    read_gigabytes,
    read_list,
    read_pair,
    read_size,
    read_variation,
)
from ldm_export.process.streams import echo, echo_json, guard_streams
from ldm_export.process.termination import end_on_request
from ldm_runtime.errors import InputError, LdmError

if TYPE_CHECKING:
    from ldm_export.bench import BenchReport
    from ldm_export.verify.report import Report
    from ldm_runtime.package.open import Check

LOG_EVERY_SECONDS = 2.0
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Verbs(click.Group):
    """The one place where an error becomes an answer: a sentence on stderr, and an exit code.

    1: the input's or the machine's; 2: the command line's; 70: a fault of this program; 130: Ctrl-C.
    """

    debug = False  # whether the traceback is shown too

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params.append(self._debug_option())

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        cmd.params.append(self._debug_option())
        super().add_command(cmd, name)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        sys.exit(self.answer(sys.argv[1:] if args is None else args, prog_name or "ldm-export", **extra))

    def answer(self, arguments: Sequence[str], name: str, **extra: Any) -> int:
        """Run a command line and return its exit code."""
        self.debug = False
        try:
            self._main_shell_completion({}, name)
            with self.make_context(name, list(arguments), **extra) as context:
                self.invoke(context)
            return 0
        except click.exceptions.Exit as ended:
            return ended.exit_code
        except click.ClickException as error:
            usage = io.StringIO()
            error.show(usage)
            echo(usage.getvalue().rstrip("\n"), err=True)
            return error.exit_code
        except (KeyboardInterrupt, Exception) as error:
            if self.debug:
                from ldm_export.process.faults import print_traceback

                print_traceback(error)
            sentence, code = self._explain(error, arguments)
            echo(sentence, err=True)
            return code

    def _explain(self, error: BaseException, arguments: Sequence[str]) -> tuple[str, int]:
        if isinstance(error, KeyboardInterrupt | click.Abort):
            return "interrupted", 128 + signal.SIGINT
        if isinstance(error, LdmError):
            return f"error: {error}", 1
        if isinstance(error, MemoryError):
            return "error: the machine ran out of memory; ask for less at once or use a larger one", 1
        if isinstance(error, ModuleNotFoundError):
            extra = _extra_of(error.name, next((each for each in arguments if each in self.commands), None))
            if extra is not None:
                what = f"this verb needs {error.name}, which is not installed"
                return f"error: {what}; install it with: pip install 'ldm-export[{extra}]'", 1
        from ldm_export.process.faults import EXIT_CODE, explain  # what they need is not for every start

        return explain(error, arguments), EXIT_CODE

    def _debug_option(self) -> click.Option:
        def want(context: click.Context, parameter: click.Parameter, value: bool) -> None:
            self.debug = self.debug or value

        return click.Option(
            ["--debug"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=want,
            help="Show the traceback of an error too.",
        )


def _extra_of(module: str | None, verb: str | None) -> str | None:
    """The extra of this project that brings a module which `verb` needs, or None if no extra brings it."""
    brought = ("torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "h5py", "resvg_py")
    if module is None or module.partition(".")[0] not in brought:
        return None
    return "train" if verb in ("train", "data") else "export"


def engine_choice(verb: Callable[..., None]) -> Callable[..., None]:
    """The options that say what runs a package; they reach `ldm_runtime.load` as they are."""
    options = (
        click.option(
            "--engine",
            default="auto",
            show_default=True,
            help="A name of `ldm-export engines`, or some by part: unet=ort:cuda,vae=ort.",
        ),
        click.option("--threads", type=int, help="CPU threads of an operator (default: the engine's choice)."),
        click.option(
            "--engine-option",
            "engine_options",
            metavar="ENGINE.NAME=VALUE",
            multiple=True,
            help="An engine's own option, such as ort:cuda.device_id=1 (repeatable).",
        ),
    )
    for option in reversed(options):
        verb = option(verb)
    return verb


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
@click.argument("source", required=False, type=PATH)
@click.option("--out", required=True, type=PATH, help="Folder of the package to write.")
@click.option(
    "--target",
    "targets",
    type=click.Choice(["onnx", "openvino", "tensorrt"]),
    multiple=True,
    help="What to build beside the ONNX graphs, which every package has (repeatable).",
)
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "bf16"]), help="Precision of the target (default: fp32)."
)
@click.option("--compute-capability", metavar="8.6,8.9", help="TensorRT: GPUs (default: all that share one plan).")
@click.option("--flavour", type=click.Choice(["auto", "rtx", "classic"]), help="TensorRT: which (default: auto).")
@click.option(
    "--profile",
    "profiles",
    metavar="NAME=MIN:OPT:MAX",
    multiple=True,
    help="TensorRT: sizes to cover; batch=, size=, width=, height=, windows= (repeatable).",
)
@click.option("--refit", is_flag=True, help="TensorRT: plans whose weights can be replaced.")
@click.option("--weight-stripped", is_flag=True, help="TensorRT: plans without weights, which the graphs hold.")
@click.option("--config", type=PATH, help="Build recipe (TOML); see export_configs/.")
@click.option("--variant", help='Weight files to read, such as "fp16" for unet/….fp16.safetensors.')
@click.option("--max-memory", metavar="GB", type=float, help="Refuse to start a stage that would need more.")
@click.option("--force", is_flag=True, help="Replace an existing package, once the new one is complete.")
def build(
    source: Path | None,
    out: Path,
    targets: tuple[str, ...],
    precision: str | None,
    compute_capability: str | None,
    flavour: str | None,
    profiles: tuple[str, ...],
    refit: bool,
    weight_stripped: bool,
    config: Path | None,
    variant: str | None,
    max_memory: float | None,
    force: bool,
) -> None:
    """Export SOURCE (a diffusers folder or a package; default: the built-in model) to a verified package.

    Every component is exported, optimised and compared with the torch model; a component that differs by more
    than its tolerance fails the build, and no package is left. With --force a complete package is replaced, but
    no other folder, and none that holds anything else.

    \b
    Examples:
      ldm-export build --out ./package
      ldm-export build ./stable-diffusion-v1-5 --out ./sd15 --max-memory 12
      ldm-export build --target openvino --precision fp16 --out ./package
      ldm-export build --target tensorrt --compute-capability 8.6,8.9 --profile batch=1:1:2 --out ./package
    """
    from ldm_export.build import build_package
    from ldm_export.recipes.build import load_build_recipe

    recipe = load_build_recipe(config)
    changes: dict[str, Any] = {"targets": targets} if targets else {}
    changes |= {} if precision is None else {"precision": precision}
    asked: dict[str, Any] = {} if flavour is None else {"flavour": flavour}
    asked |= {"profiles": profiles} if profiles else {}
    asked |= {} if compute_capability is None else {"compute_capabilities": read_list(compute_capability)}
    asked |= {name: True for name, wanted in (("refit", refit), ("weight_stripped", weight_stripped)) if wanted}
    recipe = replace(recipe, **changes, tensorrt=replace(recipe.tensorrt, **asked))
    report = build_package(
        source,
        out,
        recipe=recipe,
        variant=variant,
        max_memory=read_gigabytes(max_memory),
        force=force,
        progress=_stage_printer(),
    )
    echo(report.table())
    echo(f"{out}: verified; try: ldm-export run {out} --prompt …")


@verbs.command()
@click.argument("package", required=False, type=PATH)
@click.option("--prompt", required=True, help='What to draw; "" is legal.')
@click.option("--negative", help="What to steer away from.")
@click.option("--steps", type=int, help="Sampling steps (default: the package's).")
@click.option("--guidance", type=float, help="Classifier-free guidance scale; 1 or less turns it off.")
@click.option("--seed", type=int, help="Seed of the first image; image b uses seed+b (default: a random one).")
@click.option("--sampler", help="A name, with options after a colon, such as dpmsolver:order=3; see `plan --list`.")
@click.option("--size", metavar="WxH", help="Size in pixels, such as 512x512 (default: the package's, or --image's).")
@click.option("--count", type=int, default=1, show_default=True, help="Number of images.")
@click.option("--image", type=PATH, help="Picture to start from; what is transparent is white.")
@click.option("--strength", type=float, help="How much of --image is drawn anew, 0 to 1 (default: 0.8, with --mask 1).")
@click.option("--mask", type=PATH, help="White where --image is painted anew; what is transparent is kept.")
@click.option("--weighted", is_flag=True, help="Read (word:1.3), [word] and BREAK in prompts; allow long ones.")
@click.option("--guidance-rescale", type=float, default=0.0, help="Against overexposure by guidance, 0 to 1.")
@click.option(
    "--guidance-interval",
    metavar="A:B",
    default="0:1",
    show_default=True,
    help="Guide between these shares of the run.",
)
@click.option("--variation", metavar="SEED:STRENGTH", help="Go this far to another seed's noise, such as 7:0.2.")
@click.option("--noise", default="philox", show_default=True, help="philox, or torch or cuda for diffusers' seeds.")
@engine_choice
@click.option(
    "--check",
    type=click.Choice(["cached", "full", "size"]),
    default="cached",
    show_default=True,
    help="How the package's files are checked: hashes once per file, hashes now, or sizes only.",
)
@click.option("--out", type=PATH, help="Output .png (default: named after the prompt).")
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
    image: Path | None,
    strength: float | None,
    mask: Path | None,
    weighted: bool,
    guidance_rescale: float,
    guidance_interval: str,
    variation: str | None,
    noise: str,
    engine: str,
    threads: int | None,
    engine_options: tuple[str, ...],
    check: "Check",
    out: Path | None,
    force: bool,
) -> None:
    """Draw PROMPT with PACKAGE (default: the built-in model), without torch.

    \b
    Examples:
      ldm-export run --prompt "red apple, 3d style" --seed 1 --out apple.png
      ldm-export run ./sd15 --prompt "a lighthouse at dusk" --size 512x512 --steps 20 --count 4
      ldm-export run --prompt "green apple, 3d style" --image apple.png --strength 0.6
    """
    import ldm_runtime
    from ldm_runtime.image import open_image, output_paths, save_png

    paths = output_paths(out, prompt=prompt, count=count, force=force)
    given = read_engine_options(engine_options)
    picture, painted = (None if file is None else open_image(file) for file in (image, mask))
    with ldm_runtime.load(package, engine=engine, threads=threads, engine_options=given, check=check) as pipe:
        steps_run = pipe.sample(
            prompt,
            negative=negative,
            steps=steps,
            guidance=guidance,
            seed=seed,
            sampler=sampler,
            size=read_size(size),
            count=count,
            image=picture,
            strength=strength,
            mask=painted,
            syntax="weighted" if weighted else "plain",
            guidance_rescale=guidance_rescale,
            guidance_interval=read_pair("--guidance-interval", guidance_interval),
            variation=read_variation(variation),
            noise=noise,
        )
        last = _show_steps(steps_run)
        _show_notices(pipe.notices)
        for drawn, path in zip(last.images(), paths, strict=True):
            save_png(drawn, path, force=force and out is not None)
            echo(f"{path} (seed {drawn.info['seed']})")


@verbs.command()
@click.argument("package", required=False, type=PATH)
@click.option("--prompt", required=True, help="What to start from.")
@click.option("--to-prompt", help="What to end at (default: the same).")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed at the start.")
@click.option("--to-seed", type=int, help="Seed at the end (default: the same).")
@click.option("--frames", type=int, default=9, show_default=True, help="Number of pictures, both ends included.")
@click.option("--negative", help="What to steer away from.")
@click.option("--steps", type=int, help="Sampling steps (default: the package's).")
@click.option("--guidance", type=float, help="Classifier-free guidance scale; 1 or less turns it off.")
@click.option("--sampler", help="As for `run`.")
@click.option("--size", metavar="WxH", help="Size in pixels (default: the package's).")
@click.option("--weighted", is_flag=True, help="Read (word:1.3), [word] and BREAK in prompts.")
@click.option("--seconds", type=float, help="Time of a picture in a .gif (default: 0.1).")
@engine_choice
@click.option("--out", required=True, type=PATH, help="A .png strip or a .gif animation.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
def interpolate(
    package: Path | None,
    prompt: str,
    to_prompt: str | None,
    seed: int,
    to_seed: int | None,
    frames: int,
    negative: str | None,
    steps: int | None,
    guidance: float | None,
    sampler: str | None,
    size: str | None,
    weighted: bool,
    seconds: float | None,
    engine: str,
    threads: int | None,
    engine_options: tuple[str, ...],
    out: Path,
    force: bool,
) -> None:
    """Draw the way from one prompt and seed to another with PACKAGE (default: the built-in model).

    \b
    Examples:
      ldm-export interpolate --prompt "cat face, 3d style" --to-prompt "dog face, 3d style" --out way.gif
      ldm-export interpolate --prompt "red apple, 3d style" --seed 1 --to-seed 2 --frames 5 --out way.png
    """
    import ldm_runtime
    from ldm_runtime.files.atomic import refuse_existing
    from ldm_runtime.interpolate import check_interpolation_output, save_interpolation
    from ldm_runtime.interpolate import interpolate as between

    check_interpolation_output(out)
    refuse_existing(out, force=force)
    if seconds is not None and not 0.01 <= seconds <= 60:
        raise InputError(f"--seconds got {seconds:g}, expected 0.01 to 60")
    given = read_engine_options(engine_options)
    with ldm_runtime.load(package, engine=engine, threads=threads, engine_options=given) as pipe:
        images = between(
            pipe,
            (prompt, prompt if to_prompt is None else to_prompt),
            (seed, seed if to_seed is None else to_seed),
            frames,
            negative=negative,
            steps=steps,
            guidance=guidance,
            sampler=sampler,
            size=read_size(size),
            syntax="weighted" if weighted else "plain",
        )
        drawn: list[Any] = []
        hidden = not sys.stderr.isatty()
        with click.progressbar(images, length=frames, label="pictures", file=sys.stderr, hidden=hidden) as bar:
            drawn += bar
        _show_notices(pipe.notices)
    save_interpolation(drawn, out, seconds=0.1 if seconds is None else seconds, force=force)
    if seconds is not None and out.suffix.lower() != ".gif":
        _show_notices([f"--seconds has no effect on {out}; it is for a .gif"])
    echo(f"{out} ({frames} pictures)")


@verbs.command()
@click.argument("package", required=False, type=PATH)
@click.option("--sampler", help="As for `run` (default: the package's).")
@click.option("--steps", type=int, help="Sampling steps (default: the package's).")
@click.option("--strength", type=float, help="Of an image to image run, 0 to 1.")
@click.option("--list", "listed", is_flag=True, help="List all samplers with their options instead.")
@click.option("--plot", type=PATH, help="Draw noise levels and timesteps to this .png.")
@click.option("--force", is_flag=True, help="Replace an existing plot.")
def plan(
    package: Path | None,
    sampler: str | None,
    steps: int | None,
    strength: float | None,
    listed: bool,
    plot: Path | None,
    force: bool,
) -> None:
    """Show what a sampler does with PACKAGE (default: the built-in model): every step as numbers.

    Each line is one evaluation of the UNet: its timestep, the noise level before and after it, and the matrix
    that makes the next state of the latents, the history, the output and the noise.

    \b
    Examples:
      ldm-export plan --sampler dpmpp_2m_karras --steps 10
      ldm-export plan ./sd15 --sampler unipc:order=3 --steps 8 --plot unipc.png
      ldm-export plan --list
    """
    from ldm_runtime.image import output_paths
    from ldm_runtime.package.open import read_contract
    from ldm_runtime.pipeline import builtin_package
    from ldm_runtime.request import first_step
    from ldm_runtime.sampling.plan import compile_plan
    from ldm_runtime.sampling.solvers import table

    if listed:
        echo(table())
        return
    if plot is not None:
        output_paths(plot, prompt="", count=1, force=force)
    contract = read_contract(builtin_package() if package is None else package)
    count = contract.defaults.steps if steps is None else steps
    name = contract.defaults.sampler if sampler is None else sampler
    made = compile_plan(contract.schedule, name, count, first_step(count, strength))
    if plot is not None:
        from ldm_export.plots import draw_curves
        from ldm_runtime.image import save_png

        curves = {
            "sigma / alpha": [(float(index), row.sigma / max(row.alpha, 1e-6)) for index, row in enumerate(made.rows)],
            "timestep + 1": [(float(index), row.timestep + 1.0) for index, row in enumerate(made.rows)],
        }
        save_png(draw_curves(curves), plot, {"plan": made.identity, "sampler": made.sampler}, force=force)
    echo(made.describe())


@verbs.command()
@click.argument("package", required=False, type=PATH)
@click.option("--engine", default="auto", show_default=True, help="Engine to prove.")
@click.option("--out", type=PATH, help="Folder for report.json and report.html.")
@click.option("--force", is_flag=True, help="Replace an existing report.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(package: Path | None, engine: str, out: Path | None, force: bool, as_json: bool) -> None:
    """Prove again, offline and without torch, that PACKAGE (default: the built-in one) equals its reference.

    The exit code is 1 if it does not.

    \b
    Examples:
      ldm-export verify
      ldm-export verify ./sd15
      ldm-export verify ./sd15 --out ./proof
      ldm-export verify ./sd15 --engine openvino
    """
    from ldm_export.verify.gate import verify_package
    from ldm_runtime.pipeline import builtin_package

    folder = builtin_package() if package is None else package
    report = verify_package(folder, engine=engine, out=out, force=force, progress=_stage_printer())
    _show(report, as_json)
    if not report.passed:
        for failure in report.failures:
            echo(f"error: {failure}", err=True)
        raise click.exceptions.Exit(1)


@verbs.command()
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable JSON.")
def engines(as_json: bool) -> None:
    """List the engines: those that this machine can run, and of the others the one thing that is missing.

    \b
    Examples:
      ldm-export engines
      ldm-export run --prompt "red apple, 3d style" --engine unet=ort:openvino,vae=ort
    """
    from ldm_runtime.engines import ENGINES

    missing = {name: kind.missing() for name, kind in ENGINES.items()}
    if as_json:
        facts = {
            name: {"summary": kind.summary, "runs_here": missing[name] is None, "missing": missing[name]}
            for name, kind in ENGINES.items()
        }
        echo_json(json.dumps(facts, indent=2))
        return
    width = max(len(name) for name in ENGINES)
    for name, kind in ENGINES.items():
        echo(f"{name:{width}}  {'runs here' if missing[name] is None else 'not here '}  {kind.summary}")
        if missing[name] is not None:
            echo(f"{'':{width}}             {missing[name]}")


@verbs.command()
@click.argument("package", required=False, type=PATH)
@click.option(
    "--engine",
    "--engines",
    "engines",
    multiple=True,
    help="One to measure, as for `run` (repeatable; default: all here).",
)
@click.option("--rounds", type=int, default=5, show_default=True, help="Processes per engine, which take turns.")
@click.option("--steps", type=int, help="Sampling steps of the picture (default: the package's).")
@click.option("--size", metavar="WxH", help="Size in pixels (default: the package's).")
@click.option("--threads", type=int, help="CPU threads of an operator (default: the engine's choice).")
@click.option("--out", type=PATH, help="Folder for bench.json and bench.png.")
@click.option("--force", is_flag=True, help="Replace existing outputs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def bench(
    package: Path | None,
    engines: tuple[str, ...],
    rounds: int,
    steps: int | None,
    size: str | None,
    threads: int | None,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Measure engines side by side on PACKAGE (default: the built-in one).

    For each: time to load, latency of every component and of a step, peak memory of the whole process, bytes of its
    files, error against the reference, pictures a minute. Let nothing else run meanwhile.

    \b
    Examples:
      ldm-export bench
      ldm-export bench ./sd15 --engine ort --engine openvino --size 512x512 --steps 2 --out ./bench
    """
    from ldm_export.bench import FILES, bench_package, write_results
    from ldm_runtime.files.atomic import refuse_existing_in
    from ldm_runtime.pipeline import builtin_package

    if out is not None:
        refuse_existing_in(out, FILES, force=force)
    report = bench_package(
        builtin_package() if package is None else package,
        engines=engines,
        rounds=rounds,
        steps=steps,
        size=read_size(size),
        threads=threads,
        progress=_stage_printer(),
    )
    if out is not None:
        write_results(report, out, force=force)
    _show(report, as_json)


@verbs.command()
@click.argument("path", required=False, type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable JSON.")
def inspect(path: Path | None, as_json: bool) -> None:
    """Tell what a package or checkpoint is (default: the built-in one): parts, sizes, contract, proof.

    No model is loaded; the files of a package are compared with its hashes. A checkpoint needs the extra `export`.

    \b
    Examples:
      ldm-export inspect
      ldm-export inspect ./stable-diffusion-v1-5 --json
    """
    from ldm_export.package.describe import describe, render

    facts = describe(path)
    echo_json(json.dumps(facts, indent=2)) if as_json else echo(render(facts))


@verbs.command()
@click.argument("recipe", type=PATH)
@click.option(
    "--runs",
    type=PATH,
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
    from ldm_export.train.run import train as run_training

    checkpoint = run_training(recipe, runs=runs, progress=lambda text: echo(text, err=True))
    echo(f"{checkpoint}: trained; try: ldm-export build {checkpoint} --out ./package")


@verbs.command()
@click.option("--out", required=True, type=PATH, help="Folder for pictures and captions.")
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
    from ldm_export.train.emoji import fetch_emoji

    chosen = styles if len(styles) > 0 else ("3d", "gradient", "flat", "noto")
    count = fetch_emoji(out, size=size, styles=chosen, progress=lambda text: echo(text, err=True))
    echo(f"{out}: {count} captioned pictures")


def _show(report: "BenchReport | Report", as_json: bool) -> None:
    if as_json:
        echo_json(report.to_json())
    else:
        echo(report.table())


def _stage_printer() -> Callable[[str], None]:
    """Progress of long work on stderr: the seconds since the start, and what is being done."""
    started = time.monotonic()
    return lambda text: echo(f"[{time.monotonic() - started:7.1f} s] {text}", err=True)


def _show_notices(notices: Iterable[str]) -> None:
    """What a run has to say beside its result."""
    for notice in notices:
        echo(f"note: {notice}", err=True)


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
                echo(f"step {done} of {last.total}, {left:.0f} s left", err=True)
                said = now
    return last


def main() -> None:
    """Entry point: make streams and signals safe, then run the verb. A result that cannot be printed is an error."""
    out, _ = guard_streams()
    end_on_request()
    code = verbs.answer(sys.argv[1:], "ldm-export")
    sys.stdout.flush()
    if out.lost is not None and code == 0:
        echo(f"error: the work is done, but its result could not be printed: {out.lost.strerror or out.lost}", err=True)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
