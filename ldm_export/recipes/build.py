"""Options of `build` that a checkpoint does not determine. Strict TOML."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm_export.package.choices import PackageChoices
from ldm_export.recipes.toml import Rule, Rules, Trial, from_table, read_toml, require
from ldm_export.targets import TARGETS
from ldm_export.targets.openvino.row import OpenVinoOptions
from ldm_export.targets.tensorrt.row import TensorRtOptions
from ldm_runtime.package.manifest import Precision
from ldm_runtime.sampling.solvers import read_sampler

PASSES = ("onnxsim",)  # of other projects, beside our own
MAX_NAME = 200  # characters
MAX_STEPS = 100_000  # no schedule has more
MAX_SIDE = 2**16  # pixels


@dataclass(frozen=True)
class BuildRecipe(PackageChoices):
    """What to build, and what the package says by itself.

    ONNX graphs are always made: they compute in single precision and store the weights as the checkpoint has them.
    `targets` come on top of them, in `precision`; a target's own options are in a table of its name. `passes` run over
    the graphs besides our own.
    """

    targets: tuple[str, ...] = ("onnx",)
    precision: Precision = "fp32"
    openvino: OpenVinoOptions = OpenVinoOptions()
    tensorrt: TensorRtOptions = TensorRtOptions()

    def options_of(self, target: str) -> Any:
        """Return the target's own options; None where it has none."""
        return None if TARGETS[target].options is None else getattr(self, target)

    def __post_init__(self) -> None:
        require(self, BUILD_RULES)


def _known_targets(targets: tuple[str, ...]) -> bool:
    return set(targets) <= set(TARGETS)


def _lacking(targets: tuple[str, ...], precision: str) -> list[str]:
    """The targets that are not made in that precision; ONNX graphs count only where nothing comes on top of them."""
    beyond = [target for target in targets if target != "onnx"]
    return [
        target for target in beyond or ["onnx"] if target in TARGETS and precision not in TARGETS[target].precisions
    ]


def _not_made(targets: tuple[str, ...], precision: str) -> str:
    made = [
        f"the target {target} is made in {', '.join(TARGETS[target].precisions)}"
        for target in _lacking(targets, precision)
    ]
    return " and ".join(made)


def _options_used(target: str, options: type) -> Rule:
    sentence = f"there are options for {target}, but the targets do not name it"
    return Rule((target, "targets"), lambda given, targets: given == options() or target in targets, sentence)


def _size(field: str) -> Rule:
    sentence = f"{field} must be from 1 to {MAX_SIDE:,} pixels"
    return Rule((field,), lambda value: value is None or 1 <= value <= MAX_SIDE, sentence)


BUILD_RULES: Rules = [
    Rule(
        ("name",),
        lambda name: name is None or (1 <= len(name) <= MAX_NAME and name.isprintable()),
        f"name must be 1 to {MAX_NAME} characters that can be printed",
    ),
    Rule(("targets",), _known_targets, f"targets must be of {', '.join(TARGETS)}"),
    Rule(("passes",), lambda passes: set(passes) <= set(PASSES), f"passes must be of {', '.join(PASSES)}"),
    Rule(("passes",), lambda passes: len(set(passes)) == len(passes), "passes must name each pass once"),
    Rule(("targets", "precision"), lambda targets, precision: not _lacking(targets, precision), _not_made),
    *(_options_used(name, each.options) for name, each in TARGETS.items() if each.options is not None),
    Trial(("sampler",), lambda sampler: None if sampler is None else read_sampler(sampler)),
    Rule(("steps",), lambda steps: 1 <= steps <= MAX_STEPS, f"steps must be from 1 to {MAX_STEPS:,}"),
    Rule(("guidance",), lambda value: 0 <= value < float("inf"), "guidance must be a finite number from 0 up"),
    _size("width"),
    _size("height"),
]


def load_build_recipe(path: Path | None) -> BuildRecipe:
    """Read a recipe, or take the defaults where there is none.

    Raises:
        ConfigError: no such file, no TOML, or all that is wrong in it: unknown keys, values of the wrong type or range.
    """
    if path is None:
        return BuildRecipe()
    return from_table(BuildRecipe, read_toml(path), str(path), BUILD_RULES)
