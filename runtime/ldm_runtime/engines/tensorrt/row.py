"""TensorRT's row in the table of engines, apart from the engine: nothing of CUDA is imported before it is asked for."""

from ldm_runtime.engines.cuda.driver import missing_gpu
from ldm_runtime.engines.engine import Engine, EngineKind, Settings
from ldm_runtime.package.artefacts import Artefact
from ldm_runtime.package.open import Package


def _open(package: Package, component: str, artefact: Artefact, settings: Settings) -> Engine:
    from ldm_runtime.engines.tensorrt.engine import open_tensorrt

    return open_tensorrt(package, component, artefact, settings.options)


def _missing() -> str | None:
    from ldm_runtime.engines.tensorrt.engine import missing_tensorrt

    return missing_tensorrt()


def _pick(package: Package, component: str) -> Artefact:
    from ldm_runtime.engines.tensorrt.engine import fitting_plan

    return fitting_plan(package, component)


TENSORRT = EngineKind(
    "TensorRT, for RTX or classic, with the plans that the package was built with",
    (("tensorrt", "tensorrt"),),
    _open,
    _missing,
    lambda: missing_gpu() is None,  # with a GPU, a user wants to hear why the package's plans are not used
    _pick,
)
