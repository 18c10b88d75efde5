"""Plans on a real GPU: parity with the reference, CUDA graphs, changing sizes, and memory that is given back."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ldm_export.targets.tensorrt.profiles import Profile, axis_ranges
from ldm_export.verify.gate import verify_package
from ldm_runtime.engines.choice import choose, open_engine
from ldm_runtime.engines.cuda.device import CudaDevice, import_cuda
from ldm_runtime.engines.tensorrt.engine import fitting_plan, missing_tensorrt
from ldm_runtime.errors import EngineUnavailable
from ldm_runtime.package.open import Package, open_package
from tests.runtime.tiny_package import COMPONENTS
from tests.targets.building import add

MISSING = missing_tensorrt()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(MISSING is not None, reason=f"TensorRT plans do not run here: {MISSING}"),
]


@pytest.fixture(scope="module")
def planned(proven: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A proven package with plans for the GPU that is here; read only."""
    folder = Path(shutil.copytree(proven("sd15"), tmp_path_factory.mktemp("planned") / "package"))
    add(folder, "tensorrt")
    try:
        fitting_plan(open_package(folder, check="size"), "unet")
    except EngineUnavailable as error:
        pytest.skip(f"no plan that can be built here runs here: {error}")
    return folder


@pytest.fixture
def package(planned: Path) -> Iterator[Package]:
    yield open_package(planned)


def feeds(package: Package, component: str, seed: int = 0, **sizes: int) -> dict[str, np.ndarray]:
    contract = package.manifest.contract
    chosen = {axis: size.opt for axis, size in axis_ranges(contract, Profile())[component].items()} | sizes
    random = np.random.default_rng(seed)
    made = {}
    for spec in contract.components[component].inputs:
        shape = tuple(dim if isinstance(dim, int) else chosen[dim] for dim in spec.dims)
        if spec.dtype == "float32":
            made[spec.name] = np.asarray(random.standard_normal(shape), np.float32)
        else:
            made[spec.name] = random.integers(0, contract.text[0].tokenizer.vocab_size, shape).astype(spec.dtype)
    return made


def test_verify_passes_on_plans(planned: Path) -> None:
    report = verify_package(planned, engine="tensorrt")
    assert report.passed, report.failures
    assert {(case.component, case.artefact) for case in report.cases} == {
        (name, fitting_plan(open_package(planned, check="size"), name).name) for name in COMPONENTS
    }


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_verify_passes_on_plans_in_reduced_precision(
    proven: Callable[[str], Path], tmp_path: Path, precision: str
) -> None:
    folder = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    add(folder, "tensorrt", precision=precision)
    try:
        fitting_plan(open_package(folder, check="size"), "unet")
    except EngineUnavailable as error:
        pytest.skip(f"no plan that can be built here runs here: {error}")
    report = verify_package(folder, engine="tensorrt")
    assert report.passed, report.failures


@pytest.mark.parametrize("component", COMPONENTS)
def test_several_sizes_in_one_engine_equal_onnx_runtime(package: Package, component: str) -> None:
    plan = open_engine(choose("tensorrt"), package, component).engine
    graph = open_engine(choose("ort"), package, component).engine
    axes = {dim for spec in package.manifest.contract.components[component].inputs for dim in spec.dims}
    for batch in (1, 3, 2, 1):
        given = feeds(package, component, batch, **({"batch": batch} if "batch" in axes else {}))
        for name, expected in graph.run(given).items():
            np.testing.assert_allclose(plan.run(given)[name], expected, rtol=1e-3, atol=1e-4)
    plan.close()


def test_a_cuda_graph_changes_nothing(package: Package) -> None:
    results = {}
    for switch in ("on", "off"):
        choice = choose("tensorrt", options={"tensorrt": {"cuda_graph": switch}})
        engine = open_engine(choice, package, "unet").engine
        results[switch] = [engine.run(feeds(package, "unet", seed))["out_sample"] for seed in (0, 1, 2, 0)]
        engine.close()
    for on, off in zip(results["on"], results["off"], strict=True):
        np.testing.assert_allclose(on, off, rtol=1e-5, atol=1e-6)


def test_memory_is_given_back(package: Package) -> None:
    device = CudaDevice(import_cuda())

    def use() -> int:
        engine = open_engine(choose("tensorrt"), package, "unet").engine
        for batch in (1, 2, 4):
            engine.run(feeds(package, "unet", batch, batch=batch))
        engine.close()
        return device.free_memory()

    use()  # CUDA keeps something of the first
    free = [use() for _ in range(5)]
    assert free[-1] >= free[0] - (1 << 20)
