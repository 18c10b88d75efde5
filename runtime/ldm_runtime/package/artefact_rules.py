"""Rules of a component's artefacts: names, formats, the requirements of plans."""

import functools
import itertools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ldm_runtime.checks import shown
from ldm_runtime.package.artefacts import CANONICAL, INTEGERS
from ldm_runtime.package.interface_rules import check_interface
from ldm_runtime.package.safetensors import DTYPES
from ldm_runtime.package.values import (
    MAX_BYTES,
    check_between,
    check_digest,
    check_label,
    check_listed,
    check_name,
    check_short_name,
    fail,
)

if TYPE_CHECKING:
    from ldm_runtime.package.artefacts import Artefact, Component, PlanRequirements, Range
    from ldm_runtime.package.manifest import Contract, Manifest

_MAX_RESCALED = 2**60
_refuse = functools.partial(fail, code="manifest.artefact")
_refuse_plan = functools.partial(fail, code="manifest.plan")


def check_component(name: str, component: "Component", manifest: "Manifest", where: str) -> None:
    """Check the artefacts of a component and its key map."""
    names = [artefact.name for artefact in component.artefacts]
    if len(set(names)) != len(names) or names[:1] != ["canonical"]:
        found = ", ".join(sorted(names)) if names else "nothing"
        _refuse(f"{where}.artefacts", f"has the names {found}; expected 'canonical' first and each once")
    if component.canonical.interface is not None:
        _refuse(f"{where}.artefacts", "has a canonical graph with an interface; expected the contract's")
    if (component.canonical.format, component.canonical.engine) != ("onnx", "any"):
        _refuse(f"{where}.artefacts", "has a canonical graph that is not ONNX for any engine")
    check_listed(component.weights, manifest, f"{where}.weights")
    for artefact in component.artefacts:
        here = f"{where}.artefacts[{shown(artefact.name)}]"
        _check_artefact(artefact, manifest, here)
        _check_format(artefact, component, here)
        if artefact.interface is not None:
            check_interface(artefact.interface, manifest.contract, f"{here}.interface")
        if artefact.requires is not None:
            _check_plan(name, artefact.requires, manifest.contract, f"{here}.requires")
    for key, entry in component.keys.items():
        if entry.transpose is not None and sorted(entry.transpose) != list(range(len(entry.transpose))):
            fail(f"{where}.keys[{shown(key)}].transpose", "is not a permutation", "manifest.keys")
        check_name(entry.initialiser, f"{where}.keys[{shown(key)}].initialiser")
        if entry.dtype not in DTYPES:
            what = f"is {shown(entry.dtype)}; expected one of {', '.join(DTYPES)}"
            fail(f"{where}.keys[{shown(key)}].dtype", what, "manifest.keys")


def _check_artefact(artefact: "Artefact", manifest: "Manifest", where: str) -> None:
    """Check what holds for every format, known to this runtime or not."""
    check_label(artefact.name, f"{where}.name", "manifest.artefact")
    for key in ("format", "engine"):
        check_short_name(getattr(artefact, key), "onnx", f"{where}.{key}", "manifest.artefact")
    if not artefact.files:
        _refuse(f"{where}.files", "is empty")
    for file in artefact.files:
        check_listed(file, manifest, f"{where}.files")
    if artefact.exactness == "lossy" and artefact.precision == "fp32" and artefact.merged is None:
        _refuse(where, "is lossy in fp32; expected a reduced precision or exact")
    if artefact.exactness == "exact" and artefact.precision in INTEGERS:
        _refuse(where, f"is exact in {artefact.precision}; expected lossy")
    if artefact.exactness == "exact" and artefact.merged is not None:
        _refuse(where, "is exact with merged tokens; expected lossy")
    if artefact.merged is not None and not 0 < artefact.merged < 1:
        _refuse(f"{where}.merged", f"is {artefact.merged}; expected more than 0 and less than 1")
    if artefact.exactness == "lossy" and artefact.difference is None:
        _refuse(where, "is lossy without its measured difference")
    _check_repair(artefact, where)


def _check_repair(artefact: "Artefact", where: str) -> None:
    """Check what was done so that a graph stays finite in a reduced precision."""
    if artefact.precision == "fp32" and (artefact.kept or artefact.rescaled is not None):
        _refuse(where, "has nodes kept or values rescaled in fp32; expected neither")
    for node in artefact.kept:
        check_name(node, f"{where}.kept")
    if len(set(artefact.kept)) != len(artefact.kept):
        _refuse(f"{where}.kept", "has a node twice; expected each once")
    if artefact.rescaled is not None and not 1 < artefact.rescaled <= _MAX_RESCALED:
        _refuse(f"{where}.rescaled", f"is {artefact.rescaled}; expected more than 1 and at most {_MAX_RESCALED}")


def _check_format(artefact: "Artefact", component: "Component", where: str) -> None:
    """Check what the formats that this runtime knows expect of their files."""
    files, folder = artefact.files, _folder(component.weights)
    if (artefact.format == "tensorrt") != (artefact.requires is not None):
        _refuse(f"{where}.requires", "does not fit the format; expected requirements of TensorRT plans alone")
    if artefact.format == "onnx":
        _check_graph(artefact, component, folder, f"{where}.files")
    elif artefact.format == "openvino":
        if [name[-4:] for name in files] != [".xml", ".bin"]:
            _refuse(f"{where}.files", f"is {', '.join(files)}; expected a graph in .xml, then its weights in .bin")
    elif artefact.format == "tensorrt" and (len(files) != 1 or _folder(artefact.file) != f"engines/{artefact.name}"):
        _refuse(f"{where}.files", f"is {', '.join(files)}; expected one plan in engines/{artefact.name}")


def _check_graph(artefact: "Artefact", component: "Component", folder: str, where: str) -> None:
    """Require a graph and what its external data may be in: files of its own, then perhaps the component's weights."""
    graph, *data = artefact.files
    expected = f"a graph in {shown(folder)}, then {shown(component.weights)}"
    if artefact.name == CANONICAL:
        fits = data == [component.weights]
    else:
        own = data[:-1] if data[-1:] == [component.weights] else data
        fits = bool(data) and len(set(data)) == len(data) and component.weights not in own
        fits = fits and all(_folder(name) == folder and name.endswith(".safetensors") for name in own)
        expected += ", or .safetensors files of its own in that folder before it or in its place"
    if not fits or _folder(graph) != folder:
        _refuse(where, f"is {', '.join(artefact.files)}; expected {expected}")


def _check_plan(component: str, plan: "PlanRequirements", contract: "Contract", where: str) -> None:
    if not plan.compute_capabilities:
        _refuse_plan(f"{where}.compute_capabilities", "is empty")
    for capability in plan.compute_capabilities:
        if re.fullmatch(r"[0-9]{1,3}\.[0-9]", capability) is None:
            _refuse_plan(f"{where}.compute_capabilities", f"has {shown(capability)}; expected such as '8.9'")
    twice = [each for each, other in itertools.pairwise(sorted(plan.compute_capabilities)) if each == other]
    if twice:
        _refuse_plan(f"{where}.compute_capabilities", f"has {shown(twice[0])} twice; expected each once")
    if re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}", plan.version) is None:
        _refuse_plan(f"{where}.version", f"is {shown(plan.version)}; expected such as '10.13.3.9'")
    if len(set(plan.options)) != len(plan.options):
        _refuse_plan(f"{where}.options", "has an option twice; expected each once")
    for what, size in (("activation_bytes", plan.activation_bytes), ("weight_bytes", plan.weight_bytes)):
        if size is not None:
            check_between(size, 0, MAX_BYTES, f"{where}.{what}")
    check_digest(plan.graph, f"{where}.graph")
    check_digest(plan.weights, f"{where}.weights")
    if not plan.profiles:
        _refuse_plan(f"{where}.profiles", "is empty")
    for profile in plan.profiles:
        _check_profile(profile, component, contract, f"{where}.profiles")


def _check_profile(profile: Mapping[str, "Range"], component: str, contract: "Contract", where: str) -> None:
    """Require a range for every axis of the component's inputs, within what the contract allows."""
    for dim in (dim for spec in contract.components[component].inputs for dim in spec.dims):
        if isinstance(dim, str) and dim not in profile:
            _refuse_plan(where, f"lacks the axis {shown(dim)} of the component's inputs")
    for axis in profile:
        if axis not in contract.axes:
            _refuse_plan(where, f"has the axis {shown(axis)}, which the contract does not have")
    for name, sizes in profile.items():
        low, high = contract.range_of(name)
        check_between(sizes.min, low, high, f"{where}[{shown(name)}].min")
        check_between(sizes.opt, sizes.min, high, f"{where}[{shown(name)}].opt")
        check_between(sizes.max, sizes.opt, high, f"{where}[{shown(name)}].max")


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
