"""A build recipe: what `build` makes of a checkpoint beyond what that says itself. TOML, read strictly."""

from dataclasses import dataclass
from pathlib import Path

from ldm_export.recipe import from_table, read_toml
from ldm_runtime.errors import ConfigError, InputError
from ldm_runtime.solvers import read_sampler

TARGETS = ("onnx",)
PRECISIONS = ("fp32",)


@dataclass(frozen=True)
class BuildRecipe:
    """None leaves a choice to the checkpoint: its folder's name, the solver of its scheduler, its models' native size.

    `precision` is what the graphs compute in; the weights are stored as the checkpoint has them.
    """

    name: str | None = None
    target: str = "onnx"
    precision: str = "fp32"
    sampler: str | None = None  # the defaults of `run` with this package
    steps: int = 20
    guidance: float = 7.5
    width: int | None = None  # pixels
    height: int | None = None

    def __post_init__(self) -> None:
        for name, known in (("target", TARGETS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; known are {', '.join(known)}")
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
