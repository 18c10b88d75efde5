"""Options of `build` that a checkpoint does not determine. Strict TOML."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ldm_export.lossy.table import LOSSY
from ldm_export.package.choices import FEW_STEP, PackageChoices
from ldm_export.recipes.samplers import sampler_name, try_sampler
from ldm_export.recipes.toml import Rule, Rules, Trial, from_table, one_of, read_toml, require
from ldm_export.targets import TARGETS
from ldm_export.targets.openvino.options import OpenVinoOptions
from ldm_export.targets.tensorrt.options import TensorRtOptions
from ldm_export.targets.tensorrt.profiles import read_profile
from ldm_runtime.budget import Budget, read_budget
from ldm_runtime.package.artefacts import Floating, Precision

PASSES = ("onnxsim",)  # of other projects, besides our own
MAX_NAME = 200  # characters
MAX_STEPS = 1_000  # as in a manifest
MAX_SIDE = 2**16  # pixels


@dataclass(frozen=True)
class BuildRecipe(PackageChoices):
    """The targets of a build, and the package's own choices.

    ONNX graphs are always built: they compute in single precision and store the weights as the checkpoint has them.
    `targets` come on top of them, in `precision`; a target's own options are in a table of its name. `passes` run over
    the graphs besides our own.
    """

    targets: tuple[str, ...] = ("onnx",)
    precision: Floating = "fp32"
    openvino: OpenVinoOptions = OpenVinoOptions()
    tensorrt: TensorRtOptions = TensorRtOptions()
    budget: str = "exact"
    lossy: tuple[str, ...] = ()

    @property
    def parsed_budget(self) -> Budget:
        """Return `budget`, which is parsed when the recipe is made."""
        return read_budget(self.budget)

    def options_of(self, target: str) -> Any:
        """Return the target's own options; None where it has none."""
        return None if TARGETS[target].options is None else getattr(self, target)

    def __post_init__(self) -> None:
        require(self, BUILD_RULES)


def _lacking(targets: tuple[str, ...], precision: str) -> list[str]:
    """List the targets that cannot be built in that precision; ONNX graphs count only if they are the one target."""
    beyond = [target for target in targets if target != "onnx"]
    return [
        target for target in beyond or ["onnx"] if target in TARGETS and precision not in TARGETS[target].precisions
    ]


def _precisions(targets: tuple[str, ...], precision: str) -> str:
    """Name the precisions of the targets that cannot be built in that one."""
    lacking = _lacking(targets, precision)
    return " and ".join(f"the target {name} is built in {', '.join(TARGETS[name].precisions)}" for name in lacking)


def _options_used(target: str, options: type) -> Rule:
    """Make the rule that options of a target come with the target."""

    def sentence(table: Any, targets: tuple[str, ...]) -> str:
        default = options()
        given = [each for each in fields(options) if getattr(table, each.name) != getattr(default, each.name)]
        names = " and ".join(f"{each.metadata['flag']} ({target}.{each.name})" for each in given)
        need = "needs" if len(given) == 1 else "need"
        return f"{names} {need} the target {target}: add --target {target}, or {target!r} to the recipe's targets"

    return Rule((target, "targets"), lambda table, targets: table == options() or target in targets, sentence)


def _try_capabilities(chosen: TensorRtOptions, precision: Precision) -> None:
    """Raise InputError for compute capabilities that nothing can be built for; of classic TensorRT a GPU has to say."""
    if chosen.flavour != "classic" and chosen.compute_capabilities:
        from ldm_export.targets.tensorrt.check import check_capabilities  # apart from the work, as its row

        check_capabilities(chosen, precision)


def _once(field: str, each: str) -> Rule:
    return Rule((field,), lambda names: len(set(names)) == len(names), f"{field} must name each {each} once")


def _size(field: str) -> Rule:
    sentence = f"{field} must be from 1 to {MAX_SIDE:,} pixels"
    return Rule((field,), lambda value: value is None or 1 <= value <= MAX_SIDE, sentence)


BUILD_RULES: Rules = [
    Rule(
        ("name",),
        lambda name: name is None or (1 <= len(name) <= MAX_NAME and name.isprintable()),
        f"name must be 1 to {MAX_NAME} characters that can be printed",
    ),
    Rule(
        ("few_step",),
        lambda kind: kind is None or kind in FEW_STEP,
        f"few_step must be one of {', '.join(FEW_STEP)}",
    ),
    one_of("targets", TARGETS),
    Rule(("targets",), lambda targets: len(targets) > 0, "targets must name at least one target"),
    _once("targets", "target"),
    one_of("passes", PASSES),
    _once("passes", "pass"),
    Rule(("targets", "precision"), lambda targets, precision: not _lacking(targets, precision), _precisions),
    *(_options_used(name, each.options) for name, each in TARGETS.items() if each.options is not None),
    Trial(("tensorrt.profiles",), read_profile),
    Trial(("budget",), read_budget),
    one_of("lossy", LOSSY),
    _once("lossy", "method"),
    Rule(
        ("budget", "lossy"),
        lambda budget, lossy: budget != "exact" or not lossy,
        "lossy methods (--lossy) need a budget: add --budget, such as psnr=35",
    ),
    Trial(("tensorrt", "precision"), _try_capabilities),
    sampler_name("sampler"),
    Trial(("sampler",), try_sampler),
    Rule(("steps",), lambda steps: steps is None or 1 <= steps <= MAX_STEPS, f"steps must be from 1 to {MAX_STEPS:,}"),
    Rule(
        ("guidance",),
        lambda value: value is None or 0 <= value < float("inf"),
        "guidance must be a finite number from 0 up",
    ),
    _size("width"),
    _size("height"),
]


def load_build_recipe(path: Path | None) -> BuildRecipe:
    """Read a recipe; without one, return the defaults.

    Raises:
        ConfigError: no such file, no TOML, or a list of faults: unknown keys, values of the wrong type or range.
    """
    if path is None:
        return BuildRecipe()
    return from_table(BuildRecipe, read_toml(path), str(path), BUILD_RULES)
