"""Compares this project with diffusers, optimum-onnx, OpenVINO GenAI and stable-diffusion.cpp, side by side in one run.

Each is installed into an environment of its own; start-up and memory count as much as throughput.
"""

import sys
from pathlib import Path

import click

from benchmarks.peers.environments import ALL_TASKS, COMPONENTS, PEERS
from benchmarks.peers.inputs import write_checkpoint, write_inputs
from benchmarks.peers.results import Settings, open_results
from benchmarks.peers.rounds import Models, Runner, Say, environments_in, run_rounds
from benchmarks.peers.tables import bars, render
from ldm_export.bench import MAX_ROUNDS, MAX_STEPS, machine
from ldm_export.cli.options import read_size
from ldm_export.plots import draw_bars, require_matplotlib
from ldm_export.process.isolate import run_isolated
from ldm_runtime.checks import check_integer
from ldm_runtime.engines.choice import most_threads
from ldm_runtime.errors import InputError, LdmError
from ldm_runtime.files.atomic import atomic_file
from ldm_runtime.image import save_png
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import builtin_package
from ldm_runtime.request import check_image_size

TABLES, PLOT = "peers.md", "peers.png"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option("--package", type=click.Path(path_type=Path), help="What `ldm-export build` made of CHECKPOINT.")
@click.option(
    "--openvino", type=click.Path(path_type=Path), help="Folder for OpenVINO GenAI (default: PACKAGE/openvino-genai)."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of results, models and logs.")
@click.option("--environments", type=click.Path(path_type=Path), help="Folder of them (default: OUT/environments).")
@click.option("--here", is_flag=True, help="Run all in this environment, for trying out; sizes are not measured then.")
@click.option("--peer", "peers", multiple=True, type=click.Choice(list(PEERS)), help="Only this one (repeatable).")
@click.option("--task", "tasks", multiple=True, type=click.Choice(ALL_TASKS), help="Only this one (repeatable).")
@click.option(
    "--component", "components", multiple=True, type=click.Choice(COMPONENTS), help="Only this one (repeatable)."
)
@click.option("--size", metavar="WxH", help="Size in pixels (default: the package's).")
@click.option("--steps", type=int, help="Steps of an image, at least 2 (default: the package's).")
@click.option("--rounds", default=5, show_default=True, help="Rounds in which the peers take turns.")
@click.option("--threads", default=2, show_default=True, help="Of each peer.")
@click.option("--force", is_flag=True, help="Measure again what is in OUT already.")
def main(
    checkpoint: Path | None,
    package: Path | None,
    openvino: Path | None,
    out: Path,
    environments: Path | None,
    here: bool,
    peers: tuple[str, ...],
    tasks: tuple[str, ...],
    components: tuple[str, ...],
    size: str | None,
    steps: int | None,
    rounds: int,
    threads: int,
    force: bool,
) -> None:
    """Measure the peers on CHECKPOINT, a diffusers folder (default: what PACKAGE holds, or the built-in model).

    Run it again after an interruption, or for more rounds: what was measured is kept. Writes peers.json with all
    figures, peers.md and peers.png into OUT. A peer that cannot be installed or run is in peers.md with the reason.

    \b
    Examples:
      python benchmarks/peers.py --out runs/peers-builtin
      python benchmarks/peers.py ./sd15 --package ./sd15-package --size 512x512 --steps 2 --out runs/peers-sd15
      python benchmarks/peers.py --out runs/two --peer ours --peer optimum --rounds 20
      python benchmarks/peers.py ./sd15 --package ./sd15-package --size 512x512 --steps 2 --out runs/lossy \\
        --task components --component unet --component vae_decoder
    """

    def say(text: str) -> None:
        click.echo(text, err=True)

    try:
        if checkpoint is not None and package is None:
            raise InputError(f"give --package too: the package that `ldm-export build` made of {checkpoint}")
        tables = compare(
            package if package is not None else builtin_package(),
            out,
            checkpoint=checkpoint,
            openvino=openvino,
            environments=environments,
            here=here,
            peers=peers,
            tasks=tasks,
            components=components,
            size=read_size(size),
            steps=steps,
            rounds=rounds,
            threads=threads,
            force=force,
            say=say,
        )
    except LdmError as error:
        raise click.ClickException(str(error)) from None
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is not installed; install it with: pip install '.[cpu,export]'"
        ) from None
    click.echo(tables.read_text(encoding="utf-8"))


def compare(
    package: Path,
    out: Path,
    *,
    checkpoint: Path | None = None,
    openvino: Path | None = None,
    environments: Path | None = None,
    here: bool = False,
    peers: tuple[str, ...] = (),
    tasks: tuple[str, ...] = (),
    components: tuple[str, ...] = (),
    size: tuple[int, int] | None = None,
    steps: int | None = None,
    rounds: int = 5,
    threads: int = 2,
    force: bool = False,
    say: Say = lambda text: None,
) -> Path:
    """Measure and write the results into the folder `out`; returns the path of peers.md.

    Raises:
        InputError: a value that cannot be, or results of other settings in `out`.
        LdmError: the package or the checkpoint is not usable.
    """
    require_matplotlib(str(out / PLOT))
    opened = open_package(package)
    contract = opened.manifest.contract
    rounds = check_integer("rounds", rounds, 1, MAX_ROUNDS)
    threads = check_integer("threads", threads, 1, most_threads())
    # The first step also waits for the text encoder where a peer tells the ends of steps only.
    steps = check_integer("steps", contract.defaults.steps if steps is None else steps, 2, MAX_STEPS)
    width, height = (contract.image.width, contract.image.height) if size is None else size
    check_image_size(contract, width, height, "the size")
    if contract.inpaints:
        raise InputError(
            f"{package} is an inpainting model; the peers are compared on models that draw from a prompt alone"
        )
    opened.confirm()
    name = opened.manifest.name
    settings = Settings(name, opened.identity, (width, height), steps, contract.defaults.guidance, threads)
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    results = open_results(out, settings, machine(), force=force)
    models = Models(
        package=package.absolute(),
        checkpoint=_checkpoint(package, checkpoint, out, opened.identity),
        exported=out / "models" / f"optimum-{opened.identity[:16]}",
        openvino=(package / "openvino-genai" if openvino is None else openvino).absolute(),
        openvino_int8=out / "models" / f"openvino-int8-{opened.identity[:16]}",
        lossy=out / "models" / f"lossy-{opened.identity[:16]}",
    )
    (out / "models").mkdir(exist_ok=True)
    if force or not (out / "inputs.npz").exists():
        from benchmarks.peers.lossy import measured_inputs  # which needs more than --help does

        say("recording what the components are measured on")
        real = run_isolated(measured_inputs, package.absolute(), settings.size, settings.threads).value
        write_inputs(out / "inputs.npz", contract, settings.size, real)
    find = _this_python if here else environments_in((environments or out / "environments").absolute(), results, say)
    runner = Runner(out, results, models, find, say, components or COMPONENTS)
    run_rounds(runner, list(peers or PEERS), rounds, tasks or ALL_TASKS)
    with atomic_file(out / TABLES) as temporary:
        temporary.write_text(render(results), encoding="utf-8")
    drawn = bars(results)
    if drawn:
        save_png(draw_bars(drawn, "s"), out / PLOT, {"package": opened.identity}, force=True)
    return out / TABLES


def _checkpoint(package: Path, checkpoint: Path | None, out: Path, identity: str) -> Path:
    """Return the checkpoint that was given, or the package's, written once."""
    if checkpoint is not None:
        if not (checkpoint / "model_index.json").is_file():
            raise InputError(f"{checkpoint} is not a diffusers folder: it has no model_index.json")
        return checkpoint.absolute()
    written = out / "models" / f"checkpoint-{identity[:16]}"
    if not written.exists():
        written.parent.mkdir(exist_ok=True)
        run_isolated(write_checkpoint, package, written)
    return written


def _this_python(peer: str) -> Path:
    return Path(sys.executable)


if __name__ == "__main__":
    main()
