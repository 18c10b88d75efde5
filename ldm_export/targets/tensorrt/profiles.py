"""The sizes that a plan is built for: from a user's profile to a range of every axis of every component.

A profile names images at once, their sides in pixels, and windows of text. Guidance doubles the batch of the UNet,
and the sides of latents are those of images divided: all of it is derived here, so that no two axes disagree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ldm_runtime.errors import InputError
from ldm_runtime.package.artefacts import Range
from ldm_runtime.package.manifest import Contract
from ldm_runtime.package.tensor_spec import Dim
from ldm_runtime.package.values import MAX_PIXELS

DEFAULT_BATCH = Range(1, 1, 4)
DEFAULT_GROWTH = 1.5  # the largest side, in sides of the package's own images
_OPTION = "--profile (tensorrt.profiles)"
CORNERS = ("min", "opt", "max")

AxisRanges = dict[str, Range]  # axis -> sizes
Shape = tuple[int, ...]
Shapes = tuple[Shape, Shape, Shape]  # smallest, preferred, largest


@dataclass(frozen=True)
class Profile:
    """The sizes that a plan covers: smallest, preferred and largest. None is derived from the package."""

    batch: Range | None = None  # images at once
    width: Range | None = None  # pixels
    height: Range | None = None
    windows: Range | None = None  # of text, joined to one context


def read_profile(texts: Sequence[str]) -> Profile:
    """Read ("batch=1:2:4", "size=512"). One number is all three; size is both sides.

    Raises InputError for an unknown name, one given twice, or what is not a rising row of numbers.
    """
    ranges: dict[str, Range] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        names = {"size": ("width", "height")}.get(name, (name,))
        if not equals or not set(names) <= {"batch", "width", "height", "windows"}:
            raise InputError(f"{_OPTION} got {text!r}; expected batch=, size=, width=, height= or windows=")
        for each in names:
            if each in ranges:
                raise InputError(f"{_OPTION} gives {each} twice")
            ranges[each] = _range(text, value)
    return Profile(**ranges)


def _range(text: str, value: str) -> Range:
    parts = value.split(":")
    if len(parts) not in (1, 3) or not all(part.isascii() and part.isdecimal() and len(part) < 8 for part in parts):
        raise InputError(f"{_OPTION} got {text!r}; expected a number or MIN:OPT:MAX, such as size=256:512:768")
    numbers = [int(part) for part in parts] * (3 if len(parts) == 1 else 1)
    if not 1 <= numbers[0] <= numbers[1] <= numbers[2]:
        raise InputError(f"{_OPTION} got {text!r}; expected MIN <= OPT <= MAX, from 1 up")
    return Range(*numbers)


def axis_ranges(contract: Contract, profile: Profile) -> dict[str, AxisRanges]:
    """Return component -> its axes, those of outputs included -> the sizes that a plan has to cover.

    Raises InputError for what the package cannot do, or if its own default size would not be covered.
    """
    width = _side("width", contract.image.width, profile.width, contract)
    height = _side("height", contract.image.height, profile.height, contract)
    if width.max * height.max > MAX_PIXELS:
        shown = f"{width.max}x{height.max}"
        raise InputError(f"the profile has images of {shown} pixels; the runtime makes {MAX_PIXELS} at most")
    single, guided = _batches(contract, profile.batch)
    windows = _windows(contract, profile.windows)
    ranges: dict[str, AxisRanges] = {}
    for component in contract.components:
        batch = guided if component == contract.denoiser.component else single
        corners = [
            contract.sizes(
                component,
                batch=getattr(batch, corner),
                width=getattr(width, corner),
                height=getattr(height, corner),
                windows=getattr(windows, corner),
            )
            for corner in CORNERS
        ]
        ranges[component] = {axis: Range(*(sizes[axis] for sizes in corners)) for axis in corners[0]}
    _allow_few_tokens(contract, windows, ranges)
    for component, sizes in ranges.items():
        for axis, size in sizes.items():
            low, high = contract.range_of(axis)
            for each in (size.min, size.opt, size.max):
                if not low <= each <= high:
                    what = f"the profile has {axis} of {each} in {component}"
                    raise InputError(f"{what}; the package takes {low} to {high}")
    return ranges


def _allow_few_tokens(contract: Contract, windows: Range, ranges: Mapping[str, AxisRanges]) -> None:
    """Let text encoders and the denoiser read less than a window, as callers' own embeddings may have."""
    ports = [(text.component, contract.tensor(text.component, text.input).dims[1]) for text in contract.text]
    ports += [(contract.denoiser.component, contract.context.dims[1])] if windows.min == 1 else []
    for component, dim in ports:
        if isinstance(dim, str):
            ranges[component][dim] = replace(ranges[component][dim], min=contract.range_of(dim)[0])


def input_shapes(contract: Contract, component: str, ranges: AxisRanges) -> dict[str, Shapes]:
    """Return input -> its smallest, preferred and largest shape; of an input of rank 0 they are empty."""
    corners = [{axis: int(getattr(size, corner)) for axis, size in ranges.items()} for corner in CORNERS]
    shapes = {}
    for spec in contract.components[component].inputs:
        low, opt, high = (tuple(_size(dim, corner) for dim in spec.dims) for corner in corners)
        shapes[spec.name] = (low, opt, high)
    return shapes


def _size(dim: Dim, sizes: Mapping[str, int]) -> int:
    return dim if isinstance(dim, int) else sizes[dim]


def _side(name: str, native: int, chosen: Range | None, contract: Contract) -> Range:
    """Return the range of a side in pixels, in multiples of a latent's."""
    step = contract.latent.downsample
    dim = contract.sample.dims[2 if name == "height" else 3]
    low, high = (limit * step for limit in contract.range_of(dim))
    if chosen is None:
        most = min(int(native * DEFAULT_GROWTH) // step * step, high)
        return Range(low, native, max(most, native))
    for pixels in (chosen.min, chosen.opt, chosen.max):
        if pixels % step != 0 or not low <= pixels <= high:
            raise InputError(
                f"the profile has a {name} of {pixels}; the package takes multiples of {step} from {low} to {high}"
            )
    if not chosen.min <= native <= chosen.max:
        raise InputError(
            f"the profile has a {name} of {chosen.min} to {chosen.max}, which leaves out {native}, what the package "
            f"draws when no size is given; widen it"
        )
    return chosen


def _batches(contract: Contract, chosen: Range | None) -> tuple[Range, Range]:
    """Return the batches of text encoder and VAE, which take prompts and images one by one, and of the UNet."""
    most = contract.range_of(contract.sample.dims[0])[1]
    factor = 2 if contract.evaluates_negative(contract.defaults.guidance) else 1
    batch = chosen
    if batch is None:
        batch = Range(1, 1, max(1, min(DEFAULT_BATCH.max, most // 2)))
    if factor * batch.max > most:
        raise InputError(
            f"the profile has {batch.max} images at once"
            + (f", with guidance a batch of {2 * batch.max}" if factor == 2 else "")
            + f"; the package takes {most} at most"
        )
    largest = batch.max if contract.embeds_guidance else 2 * batch.max
    guided = Range(batch.min, factor * batch.opt, min(largest, most))
    return Range(1, 1, batch.max), guided


def _windows(contract: Contract, chosen: Range | None) -> Range:
    """Return the windows of text that the context joins."""
    high = contract.range_of(contract.context.dims[1])[1] // contract.window
    windows = Range(1, 1, max(1, high)) if chosen is None else chosen
    if windows.max > max(1, high):
        raise InputError(f"the profile has {windows.max} windows of text; the package joins {high} at most")
    return windows
