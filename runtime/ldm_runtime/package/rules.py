"""What a manifest must satisfy beyond its types: safe paths, sane sizes, parts that agree."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from ldm_runtime.checks import shown
from ldm_runtime.errors import InputError, PackageError
from ldm_runtime.sampling.plan import check_sampler

if TYPE_CHECKING:
    from ldm_runtime.package.manifest import (
        Artefact,
        Axis,
        Component,
        ComponentContract,
        Contract,
        Dim,
        Manifest,
        Multiple,
        PlanRequirements,
        Range,
        TensorSpec,
    )

# What a tensor of each role is: its types and its number of dimensions.
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
_MAX_NAME = 1024
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and halves of characters
_MAX_AXIS = 2**20
_MAX_CHANNELS = 2**12
_MAX_DOWNSAMPLE = 2**10
_MAX_WINDOW = 2**16
_MAX_VOCABULARY = 2**24
MAX_PIXELS = 2**26  # of one image; 8192 x 8192


def check(manifest: "Manifest", where: str) -> None:
    """Raise `PackageError` for the first rule that `manifest` breaks; `where` is its JSON path."""
    check_name(manifest.name, f"{where}.name")
    for path in manifest.files:
        check_relative_path(path, f"{where}.files")
    for path, entry in manifest.files.items():
        _digest(entry.sha256, f"{where}.files[{path!r}].sha256")
        _between(entry.size, 0, 2**50, f"{where}.files[{path!r}].size")
    check_relative_path(manifest.proof.report, f"{where}.proof.report")
    _check_contract(manifest.contract, f"{where}.contract")
    _same_names(manifest.components, manifest.contract.components, f"{where}.components")
    for index, text in enumerate(manifest.contract.text):
        _listed(text.tokenizer.file, manifest, f"{where}.contract.text[{index}].tokenizer.file")
    for name, component in manifest.components.items():
        _check_component(name, component, manifest, f"{where}.components[{name!r}]")


def check_name(name: str, where: str) -> None:
    """Raise `PackageError` unless `name` can be a package's: not empty, and safe to print and to write."""
    if not name:
        _fail(where, "should not be empty")
    if len(name) > _MAX_NAME or CONTROL.search(name) is not None:
        _fail(where, f"is {shown(name)}, expected 1 to {_MAX_NAME} characters and no control characters")


def check_relative_path(path: str, where: str) -> None:
    """Raise `PackageError` unless `path` is a plain relative posix path, inside the package on any OS."""
    if not path or len(path) > 1024:
        _fail(where, f"has a path of {len(path)} characters; expected 1 to 1024")
    if any(character in '\\:*?"<>|' for character in path) or CONTROL.search(path):
        _fail(where, f"has the path {path!r} with a character that no package path may have")
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.endswith((" ", ".")) or len(part) > 255 for part in parts):
        _fail(where, f"has the path {path!r}, which leaves the package or is not a plain relative path")


def _check_contract(contract: "Contract", where: str) -> None:
    for name, axis in contract.axes.items():
        _between(axis.min, 1, _MAX_AXIS, f"{where}.axes[{name!r}].min")
        _between(axis.max, axis.min, _MAX_AXIS, f"{where}.axes[{name!r}].max")
        for size in axis.proven:
            _between(size, axis.min, axis.max, f"{where}.axes[{name!r}].proven")
        if axis.multiple_of is not None:
            _check_multiple(axis, axis.multiple_of, contract, f"{where}.axes[{name!r}].multiple_of")
    for name, component in contract.components.items():
        check_name(name, f"{where}.components")
        for what, specs in (("inputs", component.inputs), ("outputs", component.outputs)):
            _check_tensors(specs, contract, f"{where}.components[{name!r}].{what}")
    _check_roles(contract, where)
    _check_latent(contract, where)
    _check_text(contract, where)
    _check_facts(contract, where)


def _check_multiple(axis: "Axis", multiple: "Multiple", contract: "Contract", where: str) -> None:
    source = contract.axes.get(multiple.axis)
    if source is None or source.multiple_of is not None:
        _fail(where, f"names the axis {multiple.axis!r}; expected one of axes that is no multiple itself")
    _between(multiple.factor, 1, _MAX_DOWNSAMPLE, f"{where}.factor")
    expected = (source.min * multiple.factor, source.max * multiple.factor)
    if (axis.min, axis.max) != expected:
        _fail(where, f"has {axis.min} to {axis.max}; expected {expected[0]} to {expected[1]}")


def _check_tensors(specs: Sequence["TensorSpec"], contract: "Contract", where: str) -> None:
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        _fail(where, "names a tensor twice")
    for spec in specs:
        check_name(spec.name, where)
        for dim in spec.dims:
            if isinstance(dim, int):
                _between(dim, 1, _MAX_AXIS, f"{where} {spec.name}.dims")
            elif dim not in contract.axes:
                _fail(f"{where} {spec.name}.dims", f"names the axis {dim!r}, which axes does not have")


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
        _fail(f"{where}.text", "is empty; expected a text encoder")
    halves = [contract.codec.encoder.component, contract.codec.decoder.component]
    owners = [*(text.component for text in contract.text), contract.denoiser.component, *halves]
    _same_names(contract.components, owners, f"{where}.components")
    if len(set(owners)) != len(owners) or contract.codec.name in owners[: -len(halves)]:
        _fail(where, "gives a component two roles")
    fed: dict[str, set[str]] = {name: set() for name in owners}
    batches: dict[str, int | str] = {}
    for role, component, tensor in _ports(contract):
        here = f"{where}.components[{component!r}]"
        spec = _check_port(contract.components[component], role, tensor, here)
        if spec.dims and spec.dims[0] != batches.setdefault(component, spec.dims[0]):
            _fail(f"{here} {tensor}", f"begins with {spec.dims[0]!r}; expected {batches[component]!r}, the batch")
        if tensor in fed[component] and not role.endswith(_OUTPUTS):
            _fail(here, f"has two meanings for the input {tensor!r}")
        fed[component] |= set() if role.endswith(_OUTPUTS) else {tensor}
    for name, inputs in fed.items():
        for spec in contract.components[name].inputs:
            if spec.name not in inputs:
                _fail(f"{where}.components[{name!r}]", f"has the input {spec.name!r}, which has no role")


def _check_port(component: "ComponentContract", role: str, tensor: str, where: str) -> "TensorSpec":
    """Return the tensor of a role, which is there, of its types and of its rank."""
    is_output = role.endswith(_OUTPUTS)
    specs = {each.name: each for each in (component.outputs if is_output else component.inputs)}
    if tensor not in specs:
        _fail(where, f"has no {'output' if is_output else 'input'} {tensor!r}, which is its {role}")
    dtypes, rank = _ROLES[role]
    if specs[tensor].dtype not in dtypes:
        _fail(f"{where} {tensor}", f"has the dtype {specs[tensor].dtype!r}; expected {' or '.join(dtypes)}")
    if len(specs[tensor].dims) != rank:
        _fail(f"{where} {tensor}", f"has {len(specs[tensor].dims)} dimensions; expected {rank}")
    return specs[tensor]


def _check_latent(contract: "Contract", where: str) -> None:
    latent, codec, denoiser = contract.latent, contract.codec, contract.denoiser
    _between(latent.channels, 1, _MAX_CHANNELS, f"{where}.latent.channels")
    _between(latent.downsample, 1, _MAX_DOWNSAMPLE, f"{where}.latent.downsample")
    if not 1e-6 <= abs(latent.scale) <= 1e6:
        _fail(f"{where}.latent.scale", f"is {latent.scale}; expected a magnitude of 1e-6 to 1e6")
    if abs(latent.shift) > 1e6:
        _fail(f"{where}.latent.shift", f"is {latent.shift}; expected a magnitude of 1e6 at most")
    if contract.concat not in CONCATS:
        shown_ = " or ".join(str(list(each)) for each in CONCATS)
        _fail(f"{where}.concat", f"is {list(contract.concat)}; expected {shown_}")
    beside = sum({"mask": 1, "masked_latents": latent.channels}[name] for name in contract.concat)
    for component, tensor, size in (
        (denoiser.component, denoiser.sample, latent.channels + beside),
        (denoiser.component, denoiser.output, latent.channels),
        (codec.encoder.component, codec.encoder.input, 3),
        (codec.encoder.component, codec.encoder.output, 2 * latent.channels),
        (codec.decoder.component, codec.decoder.input, latent.channels),
        (codec.decoder.component, codec.decoder.output, 3),
    ):
        dim = contract.tensor(component, tensor).dims[1]
        if dim != size:
            _fail(f"{where}.components[{component!r}] {tensor}", f"has {dim!r} channels; expected {size}")
    for half, large, small in (
        (codec.encoder, codec.encoder.input, codec.encoder.output),
        (codec.decoder, codec.decoder.output, codec.decoder.input),
    ):
        image, latents = (contract.tensor(half.component, name).dims[2:] for name in (large, small))
        for pixels, cells in zip(image, latents, strict=True):
            if not _is_multiple(pixels, cells, contract):
                what = f"has images of {pixels!r} for latents of {cells!r}; expected {latent.downsample} times as many"
                _fail(f"{where}.components[{half.component!r}]", what)


def _is_multiple(pixels: "Dim", cells: "Dim", contract: "Contract") -> bool:
    factor = contract.latent.downsample
    if isinstance(pixels, int) or isinstance(cells, int):
        return isinstance(pixels, int) and isinstance(cells, int) and pixels == factor * cells
    multiple = contract.axes[pixels].multiple_of
    if multiple is None:
        return factor == 1 and pixels == cells
    return (multiple.axis, multiple.factor) == (cells, factor)


def _check_text(contract: "Contract", where: str) -> None:
    """The text encoders' outputs, joined, are the context; their windows are equally long."""
    pooled = 0
    made: list[int | str] = []
    for index, text in enumerate(contract.text):
        here = f"{where}.text[{index}]"
        made.append(contract.tensor(text.component, text.output).dims[2])
        width = 0 if text.pooled is None else contract.tensor(text.component, text.pooled).dims[1]
        pooled += width if isinstance(width, int) else _MAX_AXIS
        facts = text.tokenizer
        check_relative_path(facts.file, f"{here}.tokenizer.file")
        low, high = contract.range_of(contract.tensor(text.component, text.input).dims[1])
        _between(facts.max_length, max(low, 2), min(high, _MAX_WINDOW), f"{here}.tokenizer.max_length")
        _between(facts.vocab_size, 1, _MAX_VOCABULARY, f"{here}.tokenizer.vocab_size")
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            _between(getattr(facts, name), 0, facts.vocab_size - 1, f"{here}.tokenizer.{name}")
        if facts.max_length != contract.window:
            _fail(f"{here}.tokenizer.max_length", f"is {facts.max_length}; expected {contract.window} as of the first")
    width = contract.context.dims[2]
    if not all(isinstance(each, int) for each in [*made, width]) or sum(made) != width:  # type: ignore[arg-type]
        given = " and ".join(map(repr, made))
        _fail(f"{where}.components", f"gives embeddings of width {given} to a denoiser that takes {width!r}")
    for name, rule in contract.denoiser.extra.items():
        expected = pooled if rule == "pooled_text" else IMAGE_SIZES
        width = contract.tensor(contract.denoiser.component, name).dims[1]
        if width != expected or expected == 0:
            _fail(f"{where}.denoiser.extra[{name!r}]", f"has {width!r} numbers; expected {expected} of {rule}")


def _check_facts(contract: "Contract", where: str) -> None:
    image, latent = contract.image, contract.latent
    rows, columns = contract.sample.dims[2:]
    for name, pixels, dim in (("width", image.width, columns), ("height", image.height, rows)):
        low, high = contract.range_of(dim)
        _between(pixels, low * latent.downsample, high * latent.downsample, f"{where}.image.{name}")
        if pixels % latent.downsample != 0:
            _fail(f"{where}.image.{name}", f"is {pixels}, not a multiple of {latent.downsample}")
    if image.width * image.height > MAX_PIXELS:
        _fail(f"{where}.image", f"is {image.width}x{image.height}, more than {MAX_PIXELS} pixels")
    try:
        check_sampler(contract.schedule, contract.defaults.parsed_sampler)
    except InputError as error:
        _fail(f"{where}.defaults.sampler", f"is not usable: {error}")
    _between(contract.defaults.steps, 1, contract.schedule.num_train_timesteps, f"{where}.defaults.steps")
    if not 0 <= contract.defaults.guidance <= 1000:
        _fail(f"{where}.defaults.guidance", f"is {contract.defaults.guidance}; expected 0 to 1000")


def _check_component(name: str, component: "Component", manifest: "Manifest", where: str) -> None:
    names = [artefact.name for artefact in component.artefacts]
    if len(set(names)) != len(names) or names[:1] != ["canonical"]:
        _fail(f"{where}.artefacts", f"has the names {', '.join(names)}; expected 'canonical' first and each once")
    if (component.canonical.format, component.canonical.engine) != ("onnx", "any"):
        _fail(f"{where}.artefacts", "has a canonical graph that is not ONNX for any engine")
    _listed(component.weights, manifest, f"{where}.weights")
    for artefact in component.artefacts:
        here = f"{where}.artefacts[{artefact.name!r}]"
        _check_artefact(artefact, manifest, here)
        _check_format(artefact, component, here)
        if artefact.requires is not None:
            _check_plan(name, artefact.requires, manifest.contract, f"{here}.requires")
    for key, entry in component.keys.items():
        if entry.transpose is not None and sorted(entry.transpose) != list(range(len(entry.transpose))):
            _fail(f"{where}.keys[{key!r}].transpose", f"is {list(entry.transpose)}, no permutation")


def _check_artefact(artefact: "Artefact", manifest: "Manifest", where: str) -> None:
    """Check what holds for every format, known to this runtime or not."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", artefact.name) is None:
        _fail(f"{where}.name", f"is {shown(artefact.name)}; expected up to 200 letters, digits and . _ -")
    for key in ("format", "engine"):
        if re.fullmatch(r"[a-z][a-z0-9_]{0,31}", getattr(artefact, key)) is None:
            _fail(f"{where}.{key}", f"is {shown(getattr(artefact, key))}; expected a short name such as 'onnx'")
    if not artefact.files:
        _fail(f"{where}.files", "is empty")
    for file in artefact.files:
        _listed(file, manifest, f"{where}.files")
    if artefact.exactness == "lossy" and artefact.precision == "fp32":
        _fail(where, "is lossy in fp32; expected a reduced precision or exact")
    if artefact.exactness == "lossy" and artefact.difference is None:
        _fail(where, "is lossy without its measured difference")


def _check_format(artefact: "Artefact", component: "Component", where: str) -> None:
    """Check what the formats that this runtime knows expect of their files."""
    files, folder = artefact.files, _folder(component.weights)
    if (artefact.format == "tensorrt") != (artefact.requires is not None):
        _fail(f"{where}.requires", "does not fit the format; expected requirements of TensorRT plans alone")
    if artefact.format == "onnx":
        if _folder(artefact.file) != folder or files[1:] != (component.weights,):
            _fail(
                f"{where}.files", f"is {', '.join(files)}; expected a graph in {folder!r}, then {component.weights!r}"
            )
    elif artefact.format == "openvino":
        if not artefact.file.endswith(".xml") or files[1:] != (f"{artefact.file[:-4]}.bin",):
            _fail(f"{where}.files", f"is {', '.join(files)}; expected an .xml for OpenVINO and the .bin beside it")
    elif artefact.format == "tensorrt" and (len(files) != 1 or _folder(artefact.file) != f"engines/{artefact.name}"):
        _fail(f"{where}.files", f"is {', '.join(files)}; expected one plan in engines/{artefact.name}")


def _check_plan(component: str, plan: "PlanRequirements", contract: "Contract", where: str) -> None:
    if not plan.compute_capabilities:
        _fail(f"{where}.compute_capabilities", "is empty")
    for capability in plan.compute_capabilities:
        if re.fullmatch(r"[0-9]{1,3}\.[0-9]", capability) is None:
            _fail(f"{where}.compute_capabilities", f"has {capability!r}; expected such as '8.9'")
    _digest(plan.graph, f"{where}.graph")
    _digest(plan.weights, f"{where}.weights")
    if not plan.profiles:
        _fail(f"{where}.profiles", "is empty")
    for profile in plan.profiles:
        _check_profile(profile, component, contract, f"{where}.profiles")


def _check_profile(profile: Mapping[str, "Range"], component: str, contract: "Contract", where: str) -> None:
    """A range for every axis of the component's inputs, within what the contract allows."""
    axes = {dim for spec in contract.components[component].inputs for dim in spec.dims if isinstance(dim, str)}
    if not axes <= set(profile) <= set(contract.axes):
        _fail(where, f"has the axes {', '.join(sorted(profile))}; expected {', '.join(sorted(axes))}")
    for name, sizes in profile.items():
        low, high = contract.range_of(name)
        _between(sizes.min, low, high, f"{where}[{name!r}].min")
        _between(sizes.opt, sizes.min, high, f"{where}[{name!r}].opt")
        _between(sizes.max, sizes.opt, high, f"{where}[{name!r}].max")


def _digest(text: str, where: str) -> None:
    if re.fullmatch("[0-9a-f]{64}", text) is None:
        _fail(where, "should be 64 hexadecimal digits in lower case")


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _listed(path: str, manifest: "Manifest", where: str) -> None:
    if path not in manifest.files:
        _fail(where, f"names the file {path!r}, which files does not list")


def _same_names(got: Iterable[str], expected: Iterable[str], where: str) -> None:
    if set(got) != set(expected):
        _fail(where, f"has {', '.join(sorted(got)) or 'nothing'}; expected exactly {', '.join(expected)}")


def _between(value: int, low: int, high: int, where: str) -> None:
    if not low <= value <= high:
        shown = str(value) if abs(value) < 10**18 else "an immense number"
        _fail(where, f"is {shown}; expected {low} to {high}")


def _fail(where: str, what: str) -> NoReturn:
    raise PackageError(f"{where} {what}; build or fetch the package again")
