"""Which sizes a plan is built for: from what a user asks to a range of every axis of every component.

A user speaks of pictures at once, their sides in pixels, and windows of text. Guidance doubles the batch of the UNet,
and the sides of latents are those of pictures divided: all of it is derived here, so that no two axes disagree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ldm_runtime.errors import InputError
from ldm_runtime.package.manifest import COMPONENTS, Contract, Dim, Range
from ldm_runtime.package.rules import MAX_PIXELS

DEFAULT_BATCH = Range(1, 1, 4)
DEFAULT_GROWTH = 1.5  # the largest side, in sides of the package's own pictures
CORNERS = ("min", "opt", "max")

AxisRanges = dict[str, Range]  # axis -> sizes
Shape = tuple[int, ...]
Shapes = tuple[Shape, Shape, Shape]  # smallest, preferred, largest


@dataclass(frozen=True)
class Profile:
    """What a plan shall cover: smallest, preferred and largest. None is derived from the package."""

    batch: Range | None = None  # pictures at once
    width: Range | None = None  # pixels
    height: Range | None = None
    windows: Range | None = None  # of text, joined to one context


def read_profile(texts: Sequence[str]) -> Profile:
    """("batch=1:2:4", "size=512") -> Profile. One number is all three; size is both sides.

    Raises InputError for an unknown name, one given twice, or what is no rising row of numbers.
    """
    found: dict[str, Range] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        names = {"size": ("width", "height")}.get(name, (name,))
        if not equals or not set(names) <= {"batch", "width", "height", "windows"}:
            raise InputError(f"--profile got {text!r}; expected batch=, size=, width=, height= or windows=")
        for each in names:
            if each in found:
                raise InputError(f"--profile gives {each} twice")
            found[each] = _range(text, value)
    return Profile(**found)


def _range(text: str, value: str) -> Range:
    parts = value.split(":")
    if len(parts) not in (1, 3) or not all(part.isascii() and part.isdecimal() and len(part) < 8 for part in parts):
        raise InputError(f"--profile got {text!r}; expected a number or MIN:OPT:MAX, such as size=256:512:768")
    numbers = [int(part) for part in parts] * (3 if len(parts) == 1 else 1)
    if not 1 <= numbers[0] <= numbers[1] <= numbers[2]:
        raise InputError(f"--profile got {text!r}; expected MIN <= OPT <= MAX, from 1 up")
    return Range(*numbers)


def axis_ranges(contract: Contract, profile: Profile) -> dict[str, AxisRanges]:
    """Component -> its axes, those of outputs included -> the sizes that a plan has to cover.

    Raises InputError for what the package cannot do, or if its own default size would not be covered.
    """
    width = _side("width", contract.image.width, profile.width, contract)
    height = _side("height", contract.image.height, profile.height, contract)
    single, guided = _batches(contract, profile.batch)
    latent = {2: _divided(height, contract), 3: _divided(width, contract)}
    image = {2: height, 3: width}
    window = contract.tokenizer.max_length
    sizes: dict[tuple[str, str], dict[int, Range]] = {  # component, tensor -> dimension -> sizes
        ("text_encoder", "input_ids"): {0: single, 1: Range(1, window, window)},
        ("unet", "sample"): {0: guided, **latent},
        ("unet", "encoder_hidden_states"): {1: _context(contract, profile.windows)},
        ("vae_encoder", "sample"): {0: single, **image},
        ("vae_encoder", "latent_parameters"): latent,
        ("vae_decoder", "latent_sample"): {0: single, **latent},
        ("vae_decoder", "sample"): image,
    }
    ranges: dict[str, AxisRanges] = {component: {} for component in COMPONENTS}
    for (component, tensor), by_dimension in sizes.items():
        dims = contract.tensor(component, tensor).dims
        named = {dims[index]: size for index, size in by_dimension.items()}
        ranges[component] |= {dim: size for dim, size in named.items() if isinstance(dim, str)}
    check_corners(contract, ranges)
    return ranges


def check_corners(contract: Contract, ranges: Mapping[str, AxisRanges]) -> None:
    """Raise InputError unless smallest, preferred and largest sizes are each a run that the package can make.

    In each, every axis is within the contract, and the sides of pictures are those of latents times the downsampling.
    """
    factor = contract.latent.downsample
    for component, sizes in ranges.items():
        for corner in CORNERS:
            at = {axis: int(getattr(size, corner)) for axis, size in sizes.items()}
            for axis, size in at.items():
                low, high = contract.range_of(axis)
                if not low <= size <= high:
                    raise InputError(
                        f"the profile has {axis} of {size} in {component}; the package takes {low} to {high}"
                    )
            if component not in ("vae_encoder", "vae_decoder"):
                continue
            sides = ("latent_parameters", "sample") if component == "vae_encoder" else ("latent_sample", "sample")
            small, large = (contract.tensor(component, name).dims[2:] for name in sides)
            for latent, image in zip(small, large, strict=True):
                if _size(image, at) != factor * _size(latent, at):
                    raise InputError(
                        f"the profile of {component} has at its {corner} {_size(image, at)} pixels for "
                        f"{_size(latent, at)} of the latent; expected {factor} times as many"
                    )
            if _size(large[0], at) * _size(large[1], at) > MAX_PIXELS:
                shown = f"{_size(large[1], at)}x{_size(large[0], at)}"
                raise InputError(f"the profile has pictures of {shown} pixels; the runtime makes {MAX_PIXELS} at most")


def input_shapes(contract: Contract, component: str, ranges: AxisRanges) -> dict[str, Shapes]:
    """Input -> its smallest, preferred and largest shape; of an input of rank 0 they are empty."""
    corners = [{axis: int(getattr(size, corner)) for axis, size in ranges.items()} for corner in CORNERS]
    shapes = {}
    for spec in contract.components[component].inputs:
        low, opt, high = (tuple(_size(dim, corner) for dim in spec.dims) for corner in corners)
        shapes[spec.name] = (low, opt, high)
    return shapes


def _size(dim: Dim, sizes: Mapping[str, int]) -> int:
    return dim if isinstance(dim, int) else sizes[dim]


def _side(name: str, native: int, asked: Range | None, contract: Contract) -> Range:
    """In pixels, whole multiples of a latent's."""
    step = contract.latent.downsample
    dim = contract.tensor("unet", "sample").dims[2 if name == "height" else 3]
    low, high = (limit * step for limit in contract.range_of(dim))
    if asked is None:
        most = min(int(native * DEFAULT_GROWTH) // step * step, high)
        return Range(low, native, max(most, native))
    for pixels in (asked.min, asked.opt, asked.max):
        if pixels % step != 0 or not low <= pixels <= high:
            raise InputError(
                f"the profile has a {name} of {pixels}; the package takes multiples of {step} from {low} to {high}"
            )
    if not asked.min <= native <= asked.max:
        raise InputError(
            f"the profile has a {name} of {asked.min} to {asked.max}, which leaves out {native}, what the package "
            f"draws when no size is given; widen it"
        )
    return asked


def _divided(pixels: Range, contract: Contract) -> Range:
    step = contract.latent.downsample
    return Range(pixels.min // step, pixels.opt // step, pixels.max // step)


def _batches(contract: Contract, asked: Range | None) -> tuple[Range, Range]:
    """Of the text encoder and the VAE, which get texts and pictures one by one, and of the UNet with guidance."""
    most = contract.range_of(contract.tensor("unet", "sample").dims[0])[1]
    factor = 2 if contract.defaults.guidance > 1 else 1
    batch = asked
    if batch is None:
        batch = Range(1, 1, max(1, min(DEFAULT_BATCH.max, most // 2)))
    if factor * batch.max > most:
        raise InputError(
            f"the profile has {batch.max} pictures at once"
            + (f", with guidance a batch of {2 * batch.max}" if factor == 2 else "")
            + f"; the package takes {most} at most"
        )
    guided = Range(batch.min, factor * batch.opt, min(2 * batch.max, most))
    return Range(1, 1, batch.max), guided


def _context(contract: Contract, asked: Range | None) -> Range:
    """Tokens that the UNet reads: whole windows, or less of the smallest, as callers' own embeddings may have."""
    window = contract.tokenizer.max_length
    low, high = contract.range_of(contract.tensor("unet", "encoder_hidden_states").dims[1])
    windows = Range(1, 1, max(1, high // window)) if asked is None else asked
    if windows.max * window > high:
        raise InputError(f"the profile has {windows.max} windows of text; the package joins {high // window} at most")
    smallest = low if windows.min == 1 else windows.min * window
    return Range(smallest, windows.opt * window, windows.max * window)
