"""What OpenVINO is spared, exactly: products of convolutions, and what a denoiser would compute again at every step."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ldm_runtime.checks import shown
from ldm_runtime.engines.openvino.cut import Cut, cut_off
from ldm_runtime.engines.openvino.forms import Compiled, Sizes
from ldm_runtime.engines.openvino.products import METHODS, WINOGRAD, find_savings, save_products
from ldm_runtime.engines.openvino.properties import SAVINGS
from ldm_runtime.engines.openvino.split import Memo, Part, Run, Split
from ldm_runtime.errors import InputError
from ldm_runtime.package.manifest import DenoiserRole

SIZES = "sizes"  # fixed sizes alone, which all others need; they gave nothing by themselves
TEXT, TIME, PREFIX = "text", "time", "prefix"
PARTS = (TEXT, TIME, PREFIX)
NAMES = (SIZES, *METHODS, *PARTS)

# Below these many weights, to compile again for each size and without OpenVINO's cache costs more than is spared.
_LARGE = {**dict.fromkeys(METHODS, 2**25), **dict.fromkeys(PARTS, 2**28)}
_BYTES = 12  # for each weight: its own, the kernels that are made of it, and OpenVINO's copy of these
_TEXTS = 2  # contexts whose keys and values are kept: up to 0.1 GB each
_TIMES = 64  # times whose embeddings are kept


def read_savings(text: str, weights: int, precision: str, memory: int | None) -> frozenset[str]:
    """Return the names of the savings that an option asks for. weights: how many the graph has.

    precision: what is computed in, by OpenVINO's name. In fewer bits than float32 the sums of Winograd's would be
    rounded, so they are left out. memory: free bytes, None: not known; "auto" takes none where they are few.

    Raises InputError for an unknown name.
    """
    if text == "auto":
        fits = memory is None or memory >= _BYTES * weights
        names = {name for name, least in _LARGE.items() if weights >= least and fits}
    else:
        names = set(NAMES) if text == "all" else set(text.split(",")) if text != "none" else set()
    unknown = sorted(names - set(NAMES))
    if unknown:
        raise InputError(
            f"the option openvino.{SAVINGS} has {shown(unknown[0])}; expected auto, all, none or some of "
            f"{', '.join(NAMES)}, separated by commas",
            code="request.engine",
        )
    return frozenset(names if precision == "f32" else names - {WINOGRAD})


def count_weights(model: Any) -> int:
    """Count the values of all constants that are floating-point numbers."""
    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    return sum(math.prod(node.get_output_shape(0)) for node in constants if node.get_element_type().is_real())


def fix_sizes(model: Any, names: Sequence[str], sizes: Sizes) -> None:
    """Fix height and width of the inputs `names`, batches of images, in place. The batch stays open."""
    shapes = {}
    for port in model.inputs:
        if port.get_any_name() in names:
            channels = port.get_partial_shape()[1]
            fixed = sizes[names.index(port.get_any_name())]
            shapes[port] = [-1, channels.get_length() if channels.is_static else -1, *fixed]
    model.reshape(shapes)


def spare(
    model: Any,
    savings: Collection[str],
    role: DenoiserRole | None,
    outputs: Sequence[str],
    compile_model: Callable[[Any], Any],
) -> Run:
    """Rewrite a model whose sizes are fixed, compile it, and return what runs it.

    role: of a denoiser, None for other components. outputs: the names of the model's outputs. Raises RuntimeError.
    """
    save_products(find_savings(model, savings))
    cuts = {} if role is None else _cut(model, savings, role)
    parts = {name: Compiled(compile_model(cut.model), cut.values).run for name, cut in cuts.items()}
    rest = Compiled(compile_model(model), outputs).run
    if not cuts or role is None:
        return rest
    inputs = _inputs_of(role)
    memos = {TEXT: Memo(_TEXTS), TIME: Memo(_TIMES)}
    made = {name: Part(inputs[name], cut.batched, parts[name], memos.get(name)) for name, cut in cuts.items()}
    return Split(role.sample, rest, made.get(TEXT), made.get(TIME), made.get(PREFIX)).run


def _inputs_of(role: DenoiserRole) -> Mapping[str, tuple[str, ...]]:
    """Return the inputs that each part depends on.

    Where the embedding of the time has other things in it, such as the pooled text, they differ between the halves, so
    that the prefix ends before it.
    """
    prefix = (role.sample,) if role.extra else (role.sample, role.timestep)
    return {TEXT: (role.context,), TIME: (role.timestep, *role.extra), PREFIX: prefix}


def _cut(model: Any, savings: Collection[str], role: DenoiserRole) -> dict[str, Cut]:
    """Cut the parts off, in place; those that there are."""
    cuts: dict[str, Cut] = {}
    for name, inputs in _inputs_of(role).items():
        known = cuts[TIME].values if name == PREFIX and TIME in cuts and not role.extra else ()
        cut = cut_off(model, (*inputs, *known), name) if name in savings else None
        if cut is not None:
            cuts[name] = cut
    return cuts
