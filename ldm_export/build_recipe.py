"""A build recipe: what `build` makes of a checkpoint beyond what that says itself. TOML, read strictly."""

from dataclasses import dataclass
from pathlib import Path

from ldm_export.recipe import from_table, read_toml
from ldm_runtime.errors import ConfigError, InputError
from ldm_runtime.manifest import Precision
from ldm_runtime.solvers import read_sampler

TARGETS = ("onnx", "openvino")
PRECISIONS = ("fp32", "fp16")


@dataclass(frozen=True)
class BuildRecipe:
    """None leaves a choice to the checkpoint: its folder's name, the solver of its scheduler, its models' native size.

    ONNX graphs are always made: they compute in single precision and store the weights as the checkpoint has them.
    `targets` come on top of them, in `precision`.
    """

    name: str | None = None
    targets: tuple[str, ...] = ("onnx",)
    precision: Precision = "fp32"
    sampler: str | None = None  # the defaults of `run` with this package
    steps: int = 20
    guidance: float = 7.5
    width: int | None = None  # pixels
    height: int | None = None

    def __post_init__(self) -> None:
        for name, given, known in (("targets", self.targets, TARGETS), ("precision", (self.precision,), PRECISIONS)):
            for value in given:
                if value not in known:
                    raise ConfigError(f"{name} has {value!r}; known are {', '.join(known)}")
        if self.precision != "fp32" and set(self.targets) == {"onnx"}:
            raise ConfigError(
                f"precision is {self.precision!r}, but the target onnx computes in fp32; name another target"
            )
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
