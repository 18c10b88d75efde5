"""Rules of artefacts whose inputs and outputs are not the component's: tensors, and parts that were cut off."""

import functools
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ldm_runtime.checks import shown
from ldm_runtime.package.contract_rules import check_signature
from ldm_runtime.package.values import fail

if TYPE_CHECKING:
    from ldm_runtime.package.artefacts import Artefact, Hoist
    from ldm_runtime.package.manifest import Contract
    from ldm_runtime.package.tensor_spec import ComponentContract, TensorSpec

Parts = Mapping[str, "Artefact"]  # the artefacts of a component, by name

_DTYPES = ("float32", "float16", "int64", "int32")
_refuse = functools.partial(fail, code="manifest.artefact")


def check_interface(
    artefact: "Artefact", parts: Parts, inputs: Collection[str], contract: "Contract", where: str
) -> None:
    """Check an artefact's interface, and that each part of it makes some of its inputs; inputs: the component's."""
    interface = artefact.interface
    if interface is None:
        if artefact.hoists:
            _refuse(f"{where}.hoists", "has parts of a graph without an interface; expected one")
        return
    check_signature(interface, contract, f"{where}.interface")
    for what, specs in (("inputs", interface.inputs), ("outputs", interface.outputs)):
        for spec in specs:
            if spec.dtype not in _DTYPES:
                problem = f"has the dtype {shown(spec.dtype)}; expected {', '.join(_DTYPES)}"
                fail(f"{where}.interface.{what}[{shown(spec.name)}]", problem, "manifest.tensor")
    read, made = set(interface.inputs), []
    for index, hoist in enumerate(artefact.hoists):
        here = f"{where}.hoists[{index}]"
        for spec in _check_part(hoist, parts, inputs, here).outputs:
            if spec not in read:
                _refuse(here, f"makes {shown(spec.name)}, which is no such input of the interface")
            made.append(spec.name)
    twice = [name for name, other in itertools.pairwise(sorted(made)) if name == other]
    if twice:
        _refuse(f"{where}.hoists", f"makes {shown(twice[0])} twice; expected each once")


def _check_part(hoist: "Hoist", parts: Parts, inputs: Collection[str], where: str) -> "ComponentContract":
    """Return the interface of a part, whose inputs are among those that the hoist names."""
    if not hoist.inputs:
        _refuse(f"{where}.inputs", "is empty")
    for name in hoist.inputs:
        if name not in inputs:
            _refuse(f"{where}.inputs", f"has {shown(name)}, which is no input of the component")
    part = parts.get(hoist.artefact)
    if part is None or part.interface is None or part.hoists:
        what = f"is {shown(hoist.artefact)}; expected an artefact with an interface and no parts"
        fail(f"{where}.artefact", what, "manifest.artefact")
    named = set(hoist.inputs)
    for spec in part.interface.inputs:
        if spec.name not in named:
            _refuse(f"{where}.inputs", f"lacks {shown(spec.name)}, which {part.name} reads")
    return part.interface


def misfit(
    artefact: "Artefact", parts: Parts, promised: "ComponentContract", given: Sequence["TensorSpec"]
) -> str | None:
    """Say why an artefact with its parts cannot run as the component, or None. given: other inputs that it may have."""
    if artefact.interface is None:
        return None
    fed = {*promised.inputs, *given}
    fed |= {spec for hoist in artefact.hoists for spec in outputs_of(parts[hoist.artefact])}
    for spec in artefact.interface.inputs:
        if spec not in fed:
            return f"reads {shown(spec.name)}, which nothing makes"
    made = set(artefact.interface.outputs)
    for spec in promised.outputs:
        if spec not in made:
            return f"does not make {shown(spec.name)}"
    return None


def outputs_of(artefact: "Artefact") -> Sequence["TensorSpec"]:
    """Return the outputs of an artefact's own interface, none where it has the component's."""
    return () if artefact.interface is None else artefact.interface.outputs
