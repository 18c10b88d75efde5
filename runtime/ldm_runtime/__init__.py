"""ldm_runtime: draw images with a package that ldm-export built, from numpy and one engine, without torch.

    import ldm_runtime
    ldm_runtime.load()("red apple, 3d style", seed=1)[0].save("apple.png")

Nothing heavy is imported before `load` is called.
"""

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from ldm_runtime.errors import (
    Cancelled,
    EngineError,
    EngineUnavailable,
    InputError,
    LdmError,
    NonFiniteError,
    OutputError,
    PackageError,
)

if TYPE_CHECKING:
    from ldm_runtime.package.open import Check
    from ldm_runtime.pipeline import Pipeline

__version__ = "0.1.0"  # of ldm-runtime and of ldm-export: both builds read it here
__all__ = [
    "Cancelled",
    "EngineError",
    "EngineUnavailable",
    "InputError",
    "LdmError",
    "NonFiniteError",
    "OutputError",
    "PackageError",
    "load",
]


def load(
    path: "str | PathLike[str] | None" = None,
    *,
    engine: str = "auto",
    threads: int | None = None,
    engine_options: "Mapping[str, Mapping[str, Any]] | None" = None,
    check: "Check" = "cached",
    budget: str = "exact",
    variant: str | None = None,
) -> "Pipeline":
    """Open the package in folder `path`, or the built-in one if None.

    engine: "auto", the name of one, such as "ort:cuda", or names by part, such as "unet=tensorrt,vae=ort"; the names
    are in `ldm_runtime.engines.table.ENGINES`. "auto" follows what `ldm-export tune` found on this machine, unless
    threads or engine_options are given. threads: CPU threads of an operator, where the engine runs on the CPU.
    engine_options: what an engine is given by its own names, such as {"ort:cuda": {"device_id": 1}}.
    check: "cached" hashes each file once and remembers it, "full" hashes it again, "size" compares sizes and headers
    and hashes only what is kept in a hub's cache.
    budget: how far images may be from the exact ones: "exact", "psnr=35" (dB of the worst that was measured) or
    "ssim=0.95"; the fastest of the package's variants within it draws that this machine can run, or none: exactly.
    variant: one by its name, which has to run. The notices of a run tell which draws, what it costs, and what was left
    out.

    Raises:
        PackageError: no package there, or a damaged, incomplete or unsafe one.
        EngineError: no engine here can run it; its subclass EngineUnavailable: not on this machine.
        InputError: an engine, a part, `threads`, `check`, `budget` or `variant` is not known.
    """
    from ldm_runtime.opening import open_pipeline

    return open_pipeline(
        path,
        engine=engine,
        threads=threads,
        engine_options=engine_options,
        check=check,
        budget=budget,
        variant=variant,
    )
