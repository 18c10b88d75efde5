"""Measures what a sampling step costs beside the engine: noise, guidance, the plan's sums, checks.

The engine's time is taken out by a clock around its calls, so the figure holds for any engine of that speed.
"""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np

from ldm_export.cli.options import read_size
from ldm_runtime.engines.choice import choose, open_engine
from ldm_runtime.engines.engine import Engine
from ldm_runtime.errors import LdmError
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import Pipeline, builtin_package

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
        opened = open_package(builtin_package() if package is None else package)
        choice = choose()
        unet = TimedEngine(open_engine(choice, opened, "unet").engine)
        with Pipeline(opened, choice, engines={"unet": unet}) as pipe:
            opened.confirm()
            click.echo(f"{'sampler':20} {'engine ms':>10} {'outside ms':>11} {'share':>7}   spread of the share")
            for sampler in samplers or SAMPLERS:
                measured = [measure(pipe, unet, sampler, steps, shape) for _ in range(runs + 1)][
                    1:
                ]  # the first warms up
                engine, outside = (statistics.median(part) * 1000 for part in zip(*measured, strict=True))
                shares = sorted(rest / (inside + rest) for inside, rest in measured)
                spread = f"{shares[0]:.1%} to {shares[-1]:.1%}"
                click.echo(
                    f"{sampler:20} {engine:>10.2f} {outside:>11.3f} {statistics.median(shares):>7.1%}   {spread}"
                )
    except LdmError as error:
        raise click.ClickException(str(error)) from None


class TimedEngine:
    """An engine with a clock around its calls.

    seconds: spent in them.
    """

    def __init__(self, engine: Engine) -> None:
        self.inputs, self.outputs, self.notices = engine.inputs, engine.outputs, engine.notices
        self.maps_weights = engine.maps_weights
        self.seconds = 0.0
        self.calls = 0
        self._engine = engine

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        started = time.perf_counter()
        outputs = self._engine.run(feeds)
        self.seconds += time.perf_counter() - started
        self.calls += 1
        return outputs

    def close(self) -> None:
        self._engine.close()


def measure(
    pipe: Pipeline, unet: TimedEngine, sampler: str, steps: int, size: tuple[int, int] | None
) -> tuple[float, float]:
    """Measure, in one run, the seconds of one evaluation of the UNet, and of all else that belongs to it."""
    run = pipe.sample("red apple, 3d style", steps=steps, sampler=sampler, seed=1, size=size)
    unet.seconds, unet.calls = 0.0, 0
    started = time.perf_counter()  # the text is embedded by now
    for _ in run:
        pass
    whole = time.perf_counter() - started
    return unet.seconds / unet.calls, (whole - unet.seconds) / unet.calls


if __name__ == "__main__":
    main()
