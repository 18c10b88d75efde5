"""ldm_runtime: draws pictures with a package that ldm-export built, from numpy and one engine, without torch.

    import ldm_runtime
    ldm_runtime.load()("red apple, 3d style", seed=1)[0].save("apple.png")

Nothing heavy is imported before `load` is called.
"""

from os import PathLike
from typing import TYPE_CHECKING

from ldm_runtime.errors import (
    EngineError,
    InputError,
    LdmError,
    NonFiniteError,
    PackageError,
)

if TYPE_CHECKING:
    from ldm_runtime.package import Check
    from ldm_runtime.pipeline import Pipeline

__all__ = ["EngineError", "InputError", "LdmError", "NonFiniteError", "PackageError", "load"]


def load(path: "str | PathLike[str] | None" = None, *, engine: str = "auto", check: "Check" = "cached") -> "Pipeline":
    """Open the package in folder `path`, or the built-in one if None, ready to draw.

    engine: "auto" or the name of one, "ort". check: how its files are checked, see `package.open_package`.

    Raises:
        PackageError: no package there, or a damaged, incomplete or unsafe one.
        EngineError: no engine here can run it.
        InputError: `engine` or `check` is not known.
    """
    from ldm_runtime.pipeline import open_pipeline

    return open_pipeline(path, engine=engine, check=check)
