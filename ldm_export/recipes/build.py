"""A build recipe: what `build` makes of a checkpoint beyond what that says itself. TOML, read strictly."""

from dataclasses import dataclass
from pathlib import Path

from ldm_export.precision.table import PRECISIONS
from ldm_export.recipes.toml import Rule, Rules, Trial, from_table, read_toml, require
from ldm_runtime.package.manifest import Precision
from ldm_runtime.sampling.solvers import read_sampler

# Target -> the precisions that it is made in.
TARGETS: dict[str, tuple[Precision, ...]] = {
    "onnx": ("fp32",),
    "openvino": tuple(name for name, each in PRECISIONS.items() if each.numpy is not None),
    "tensorrt": tuple(name for name, each in PRECISIONS.items() if each.rtx),
}
PASSES = ("onnxsim",)  # of other projects, beside our own
MAX_NAME = 200  # characters
MAX_STEPS = 100_000  # no schedule has more
MAX_SIDE = 2**16  # pixels


@dataclass(frozen=True)
class TensorRtRecipe:
    """What TensorRT plans shall be built.

    compute_capabilities: such as "8.9"; none gives plans for all GPUs from 8.0 up that TensorRT for RTX knows.
    profiles: texts that `profiles.read_profile` reads.
    """

    flavour: str = "auto"
    compute_capabilities: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    refit: bool = False
    weight_stripped: bool = False


@dataclass(frozen=True)
class BuildRecipe:
    """None leaves a choice to the checkpoint: its folder's name, the solver of its scheduler, its models' native size.

    ONNX graphs are always made: they compute in single precision and store the weights as the checkpoint has them.
    `targets` come on top of them, in `precision`. `passes` run over them besides our own.
    """

    name: str | None = None
    targets: tuple[str, ...] = ("onnx",)
    passes: tuple[str, ...] = ()
    precision: Precision = "fp32"
    tensorrt: TensorRtRecipe = TensorRtRecipe()
    sampler: str | None = None  # the defaults of `run` with this package
    steps: int = 20
    guidance: float = 7.5
    width: int | None = None  # pixels
    height: int | None = None

    def __post_init__(self) -> None:
        require(self, BUILD_RULES)


def _known_targets(targets: tuple[str, ...]) -> bool:
    return set(targets) <= set(TARGETS)


def _lacking(targets: tuple[str, ...], precision: str) -> list[str]:
    """The targets that are not made in that precision; ONNX graphs count only where nothing comes on top of them."""
    beyond = [target for target in targets if target != "onnx"]
    return [target for target in beyond or ["onnx"] if precision not in TARGETS.get(target, (precision,))]


def _not_made(targets: tuple[str, ...], precision: str) -> str:
    made = [f"the target {target} is made in {', '.join(TARGETS[target])}" for target in _lacking(targets, precision)]
    return " and ".join(made)


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
    Rule(
        ("tensorrt", "targets"),
        lambda options, targets: options == TensorRtRecipe() or "tensorrt" in targets,
        "there are options for tensorrt, but the targets do not name it",
    ),
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
