"""Options that several verbs share, and the parsing of their values: paths, sizes, pairs of numbers."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ldm_export.checkpoint.hub.names import is_hub_name, parse_hub_name
from ldm_runtime.checks import check_path
from ldm_runtime.errors import InputError

MAX_GIGABYTES = 1_000_000


class _PathType(click.Path):
    """A path that can be looked up, existing or not: not too long, no loop of links, no NUL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name = "the path" if param is None else param.opts[0] if param.param_type_name == "option" else param.name
        check_path(str(name), value)
        return super().convert(value, param, ctx)


class _SourceType(_PathType):
    """A path, or a name of the hub, which stays text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not is_hub_name(value):
            return super().convert(value, param, ctx)
        parse_hub_name(value)
        return value


PATH = _PathType(path_type=Path)
SOURCE = _SourceType(path_type=Path)


def checkpoint_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a checkpoint is opened."""
    for option in (
        click.option(
            "--zero-snr", is_flag=True, help="Single file: its schedule ends in pure noise (zero terminal SNR)."
        ),
        click.option(
            "--prediction",
            type=click.Choice(["epsilon", "v_prediction"]),
            help="Single file: what its model predicts, where the file does not say.",
        ),
        click.option("--variant", help='Weight files to read, such as "fp16" for unet/….fp16.safetensors.'),
    ):
        verb = option(verb)
    return verb


def read_gigabytes(value: float | None) -> int | None:
    """Convert gigabytes to bytes. None stays None."""
    if value is None:
        return None
    if not (math.isfinite(value) and 0 < value <= MAX_GIGABYTES):
        raise InputError(
            f"--max-memory got {value}, expected a positive number of gigabytes, at most {MAX_GIGABYTES:,}"
        )
    return int(value * 1e9)


def read_size(text: str | None, option: str = "--size") -> tuple[int, int] | None:
    """Parse WIDTHxHEIGHT in pixels. None stays None."""
    if text is None:
        return None
    return _read_pixels(text.lower(), "x", f"{option} got {text!r}, expected WIDTHxHEIGHT in pixels, such as 512x512")


def read_corner(text: str) -> tuple[int, int]:
    """Parse TOP:LEFT in pixels."""
    return _read_pixels(text, ":", f"--crop-top-left got {text!r}, expected TOP:LEFT in pixels, such as 0:128")


def _read_pixels(text: str, separator: str, refusal: str) -> tuple[int, int]:
    numbers = text.split(separator)
    if len(numbers) != 2 or not all(number.isdecimal() and len(number) < 10 for number in numbers):
        raise InputError(refusal)
    return int(numbers[0]), int(numbers[1])


def read_pair(option: str, text: str) -> tuple[float, float]:
    """Parse two numbers with a colon between."""
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise InputError(f"{option} got {text!r}, expected two numbers with a colon between, such as 0.2:0.8") from None


def read_variation(text: str | None) -> tuple[int, float] | None:
    """Parse SEED:STRENGTH. None stays None."""
    if text is None:
        return None
    seed, _, strength = text.partition(":")
    try:
        return int(seed), float(strength)
    except ValueError:
        raise InputError(f"--variation got {text!r}, expected SEED:STRENGTH, such as 7:0.2") from None


def read_negatives(texts: tuple[str, ...]) -> str | tuple[str, ...] | None:
    """Read the negative prompts: one is for all prompts, several are one for each."""
    return texts if len(texts) > 1 else texts[0] if texts else None


def read_picard(text: str) -> tuple[int, float]:
    """Parse WINDOW:TOLERANCE."""
    window, _, tolerance = text.partition(":")
    try:
        return int(window), float(tolerance)
    except ValueError:
        raise InputError(f"--picard got {text!r}, expected WINDOW:TOLERANCE, such as 8:0.01") from None


def read_list(text: str) -> tuple[str, ...]:
    """Parse a list such as "8.6, 8.9", each value once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",")))


def read_engine_options(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Parse ("ort:cuda.device_id=1", …) to {"ort:cuda": {"device_id": "1"}}. Raises InputError for other forms."""
    options: dict[str, dict[str, str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        engine, dot, key = name.partition(".")
        if not (equals and dot and engine and key):
            raise InputError(f"--engine-option got {text!r}, expected ENGINE.NAME=VALUE such as ort:cuda.device_id=1")
        options.setdefault(engine, {})[key] = value
    return options


def engine_choice(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose an engine; they reach `ldm_runtime.load` unchanged."""
    options = (
        click.option(
            "--engine",
            default="auto",
            show_default=True,
            help="An engine of `ldm-export engines`, or several by component: unet=ort:cuda,vae=ort.",
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


def budget_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options that allow what is lossy; they reach the verb as `lossy`, options of `ldm_runtime.load`."""

    @functools.wraps(verb)
    def collecting(budget: str | None, exact: bool, variant: str | None, **values: Any) -> None:
        if exact and (budget not in (None, "exact") or variant is not None):
            other = f"--budget {budget}" if variant is None else f"--variant {variant}"
            raise InputError(f"--exact and {other} exclude each other; leave out one of them")
        verb(lossy={"budget": "exact" if budget is None else budget, "variant": variant}, **values)

    options = (
        click.option(
            "--budget",
            metavar="psnr=DB|ssim=SHARE|exact",
            help="Draw with the package's fastest variant that is this close to the exact image, such as psnr=35 "
            "(default: exact).",
        ),
        click.option("--exact", is_flag=True, help="The same as --budget exact: no variant."),
        click.option("--variant", help="Draw with this variant of the package, as `inspect` lists them."),
    )
    decorated: Callable[..., None] = collecting
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def _converted(read: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Make a callback of `read` for an option's text. None stays None."""
    return lambda context, parameter, text: None if text is None else read(text)


_NEGATIVES = click.option(
    "--negative",
    multiple=True,
    callback=lambda context, parameter, texts: read_negatives(texts),
    help="Negative prompt; once, or once for each prompt.",
)
_NEGATIVE = click.option("--negative", help="Negative prompt, the same for all images.")
_SAMPLING = {
    "steps": click.option("--steps", type=int, help="Sampling steps (default: the package's)."),
    "guidance": click.option("--guidance", type=float, help="Classifier-free guidance scale; 1 or less turns it off."),
    "guidance_rescale": click.option(
        "--guidance-rescale", type=float, default=0.0, help="Rescale against overexposure by guidance, 0 to 1."
    ),
    "guidance_interval": click.option(
        "--guidance-interval",
        metavar="A:B",
        callback=_converted(lambda text: read_pair("--guidance-interval", text)),
        help="Guide only between these shares of the run (default: 0:1).",
    ),
    "sampler": click.option(
        "--sampler", help="Sampler, with options after a colon, such as dpmsolver:order=3; see `plan --list`."
    ),
    "picard": click.option(
        "--picard",
        metavar="WINDOW:TOLERANCE",
        callback=_converted(read_picard),
        help="Evaluate WINDOW rows of the plan at once, until none moves by more than TOLERANCE, such as 8:0.01.",
    ),
    "stop_after": click.option(
        "--stop-after", type=int, help="Stop after this many steps; the PNG of a stopped run records it."
    ),
    "size": click.option(
        "--size",
        metavar="WxH",
        callback=_converted(read_size),
        help="Size in pixels, such as 512x512 (default: the package's).",
    ),
    "original_size": click.option(
        "--original-size",
        metavar="WxH",
        callback=_converted(lambda text: read_size(text, "--original-size")),
        help="Size of the original that SDXL is told (default: that of the image).",
    ),
    "crop_top_left": click.option(
        "--crop-top-left",
        metavar="TOP:LEFT",
        callback=_converted(read_corner),
        help="Corner of the crop from the original that SDXL is told (default: 0:0).",
    ),
    "target_size": click.option(
        "--target-size",
        metavar="WxH",
        callback=_converted(lambda text: read_size(text, "--target-size")),
        help="Size of the image that SDXL is told (default: its own).",
    ),
    "syntax": click.option(
        "--weighted",
        "syntax",
        is_flag=True,
        callback=lambda context, parameter, weighted: "weighted" if weighted else "plain",
        help="Read (word:1.3), [word] and BREAK in prompts; allow long ones.",
    ),
    "noise": click.option(
        "--noise",
        default="philox",
        show_default=True,
        help="Generator of the noise: philox, or torch or cuda for diffusers' seeds.",
    ),
}


def sampling_options(*, takes_prompts: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of a run that verbs share. They reach the verb as `options`, a `SampleOptions`.

    takes_prompts: the verb takes several prompts, so that `--negative` may be given for each.
    """
    shared = {"negative": _NEGATIVES if takes_prompts else _NEGATIVE, **_SAMPLING}

    def add(verb: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(verb)
        def collecting(**values: Any) -> None:
            verb(options={name: values.pop(name) for name in shared}, **values)

        decorated: Callable[..., None] = collecting
        for option in reversed(shared.values()):
            decorated = option(decorated)
        return decorated

    return add
