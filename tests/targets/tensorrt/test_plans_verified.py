"""verify and bench on a package with TensorRT plans; another engine stands for the GPU that would run them."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ldm_export import bench, build
from ldm_export.errors import VerificationError
from ldm_export.package.describe import describe, render
from ldm_export.package.write import with_artefacts, write_manifest
from ldm_export.process.isolate import Outcome
from ldm_export.targets.tensorrt.profiles import Profile, axis_ranges, read_profile
from ldm_export.verify.gate import verify_package
from ldm_runtime.engines.engine import Engine, Settings
from ldm_runtime.engines.table import ENGINES
from ldm_runtime.engines.tensorrt.fit import Machine, choose_profile, find_plan, requirements
from ldm_runtime.errors import EngineUnavailable
from ldm_runtime.package.artefacts import Artefact, Difference, PlanRequirements
from ldm_runtime.package.open import Package, open_package, read_manifest
from tests.runtime.tiny_package import COMPONENTS

HERE = Machine({"rtx": "1.7.1.116"}, "8.9")
NAME = "rtx-1.7.1.116-sm89"


def planned(source: Path, folder: Path, *, lossy: bool = False, profile: Profile | None = None) -> Path:
    """A copy with a plan of every component; the plans' files hold nothing."""
    shutil.copytree(source, folder)
    manifest = read_manifest(folder)
    ranges = axis_ranges(manifest.contract, Profile() if profile is None else profile)
    (folder / "engines" / NAME).mkdir(parents=True)
    plans = {}
    for name, parts in manifest.components.items():
        file = f"engines/{NAME}/{name}.plan"
        (folder / file).write_text(f"stands for a plan of {name}")
        graph, weights = (manifest.files[each].sha256 for each in (parts.canonical.file, parts.weights))
        requires = PlanRequirements("rtx", "1.7.1.116", ("8.9",), (), graph, weights, (ranges[name],), None, None)
        plan = Artefact(NAME, "tensorrt", (file,), "tensorrt", "fp32", "exact", None, requires)
        if lossy:
            difference = Difference(1e-3, 1e-2)
            plan = dataclasses.replace(plan, precision="fp16", exactness="lossy", difference=difference)
        plans[name] = [plan]
    write_manifest(folder, with_artefacts(folder, manifest, plans))
    return folder


class Stand:
    """ONNX Runtime in the place of TensorRT, with the plan's limits; `scale` makes its results wrong."""

    def __init__(self, package: Package, component: str, plan: Artefact, scale: float) -> None:
        canonical = package.manifest.components[component].canonical
        self.engine: Engine = ENGINES["ort"].open(package, component, canonical, Settings())
        self.inputs, self.outputs, self.notices = self.engine.inputs, self.engine.outputs, ()
        self.maps_weights = False
        self.plan, self.component, self.scale = requirements(plan), component, scale
        self.specs = package.manifest.contract.components[component].inputs

    def run(self, feeds: Any) -> Any:
        sizes = {
            dim: size
            for spec in self.specs
            for dim, size in zip(spec.dims, feeds[spec.name].shape, strict=True)
            if isinstance(dim, str)
        }
        choose_profile(self.component, self.plan.profiles, sizes, -1)
        return {name: self.scale * value for name, value in self.engine.run(feeds).items()}

    def close(self) -> None:
        self.engine.close()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Call it with the scale of results to have a "GPU"."""

    def install(scale: float = 1.0) -> None:
        def opened(package: Package, component: str, artefact: Artefact, settings: Settings) -> Any:
            return Stand(package, component, artefact, scale)

        def pick(package: Package, component: str) -> Artefact:
            return find_plan(package, component, HERE)

        kind = dataclasses.replace(
            ENGINES["tensorrt"], open=opened, missing=lambda: None, automatic=lambda: True, pick=pick
        )
        monkeypatch.setitem(ENGINES, "tensorrt", kind)

    return install


def test_a_plan_is_compared_as_one_graph_of_its_component(
    proven: Callable[[str], Path], tmp_path: Path, gpu: Callable[..., None]
) -> None:
    gpu()
    folder = planned(proven("sd15"), tmp_path / "package")
    report = verify_package(folder, engine="tensorrt")
    assert report.passed, report.failures
    assert {(case.component, case.artefact) for case in report.cases} == {(name, NAME) for name in COMPONENTS}
    assert {file for file in report.artefacts if file.endswith(".plan")} == {
        f"engines/{NAME}/{name}.plan" for name in COMPONENTS
    }
    assert report.engine.startswith("tensorrt (")


def test_auto_is_about_graphs_whatever_plans_there_are(
    proven: Callable[[str], Path], tmp_path: Path, gpu: Callable[..., None]
) -> None:
    gpu(2.0)  # were a plan run, it would be wrong
    report = verify_package(planned(proven("sd15"), tmp_path / "package"))
    assert report.passed and NAME not in {case.artefact for case in report.cases}


def test_parts_may_be_planned(proven: Callable[[str], Path], tmp_path: Path, gpu: Callable[..., None]) -> None:
    gpu()
    report = verify_package(planned(proven("sd15"), tmp_path / "package"), engine="unet=tensorrt,vae=ort")
    kinds = {case.component for case in report.cases if case.artefact == NAME}
    assert report.passed and kinds == {"unet"}


@pytest.mark.parametrize(("lossy", "passed"), [(True, True), (False, False)])
def test_a_lossy_plan_has_the_tolerance_of_its_precision(
    proven: Callable[[str], Path], tmp_path: Path, gpu: Callable[..., None], lossy: bool, passed: bool
) -> None:
    gpu(1.0005)
    report = verify_package(planned(proven("sd15"), tmp_path / "package", lossy=lossy), engine="tensorrt")
    assert report.passed is passed, report.failures


@pytest.mark.parametrize("scale", [1.01, 1.05])  # the first is half of what fp16 may, and ten times what was recorded
def test_a_lossy_plan_that_is_wrong_fails(
    proven: Callable[[str], Path], tmp_path: Path, gpu: Callable[..., None], scale: float
) -> None:
    gpu(scale)
    assert not verify_package(planned(proven("sd15"), tmp_path / "package", lossy=True), engine="tensorrt").passed


def test_cases_outside_of_a_profile_are_left_out_but_not_all(
    proven: Callable[[str], Path], tmp_path: Path, gpu: Callable[..., None]
) -> None:
    gpu()
    narrow = planned(proven("sd15"), tmp_path / "narrow", profile=read_profile(("batch=1",)))
    batches = {case.shape[0] for case in verify_package(narrow, engine="tensorrt").cases if case.component == "unet"}
    assert batches == {1, 2}
    wide = planned(proven("sd15"), tmp_path / "elsewhere", profile=read_profile(("batch=7",)))
    report = verify_package(wide, engine="tensorrt")
    assert "covers no case of the reference" in str([case.problem for case in report.cases if case.component == "unet"])
    assert not report.passed


def test_an_engine_that_this_machine_cannot_run_is_one_error(
    proven: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = dataclasses.replace(ENGINES["tensorrt"], missing=lambda: "it needs a GPU")
    monkeypatch.setitem(ENGINES, "tensorrt", kind)
    with pytest.raises(EngineUnavailable, match="^tensorrt does not run here: it needs a GPU$"):
        verify_package(proven("sd15"), engine="unet=tensorrt,vae=ort")


def test_inspect_tells_of_the_plans(proven: Callable[[str], Path], tmp_path: Path) -> None:
    facts = describe(planned(proven("sd15"), tmp_path / "package", lossy=True))
    plan = facts["components"]["unet"]["artefacts"][NAME]
    assert (plan["format"], plan["precision"], plan["exactness"], plan["relative_rms"]) == (
        "tensorrt",
        "fp16",
        "lossy",
        1e-3,
    )
    assert plan["requires"]["compute_capabilities"] == ["8.9"]
    assert plan["requires"]["profiles"][0]["batch"] == [1, 2, 8]
    assert f"{NAME}:" in render(facts)


def test_a_package_without_plans_fails_with_the_reason(
    proven: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*arguments: object) -> Any:
        raise EngineUnavailable("it has none")

    kind = dataclasses.replace(ENGINES["tensorrt"], pick=unavailable, missing=lambda: None)
    monkeypatch.setitem(ENGINES, "tensorrt", kind)
    report = verify_package(proven("sd15"), engine="unet=tensorrt,text_encoder=ort,vae=ort")
    (case,) = [case for case in report.cases if case.artefact == "tensorrt"]
    assert not report.passed and case.problem == "it has none"


def test_the_gate_runs_on_plans_where_a_gpu_is(
    proven: Callable[[str], Path], tmp_path: Path, gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_gpu(package: Package, component: str) -> Any:
        raise EngineUnavailable("no GPU here")

    def here(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Outcome:
        return Outcome(function(*args, **kwargs), peak_bytes=1, seconds=1.0)

    monkeypatch.setattr(build, "run_isolated", here)
    folder = planned(proven("sd15"), tmp_path / "package")
    manifest = read_manifest(folder)
    said: list[str] = []
    report = build.BuildReport()
    none = dataclasses.replace(ENGINES["tensorrt"], pick=no_gpu)
    monkeypatch.setitem(ENGINES, "tensorrt", none)
    build._prove_target("tensorrt", folder, manifest, report, said.append)
    assert said == [
        "tensorrt is not run here, so what was built for it is not compared with the reference: no GPU here"
    ]
    assert report.stages == [] and report.proofs == []
    gpu()
    build._prove_target("tensorrt", folder, manifest, report, said.append)
    assert report.stages == [("verify with tensorrt", 1.0, 1)] and report.proofs[0].engine.startswith("tensorrt (")
    gpu(1.01)
    with pytest.raises(VerificationError, match=r"what was built is not equal .*relative RMS is .* \(and \d+ more\)"):
        build._prove_target("tensorrt", folder, manifest, report, said.append)


def test_bench_counts_the_plans_bytes_and_lists_the_engine(
    proven: Callable[[str], Path], tmp_path: Path, gpu: Callable[..., None]
) -> None:
    gpu()
    folder = planned(proven("sd15"), tmp_path / "package")
    package = open_package(folder, check="size")
    plans = [f"engines/{NAME}/{name}.plan" for name in COMPONENTS]
    graphs = {
        name: bench.GraphRun("tensorrt", (plan,), 0.1, (0.1,), None)
        for name, plan in zip(COMPONENTS, plans, strict=True)
    }
    run = bench.EngineRun(graphs, (0.1,), 1.0, (), 1)
    assert bench._file_bytes(package, run) == sum((folder / file).stat().st_size for file in plans)
    assert bench._that_run_here(package)[0] == "tensorrt"
    assert "tensorrt" not in bench._that_run_here(open_package(proven("sd15"), check="size"))
