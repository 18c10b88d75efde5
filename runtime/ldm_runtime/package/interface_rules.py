"""Rules of artefacts whose inputs and outputs are not the component's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ldm_runtime.checks import shown
from ldm_runtime.package.contract_rules import check_signature
from ldm_runtime.package.values import fail

if TYPE_CHECKING:
    from ldm_runtime.package.artefacts import Artefact
    from ldm_runtime.package.manifest import Contract
    from ldm_runtime.package.tensor_spec import ComponentContract, TensorSpec

_DTYPES = ("float32", "float16", "int64", "int32")


def check_interface(interface: "ComponentContract", contract: "Contract", where: str) -> None:
    """Check the inputs and outputs of an artefact that has others than the component's."""
    check_signature(interface, contract, where)
    for what, specs in (("inputs", interface.inputs), ("outputs", interface.outputs)):
        for spec in specs:
            if spec.dtype not in _DTYPES:
                problem = f"has the dtype {shown(spec.dtype)}; expected {', '.join(_DTYPES)}"
                fail(f"{where}.{what}[{shown(spec.name)}]", problem, "manifest.tensor")


def misfit(artefact: "Artefact", promised: "ComponentContract", given: Sequence["TensorSpec"]) -> str | None:
    """Say why an artefact cannot run as the component, or None. given: other inputs that it may have."""
    if artefact.interface is None:
        return None
    fed = {*promised.inputs, *given}
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
