"""A build recipe: what `build` makes of a checkpoint beyond what that says itself. TOML, read strictly."""

from dataclasses import dataclass
from pathlib import Path

from ldm_export.recipe import from_table, read_toml
from ldm_runtime.errors import ConfigError, InputError, PackageError
from ldm_runtime.manifest import Precision
from ldm_runtime.manifest_rules import check_name
from ldm_runtime.solvers import read_sampler

# Target -> the precisions that it is made in.
TARGETS = {"onnx": ("fp32",), "openvino": ("fp32", "fp16"), "tensorrt": ("fp32", "fp16", "bf16")}


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
    `targets` come on top of them, in `precision`.
    """

    name: str | None = None
    targets: tuple[str, ...] = ("onnx",)
    precision: Precision = "fp32"
    tensorrt: TensorRtRecipe = TensorRtRecipe()
    sampler: str | None = None  # the defaults of `run` with this package
    steps: int = 20
    guidance: float = 7.5
    width: int | None = None  # pixels
    height: int | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            try:
                check_name(self.name, "name")
            except PackageError as error:
                raise ConfigError(str(error).rpartition(";")[0]) from None
        for target in self.targets:
            if target not in TARGETS:
                raise ConfigError(f"targets has {target!r}; known are {', '.join(TARGETS)}")
        beyond = [target for target in self.targets if target != "onnx"]
        for target in beyond or ["onnx"]:
            if self.precision not in TARGETS[target]:
                known = ", ".join(TARGETS[target])
                raise ConfigError(f"precision is {self.precision!r}; the target {target} is made in {known}")
        if self.tensorrt != TensorRtRecipe() and "tensorrt" not in self.targets:
            raise ConfigError(f"there are options for tensorrt, but the targets are {', '.join(self.targets)}")
        if self.sampler is not None:
            try:
                read_sampler(self.sampler)
            except InputError as error:
                raise ConfigError(str(error)) from None
        for name in ("steps", "width", "height"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}, expected at least 1")
        if not 0 <= self.guidance < float("inf"):
            raise ConfigError(f"guidance is {self.guidance}, expected a finite number from 0 up")


def load_build_recipe(path: Path | None) -> BuildRecipe:
    """Read a recipe, or take the defaults where there is none.

    Raises:
        ConfigError: no such file, no TOML, an unknown key, or a value of the wrong type or range.
    """
    if path is None:
        return BuildRecipe()
    return from_table(BuildRecipe, read_toml(path), str(path))
