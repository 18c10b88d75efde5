"""Rules of a contract: every tensor has a role, and sizes, latents and prompts agree."""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ldm_runtime.checks import shown
from ldm_runtime.errors import InputError
from ldm_runtime.package.values import (
    MAX_AXIS,
    MAX_PIXELS,
    check_between,
    check_name,
    check_relative_path,
    check_same_names,
    check_span,
    fail,
)
from ldm_runtime.sampling.plan import check_steps
from ldm_runtime.sampling.solvers import read_sampler

if TYPE_CHECKING:
    from ldm_runtime.package.manifest import Axis, Contract, Multiple
    from ldm_runtime.package.tensor_spec import ComponentContract, Dim, TensorSpec

# Role of a tensor -> its types and its number of dimensions.
_INTEGERS = ("int64", "int32")
_FLOATS = ("float32",)
_ROLES: dict[str, tuple[tuple[str, ...], int]] = {
    "text.input": (_INTEGERS, 2),
    "text.output": (_FLOATS, 3),
    "text.pooled": (_FLOATS, 2),
    "denoiser.sample": (_FLOATS, 4),
    "denoiser.timestep": (_FLOATS, 0),
    "denoiser.context": (_FLOATS, 3),
    "denoiser.extra": (_FLOATS, 2),
    "denoiser.output": (_FLOATS, 4),
    "codec.encoder.input": (_FLOATS, 4),
    "codec.encoder.output": (_FLOATS, 4),
    "codec.decoder.input": (_FLOATS, 4),
    "codec.decoder.output": (_FLOATS, 4),
}
_OUTPUTS = ("output", "pooled")
CONCATS: tuple[tuple[str, ...], ...] = ((), ("mask", "masked_latents"))
IMAGE_SIZES = 6  # numbers of the rule "image_sizes"
_MAX_CHANNELS = 2**12
_MAX_DOWNSAMPLE = 2**10
_MAX_WINDOW = 2**16
_MAX_VOCABULARY = 2**24
_MAX_STEPS = 1000  # by default
MAX_GUIDANCE = 1000


def check_contract(contract: "Contract", where: str) -> None:
    """Check that sizes are sane, and that components, roles, latents and prompts agree."""
    for name, axis in contract.axes.items():
        check_name(name, f"{where}.axes")
        check_between(axis.min, 1, MAX_AXIS, f"{where}.axes[{shown(name)}].min")
        check_between(axis.max, axis.min, MAX_AXIS, f"{where}.axes[{shown(name)}].max")
        for size in axis.proven:
            check_between(size, axis.min, axis.max, f"{where}.axes[{shown(name)}].proven")
        if axis.multiple_of is not None:
            _check_multiple(axis, axis.multiple_of, contract, f"{where}.axes[{shown(name)}].multiple_of")
    for name, component in contract.components.items():
        check_name(name, f"{where}.components")
        check_signature(component, contract, f"{where}.components[{shown(name)}]")
    _check_roles(contract, where)
    _check_latent(contract, where)
    _check_text(contract, where)
    _check_facts(contract, where)


def check_signature(component: "ComponentContract", contract: "Contract", where: str) -> None:
    """Check the names and dimensions of a graph's inputs and outputs."""
    for what, specs in (("inputs", component.inputs), ("outputs", component.outputs)):
        _check_tensors(specs, contract, f"{where}.{what}")
    both = {spec.name for spec in component.inputs} & {spec.name for spec in component.outputs}
    if both:
        fail(where, f"has an input and an output named {shown(min(both))}", "manifest.tensor")


def check_plan(contract: "Contract", steps: int | None, sampler: str | None, where: str) -> None:
    """Check steps and a sampler, at their places below `where`; of those that are None the defaults count."""
    defaults, schedule = contract.defaults, contract.schedule
    steps = defaults.steps if steps is None else steps
    check_between(steps, 1, min(schedule.num_train_timesteps, _MAX_STEPS), f"{where}.steps")
    try:
        check_steps(schedule, read_sampler(defaults.sampler if sampler is None else sampler), steps)
    except InputError as error:
        fail(f"{where}.sampler", f"is not usable: {error}", "manifest.sampler")


def _check_multiple(axis: "Axis", multiple: "Multiple", contract: "Contract", where: str) -> None:
    source = contract.axes.get(multiple.axis)
    if source is None or source.multiple_of is not None:
        fail(
            where,
            f"names the axis {shown(multiple.axis)}; expected one of axes that is not a multiple itself",
            "manifest.axis",
        )
    check_between(multiple.factor, 1, _MAX_DOWNSAMPLE, f"{where}.factor")
    if (axis.min, axis.max) != (source.min * multiple.factor, source.max * multiple.factor):
        expected = f"{multiple.factor} times {source.min} to {source.max}"
        fail(where, f"has {axis.min} to {axis.max}; expected {expected}", "manifest.axis")


def _check_tensors(specs: Sequence["TensorSpec"], contract: "Contract", where: str) -> None:
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        fail(where, "names a tensor twice", "manifest.tensor")
    for spec in specs:
        check_name(spec.name, where)
        for dim in spec.dims:
            if isinstance(dim, int):
                check_between(dim, 1, MAX_AXIS, f"{where}[{shown(spec.name)}].dims")
            elif dim not in contract.axes:
                fail(
                    f"{where}[{shown(spec.name)}].dims",
                    f"names the axis {shown(dim)}, which axes does not have",
                    "manifest.axis",
                )
        named = sorted(dim for dim in spec.dims if isinstance(dim, str))
        twice = [dim for dim, other in itertools.pairwise(named) if dim == other]
        if twice:
            fail(f"{where}[{shown(spec.name)}].dims", f"names an axis twice: {shown(twice[0])}", "manifest.axis")


def _ports(contract: "Contract") -> Iterator[tuple[str, str, str]]:
    """Yield (role, component, tensor) of everything that the roles name."""
    for text in contract.text:
        yield "text.input", text.component, text.input
        yield "text.output", text.component, text.output
        if text.pooled is not None:
            yield "text.pooled", text.component, text.pooled
    denoiser = contract.denoiser
    for name in ("sample", "timestep", "context", "output"):
        yield f"denoiser.{name}", denoiser.component, getattr(denoiser, name)
    for tensor in denoiser.extra:
        yield "denoiser.extra", denoiser.component, tensor
    for half, ports in (("encoder", contract.codec.encoder), ("decoder", contract.codec.decoder)):
        yield f"codec.{half}.input", ports.component, ports.input
        yield f"codec.{half}.output", ports.component, ports.output


def _check_roles(contract: "Contract", where: str) -> None:
    """Hold every component to one role, every input of it to one meaning, and every tensor to its role."""
    if not contract.text:
        fail(f"{where}.text", "is empty; expected a text encoder", "manifest.role")
    check_name(contract.codec.name, f"{where}.codec.name")
    halves = [contract.codec.encoder.component, contract.codec.decoder.component]
    owners = [*(text.component for text in contract.text), contract.denoiser.component, *halves]
    check_same_names(contract.components, owners, f"{where}.components")
    if len(set(owners)) != len(owners) or contract.codec.name in owners:
        fail(where, "gives a component two roles", "manifest.role")
    fed: dict[str, set[str]] = {name: set() for name in owners}
    batches: dict[str, int | str] = {}
    for role, component, tensor in _ports(contract):
        here = f"{where}.components[{shown(component)}]"
        spec = _check_port(contract.components[component], role, tensor, here)
        if spec.dims and spec.dims[0] != batches.setdefault(component, spec.dims[0]):
            fail(
                f"{here}[{shown(tensor)}]",
                f"begins with {shown(spec.dims[0])}; expected {shown(batches[component])}, the batch",
                "manifest.tensor",
            )
        if tensor in fed[component] and not role.endswith(_OUTPUTS):
            fail(here, f"has two meanings for the input {shown(tensor)}", "manifest.role")
        fed[component] |= set() if role.endswith(_OUTPUTS) else {tensor}
    for name, inputs in fed.items():
        for spec in contract.components[name].inputs:
            if spec.name not in inputs:
                fail(
                    f"{where}.components[{shown(name)}]",
                    f"has the input {shown(spec.name)}, which has no role",
                    "manifest.role",
                )


def _check_port(component: "ComponentContract", role: str, tensor: str, where: str) -> "TensorSpec":
    """Return the tensor of a role, checked for its type and rank."""
    is_output = role.endswith(_OUTPUTS)
    specs = {each.name: each for each in (component.outputs if is_output else component.inputs)}
    if tensor not in specs:
        fail(
            where, f"has no {'output' if is_output else 'input'} {shown(tensor)}, which is its {role}", "manifest.role"
        )
    dtypes, rank = _ROLES[role]
    if specs[tensor].dtype not in dtypes:
        fail(
            f"{where}[{shown(tensor)}]",
            f"has the dtype {shown(specs[tensor].dtype)}; expected {' or '.join(dtypes)}",
            "manifest.tensor",
        )
    if len(specs[tensor].dims) != rank:
        fail(
            f"{where}[{shown(tensor)}]", f"has {len(specs[tensor].dims)} dimensions; expected {rank}", "manifest.tensor"
        )
    return specs[tensor]


def _check_latent(contract: "Contract", where: str) -> None:
    latent, codec, denoiser = contract.latent, contract.codec, contract.denoiser
    check_between(latent.channels, 1, _MAX_CHANNELS, f"{where}.latent.channels")
    check_between(latent.downsample, 1, _MAX_DOWNSAMPLE, f"{where}.latent.downsample")
    if not 1e-6 <= abs(latent.scale) <= 1e6:
        fail(f"{where}.latent.scale", f"is {latent.scale}; expected a magnitude of 1e-6 to 1e6", "manifest.range")
    if abs(latent.shift) > 1e6:
        fail(f"{where}.latent.shift", f"is {latent.shift}; expected a magnitude of 1e6 at most", "manifest.range")
    if contract.concat not in CONCATS:
        expected = "none, or mask and masked_latents in this order"
        fail(f"{where}.concat", f"has {len(contract.concat)} parts; expected {expected}", "manifest.role")
    concat = sum({"mask": 1, "masked_latents": latent.channels}[name] for name in contract.concat)
    for component, tensor, size in (
        (denoiser.component, denoiser.sample, latent.channels + concat),
        (denoiser.component, denoiser.output, latent.channels),
        (codec.encoder.component, codec.encoder.input, 3),
        (codec.decoder.component, codec.decoder.input, latent.channels),
        (codec.decoder.component, codec.decoder.output, 3),
    ):
        dim = contract.tensor(component, tensor).dims[1]
        if dim != size:
            fail(
                f"{where}.components[{shown(component)}][{shown(tensor)}]",
                f"has {shown(dim)} channels; expected {size}",
                "manifest.tensor",
            )
    encoded = contract.tensor(codec.encoder.component, codec.encoder.output).dims[1]
    if encoded not in (latent.channels, 2 * latent.channels):
        fail(
            f"{where}.components[{shown(codec.encoder.component)}][{shown(codec.encoder.output)}]",
            f"has {shown(encoded)} channels; expected {2 * latent.channels}, or {latent.channels} for latents",
            "manifest.tensor",
        )
    grid = contract.sample.dims[2:]
    for component, tensor in (
        (denoiser.component, denoiser.output),
        (codec.encoder.component, codec.encoder.output),
        (codec.decoder.component, codec.decoder.input),
    ):
        dims = contract.tensor(component, tensor).dims[2:]
        if dims != grid:
            what = f"has latents of {_shown_dims(dims)}; expected {_shown_dims(grid)} as {shown(denoiser.sample)}"
            fail(f"{where}.components[{shown(component)}][{shown(tensor)}]", what, "manifest.tensor")
    for half, large, small in (
        (codec.encoder, codec.encoder.input, codec.encoder.output),
        (codec.decoder, codec.decoder.output, codec.decoder.input),
    ):
        image, latents = (contract.tensor(half.component, name).dims[2:] for name in (large, small))
        for pixels, cells in zip(image, latents, strict=True):
            if not _is_multiple(pixels, cells, contract):
                what = f"has images of {shown(pixels)} for latents of {shown(cells)}"
                expected = f"{latent.downsample} times as many"
                fail(f"{where}.components[{shown(half.component)}]", f"{what}; expected {expected}", "manifest.tensor")


def _shown_dims(dims: Sequence["Dim"]) -> str:
    return " x ".join(map(shown, dims))


def _is_multiple(pixels: "Dim", cells: "Dim", contract: "Contract") -> bool:
    factor = contract.latent.downsample
    if isinstance(pixels, int) or isinstance(cells, int):
        return isinstance(pixels, int) and isinstance(cells, int) and pixels == factor * cells
    multiple = contract.axes[pixels].multiple_of
    if multiple is None:
        return factor == 1 and pixels == cells
    return (multiple.axis, multiple.factor) == (cells, factor)


def _check_text(contract: "Contract", where: str) -> None:
    """Require that the text encoders' outputs, joined, are the context, and that their windows are equally long."""
    pooled = 0
    made: list[int | str] = []
    for index, text in enumerate(contract.text):
        here = f"{where}.text[{index}]"
        tokens, width = contract.tensor(text.component, text.output).dims[1:]
        taken = contract.tensor(text.component, text.input).dims[1]
        if tokens != taken:
            what = f"has outputs of {shown(tokens)} tokens for inputs of {shown(taken)}"
            fail(f"{where}.components[{shown(text.component)}]", what, "manifest.tensor")
        made.append(width)
        width = 0 if text.pooled is None else contract.tensor(text.component, text.pooled).dims[1]
        pooled += width if isinstance(width, int) else MAX_AXIS
        facts = text.tokenizer
        check_relative_path(facts.file, f"{here}.tokenizer.file")
        low, high = contract.range_of(contract.tensor(text.component, text.input).dims[1])
        check_between(facts.max_length, max(low, 2), min(high, _MAX_WINDOW), f"{here}.tokenizer.max_length")
        check_between(facts.vocab_size, 1, _MAX_VOCABULARY, f"{here}.tokenizer.vocab_size")
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            check_between(getattr(facts, name), 0, facts.vocab_size - 1, f"{here}.tokenizer.{name}")
        if facts.max_length != contract.window:
            fail(
                f"{here}.tokenizer.max_length",
                f"is {facts.max_length}; expected {contract.window} as of the first",
                "manifest.text",
            )
    _, tokens, width = contract.context.dims
    low, high = contract.range_of(tokens)
    check_between(contract.window, low, high, f"{where}.text[0].tokenizer.max_length")
    if tokens in contract.sample.dims:
        what = f"counts tokens by {shown(tokens)}, as {shown(contract.denoiser.sample)} counts latents"
        fail(
            f"{where}.components[{shown(contract.denoiser.component)}][{shown(contract.denoiser.context)}]",
            what,
            "manifest.axis",
        )
    if not all(isinstance(each, int) for each in [*made, width]) or sum(made) != width:  # type: ignore[arg-type]
        is_fixed = all(isinstance(each, int) for each in [*made, width])
        given = sum(made) if is_fixed else "unknown"  # type: ignore[arg-type]
        fail(
            f"{where}.components",
            f"gives embeddings of width {given} to a denoiser that takes {shown(width)}",
            "manifest.text",
        )
    for name, rule in contract.denoiser.extra.items():
        width = contract.tensor(contract.denoiser.component, name).dims[1]
        if rule == "guidance_embedding":
            fits, expected = isinstance(width, int) and width >= 4 and width % 2 == 0, "an even number of at least 4"
        else:
            size = pooled if rule == "pooled_text" else IMAGE_SIZES
            fits, expected = width == size != 0, str(size)
        if not fits:
            fail(
                f"{where}.denoiser.extra[{shown(name)}]",
                f"has {shown(width)} numbers; expected {expected}",
                "manifest.text",
            )


def _check_facts(contract: "Contract", where: str) -> None:
    image, latent = contract.image, contract.latent
    rows, columns = contract.sample.dims[2:]
    for name, pixels, dim in (("width", image.width, columns), ("height", image.height, rows)):
        low, high = contract.range_of(dim)
        check_between(pixels, low * latent.downsample, high * latent.downsample, f"{where}.image.{name}")
        if pixels % latent.downsample != 0:
            fail(f"{where}.image.{name}", f"is {pixels}, not a multiple of {latent.downsample}", "manifest.image")
    if image.width * image.height > MAX_PIXELS:
        fail(f"{where}.image", f"is {image.width}x{image.height}, more than {MAX_PIXELS} pixels", "manifest.image")
    check_plan(contract, None, None, f"{where}.defaults")
    check_span(contract.defaults.guidance, 0, MAX_GUIDANCE, f"{where}.defaults.guidance")
    _check_batches(contract, where)


def _check_batches(contract: "Contract", where: str) -> None:
    """Require that one image can be drawn by the defaults: text and images go one at a time, guidance doubles rows."""
    for role, component, tensor in _ports(contract):
        batch = contract.tensor(component, tensor).dims[:1]
        if role in ("text.input", "codec.encoder.input", "codec.decoder.input"):
            low, high = contract.range_of(batch[0])
            if not low <= 1 <= high:
                here = f"{where}.components[{shown(component)}][{shown(tensor)}]"
                fail(here, f"takes a batch of {low} to {high}; expected 1", "manifest.range")
    low, high = contract.range_of(contract.sample.dims[0])
    needed = 2 if contract.evaluates_negative(contract.defaults.guidance) else 1
    if not low <= needed <= high:
        what = f"is {contract.defaults.guidance}, so an image needs a batch of {needed}; expected {low} to {high}"
        fail(f"{where}.defaults.guidance", what, "manifest.range")
