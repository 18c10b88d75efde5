"""The plan of a package that fits: its TensorRT, the GPU, the package's own graphs, and then the sizes of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ldm_runtime.engines.signature import Sizes
from ldm_runtime.engines.tensorrt.library import NAMES, RTX, read_header
from ldm_runtime.errors import EngineUnavailable, OutOfProfile, PackageError
from ldm_runtime.package.artefacts import Artefact, PlanRequirements, Range
from ldm_runtime.package.open import Package


@dataclass(frozen=True)
class Machine:
    """This machine. versions: of each flavour of TensorRT that is installed. capability: the GPU's, such as "8.9"."""

    versions: Mapping[str, str]
    capability: str


def find_plan(package: Package, component: str, machine: Machine) -> Artefact:
    """Return the first plan of `component`, in the manifest's order, that fits this machine and this package.

    Raises EngineUnavailable with what is wrong with each, if none fits.
    """
    reasons = []
    for artefact in package.manifest.pickable(component):
        if artefact.format == "tensorrt":
            problem = misfit(package, component, artefact, machine)
            if problem is None:
                return artefact
            reasons.append(f"{artefact.name} {problem}")
    what = "; ".join(reasons) if reasons else "it has none"
    raise EngineUnavailable(
        f"no TensorRT plan of {component} in {package.path} fits this machine: {what}; build one with "
        f"`ldm-export build {package.path} --target tensorrt`"
    )


def misfit(package: Package, component: str, artefact: Artefact, machine: Machine) -> str | None:
    """Say why a plan cannot run here, or None."""
    plan = requirements(artefact)
    version = machine.versions.get(plan.flavour)
    if version is None:
        return f"is for {NAMES[plan.flavour]}, which cannot be imported here"
    if plan.version != version:
        return f"was built by {NAMES[plan.flavour]} {plan.version}, here is {version}: a plan runs in its own only"
    if machine.capability not in plan.compute_capabilities:
        return f"is for GPUs of compute capability {', '.join(plan.compute_capabilities)}, here is {machine.capability}"
    parts = package.manifest.components[component]
    for file, built_from in ((parts.canonical.file, plan.graph), (parts.weights, plan.weights)):
        if package.manifest.files[file].sha256 != built_from:
            return f"was built from another {file} than the package's"
    return None


def requirements(artefact: Artefact) -> PlanRequirements:
    """Return the requirements of a plan; every TensorRT plan of a manifest has them."""
    assert artefact.requires is not None
    return artefact.requires


def check_header(package: Package, artefact: Artefact) -> None:
    """Raise PackageError unless the file's header agrees with the manifest.

    Classic TensorRT's plans say nothing that could be read without it.
    """
    plan = requirements(artefact)
    if plan.flavour != RTX:
        return
    path = package.file(artefact.file)
    header = read_header(path)
    if header.version != plan.version:
        raise PackageError(
            f"{path} is a plan of TensorRT for RTX {header.version}, but the manifest says {plan.version}; "
            f"build the package again",
            code="plan.mismatch",
        )
    if not set(plan.compute_capabilities) <= set(header.capabilities):
        raise PackageError(
            f"{path} is a plan for GPUs of compute capability {', '.join(header.capabilities) or 'none'}, but the "
            f"manifest says {', '.join(plan.compute_capabilities)}; build the package again",
            code="plan.mismatch",
        )


def plan_name(component: str, graph: str, weights: str) -> str:
    """Return a plan's name inside its file: its component, and the SHA-256 of the files that it was built from."""
    return f"{component} {graph} {weights}"


def choose_profile(component: str, profiles: Sequence[Mapping[str, Range]], sizes: Sizes, current: int) -> int:
    """Return the index of a profile that covers `sizes`: the current one if it does, or else the nearest one.

    Nearest: the smallest sum of the axes' distances to the preferred size, each relative to that.
    Raises OutOfProfile, which says what the plan was built for and how to widen it, if none covers them.
    """
    covering = [index for index, profile in enumerate(profiles) if _covers(profile, sizes)]
    if current in covering:
        return current
    if covering:
        return min(covering, key=lambda index: _distance(profiles[index], sizes))
    unmet = []
    for axis, size in sizes.items():
        ranges = [profile[axis] for profile in profiles if axis in profile]
        if not any(each.min <= size <= each.max for each in ranges):
            built = " or ".join(f"{each.min} to {each.max}" for each in ranges)
            unmet.append(f"{axis} {size} where it was built for {built}")
    what = ", ".join(unmet) or "sizes that no profile has together: " + ", ".join(f"{a} {s}" for a, s in sizes.items())
    raise OutOfProfile(
        f"the TensorRT plan of {component} does not cover this run: it needs {what}; build it with a wider --profile"
    )


def _covers(profile: Mapping[str, Range], sizes: Sizes) -> bool:
    return all(profile[axis].min <= size <= profile[axis].max for axis, size in sizes.items() if axis in profile)


def _distance(profile: Mapping[str, Range], sizes: Sizes) -> float:
    return sum(abs(size - profile[axis].opt) / profile[axis].opt for axis, size in sizes.items() if axis in profile)
