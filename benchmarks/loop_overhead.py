"""Measures what a sampling step costs beside the engine: noise, guidance, the plan's sums, checks.

The engine's time is taken out by a clock around its calls, so the figure holds for any engine of that speed.
"""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np

import ldm_runtime
from ldm_export.cli.options import read_size
from ldm_runtime.errors import LdmError
from ldm_runtime.pipeline import Pipeline

SAMPLERS = ("ddim", "euler_ancestral", "dpmpp_2m", "unipc:order=3", "dpmpp_sde")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("package", required=False, type=click.Path(path_type=Path))
@click.option("--size", metavar="WxH", help="Size in pixels (default: the package's).")
@click.option("--steps", default=20, show_default=True, help="Steps of a run.")
@click.option("--runs", default=5, show_default=True, help="Runs of each sampler; the median is told.")
@click.option("--sampler", "samplers", multiple=True, help="Only this one (repeatable).")
def main(package: Path | None, size: str | None, steps: int, runs: int, samplers: tuple[str, ...]) -> None:
    """Measure the time of a step outside of the engine, for PACKAGE (default: the built-in model).

    \b
    Examples:
      python benchmarks/loop_overhead.py
      python benchmarks/loop_overhead.py ./sd15 --size 512x512 --steps 2 --runs 3 --sampler dpmpp_2m
    """
    try:
        shape = read_size(size)
        with ldm_runtime.load(package) as pipe:
            click.echo(f"{'sampler':20} {'engine ms':>10} {'outside ms':>11} {'share':>7}   spread of the share")
            for sampler in samplers or SAMPLERS:
                measured = [measure(pipe, sampler, steps, shape) for _ in range(runs + 1)][1:]  # the first warms up
                engine, outside = (statistics.median(part) * 1000 for part in zip(*measured, strict=True))
                shares = sorted(rest / (inside + rest) for inside, rest in measured)
                spread = f"{shares[0]:.1%} to {shares[-1]:.1%}"
                click.echo(
                    f"{sampler:20} {engine:>10.2f} {outside:>11.3f} {statistics.median(shares):>7.1%}   {spread}"
                )
    except LdmError as error:
        raise click.ClickException(str(error)) from None


def measure(pipe: Pipeline, sampler: str, steps: int, size: tuple[int, int] | None) -> tuple[float, float]:
    """Seconds of one evaluation of the UNet, and of all else that belongs to it, in one run."""
    engine = pipe._engines["unet"]
    run = engine.run
    inside = 0.0
    calls = 0

    def timed(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        nonlocal inside, calls
        started = time.perf_counter()
        outputs = run(feeds)
        inside += time.perf_counter() - started
        calls += 1
        return outputs

    engine.run = timed  # type: ignore[method-assign]
    try:
        sampling = pipe.sample("red apple, 3d style", steps=steps, sampler=sampler, seed=1, size=size)
        started = time.perf_counter()  # the text is embedded by now
        for _ in sampling:
            pass
        whole = time.perf_counter() - started
    finally:
        engine.run = run  # type: ignore[method-assign]
    return inside / calls, (whole - inside) / calls


if __name__ == "__main__":
    main()
