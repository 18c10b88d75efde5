"""Plans are really built, without a GPU: from a package's graphs, listed in its manifest, or refused and why.

TensorRT for RTX has to be installed; what only a GPU can do is in `test_gpu.py`.
"""

import dataclasses
import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import ldm_runtime
from ldm_export import build as builds
from ldm_export.cli.main import verbs
from ldm_export.errors import ExportError, VerificationError
from ldm_export.lossy.blocks import pack_blocks
from ldm_export.lossy.quantise import quantise
from ldm_export.precision.table import PRECISIONS
from ldm_export.process.isolate import Outcome, StageCost
from ldm_export.recipes.build import BuildRecipe
from ldm_export.targets.tensorrt import build as building
from ldm_export.targets.tensorrt import check as checking
from ldm_export.targets.tensorrt import narrow as narrowing
from ldm_export.targets.tensorrt import repair as repairing
from ldm_export.targets.tensorrt.check import CAPABILITIES, Work, check_tensorrt, group_capabilities
from ldm_export.targets.tensorrt.narrow import measure_narrow
from ldm_export.targets.tensorrt.plan import PlanRequest, build_plan
from ldm_export.targets.tensorrt.profiles import Profile, axis_ranges, input_shapes
from ldm_export.targets.tensorrt.reduced import PLAIN, compare_reduced, exact_session, reduced_graph
from ldm_export.targets.tensorrt.repair import measure_or_repair
from ldm_export.verify import reference_file
from ldm_export.verify.compare import judge
from ldm_runtime.engines.cuda.driver import missing_gpu
from ldm_runtime.engines.tensorrt.engine import load_plan
from ldm_runtime.engines.tensorrt.fit import Machine, check_header, find_plan, requirements
from ldm_runtime.engines.tensorrt.library import import_tensorrt, read_header
from ldm_runtime.errors import EngineUnavailable, InputError, LdmError, PackageError
from ldm_runtime.files.atomic import atomic_folder
from ldm_runtime.package.artefacts import Artefact, Range
from ldm_runtime.package.open import open_package, read_manifest
from tests.once import make_once
from tests.runtime.tiny_package import COMPONENTS, rehash
from tests.targets.building import add, order
from tests.targets.tensorrt import overflowing

pytestmark = pytest.mark.slow

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX: pip install 'ldm-export[tensorrt]'")
GOLDEN = Path(__file__).parents[2] / "golden" / "package"
RTX = import_tensorrt("rtx")
without_gpu = pytest.mark.skipif(missing_gpu() is None, reason="is about a machine without a GPU")


Asked = dict[str, Any]


def asked(
    flavour: str = "auto", compute_capabilities: tuple[str, ...] = (), profiles: tuple[str, ...] = (), **others: Any
) -> Asked:
    """What plans to build; `others` are precision, refit and weight_stripped."""
    return {"flavour": flavour, "compute_capabilities": compute_capabilities, "profiles": profiles, **others}


def check_target(what: Asked) -> Work:
    return check_tensorrt(order(GOLDEN, "tensorrt", **what))


def build_tensorrt(folder: Path, what: Asked, **others: Any) -> list[StageCost]:
    return add(folder, "tensorrt", **what, **others)


def here(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Outcome:
    """Each stage has a process of its own, which costs a second; `tests/process/test_isolate.py` is about that."""
    return Outcome(function(*args, **kwargs), peak_bytes=0, seconds=0.0)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "run_isolated", here)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden package with plans for two kinds of GPUs; read only."""
    folder = Path(shutil.copytree(GOLDEN, tmp_path_factory.mktemp("built") / "package"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "run_isolated", here)
        build_tensorrt(folder, asked("rtx", ("8.9", "8.6")))
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "package"))


def files_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def plans_of(folder: Path, component: str = "unet") -> dict[str, Artefact]:
    """Name -> plan of a component, in the manifest's order."""
    artefacts = read_manifest(folder).components[component].artefacts
    return {artefact.name: artefact for artefact in artefacts if artefact.format == "tensorrt"}


def capabilities_of(folder: Path) -> dict[str, tuple[str, ...]]:
    return {name: requirements(plan).compute_capabilities for name, plan in plans_of(folder).items()}


# --- what is built --------------------------------------------------------------------------------------------------


def test_every_component_gets_a_plan_that_says_what_it_is(built: Path) -> None:
    manifest = read_manifest(built)
    name = f"rtx-{RTX.version}-sm86-sm89-fp32"
    ranges = axis_ranges(manifest.contract, Profile())
    for component in COMPONENTS:
        plan = plans_of(built, component)[name]
        requires = requirements(plan)
        assert (requires.flavour, requires.version, requires.options) == ("rtx", RTX.version, ())
        assert requires.compute_capabilities == ("8.6", "8.9")
        assert plan.files == (f"engines/{name}/{component}.plan",) and plan.file in manifest.files
        assert requires.profiles == (ranges[component],)
        assert (plan.precision, plan.exactness, plan.difference) == ("fp32", "exact", None)
        assert requires.activation_bytes is not None
        assert requires.weight_bytes is not None and requires.weight_bytes > 0


def test_the_package_opens_and_draws_as_before(built: Path) -> None:
    package = open_package(built, check="full")
    package.confirm()
    with ldm_runtime.load(built, engine="ort") as pipe:
        assert pipe("red", seed=1, steps=1)[0].size == (64, 48)


def test_the_plan_is_found_by_the_machine_it_is_for_and_its_file_says_the_same(built: Path) -> None:
    package = open_package(built, check="size")
    for component in COMPONENTS:
        found = find_plan(package, component, Machine({"rtx": RTX.version}, "8.9"))
        check_header(package, found)
        header = read_header(package.file(found.file))
        assert (header.version, header.capabilities) == (RTX.version, ("8.6", "8.9"))
    with pytest.raises(EngineUnavailable, match=r"compute capability 8.6, 8.9, here is 9.0"):
        find_plan(package, "unet", Machine({"rtx": RTX.version}, "9.0"))


def test_the_same_package_gives_the_same_files(built: Path, copy: Path) -> None:
    stages = build_tensorrt(copy, asked("auto", ("8.6", "8.9")))
    assert {name for name, _, _ in stages} == {f"plan {each} rtx-{RTX.version}-sm86-sm89-fp32" for each in COMPONENTS}
    assert set(files_of(copy)) == set(files_of(built))


def test_plans_of_several_orders_stand_side_by_side(copy: Path) -> None:
    build_tensorrt(copy, asked("rtx", ("8.9",), ("batch=1",)))
    build_tensorrt(copy, asked("rtx", ("12.0",)))
    names = [f"rtx-{RTX.version}-sm89-fp32", f"rtx-{RTX.version}-sm120-fp32"]
    assert list(plans_of(copy)) == names
    assert requirements(plans_of(copy)[names[0]]).profiles[0]["batch"] == Range(1, 2, 2)
    open_package(copy, check="full").confirm()


def test_without_capabilities_the_plan_is_for_all_but_turing(copy: Path) -> None:
    build_tensorrt(copy, asked("rtx"))
    all_but_turing = tuple(each for each in CAPABILITIES if each != "7.5")
    assert capabilities_of(copy) == {f"rtx-{RTX.version}-portable-fp32": all_but_turing}


@pytest.mark.slow
def test_each_plan_is_built_in_a_process_of_its_own(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    said: list[str] = []
    stages = build_tensorrt(copy, asked("rtx", ("8.9",)), progress=said.append)
    assert all(seconds > 0 and peak > 50_000_000 for _, seconds, peak in stages)
    assert "TensorRT: building engine" in said


def test_progress_comes_from_tensorrt(copy: Path) -> None:
    said: list[str] = []
    build_tensorrt(copy, asked("rtx", ("8.9",)), progress=said.append)
    assert f"unet: building the plan rtx-{RTX.version}-sm89-fp32" in said and "TensorRT: building engine" in said


# --- in fp16 and bf16 ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "capabilities", "sets"),
    [
        ("fp16", ("7.5", "8.9"), {"sm75-fp16": ("7.5",), "sm89-fp16": ("8.9",)}),
        ("bf16", ("8.9",), {"sm89-bf16": ("8.9",)}),
    ],
)
def test_plans_in_reduced_precision_carry_their_difference(
    proven: Callable[[str], Path],
    tmp_path: Path,
    precision: Any,
    capabilities: tuple[str, ...],
    sets: dict[str, tuple[str, ...]],
) -> None:
    folder = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    before = files_of(folder)
    build_tensorrt(folder, asked("rtx", capabilities, precision=precision))
    assert capabilities_of(folder) == {f"rtx-{RTX.version}-{name}": each for name, each in sets.items()}
    tolerance = PRECISIONS[precision].tolerance.relative_rms
    for component in COMPONENTS:
        for plan in plans_of(folder, component).values():
            assert plan.exactness == "lossy" and plan.difference is not None
            assert 1e-5 < plan.difference.relative_rms < tolerance
    left = {name for name in files_of(folder) if not name.startswith("engines/")}
    assert left == set(before)  # no reduced graph stays
    open_package(folder, check="full").confirm()


@pytest.mark.slow
def test_plans_with_narrow_weights_are_smaller_and_carry_their_difference(
    proven: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    before = files_of(folder)
    for weights in ("whole", "w8", "w4"):
        build_tensorrt(folder, asked("rtx", ("8.9",), precision="bf16", weights=weights))
    name = f"rtx-{RTX.version}-sm89-bf16"
    for component in COMPONENTS:
        plans = plans_of(folder, component)
        assert list(plans) == [name, f"{name}-w8", f"{name}-w4"]
        whole, eight, four = (requirements(plan).weight_bytes for plan in plans.values())
        assert whole is not None and eight is not None and four is not None
        assert eight < 0.8 * whole and four <= eight  # of two bytes each, but for vectors and their own scales
        differences = [plan.difference.relative_rms for plan in plans.values() if plan.difference is not None]
        assert len(differences) == 3 and max(differences) < PRECISIONS["bf16"].tolerance.relative_rms
        assert {(plan.precision, plan.exactness) for plan in plans.values()} == {("bf16", "lossy")}
    assert {name for name in files_of(folder) if not name.startswith("engines/")} == set(before)
    open_package(folder, check="full").confirm()


@pytest.mark.slow
def test_narrow_weights_that_differ_too_much_are_refused(proven: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    before = files_of(folder)
    with pytest.raises(
        VerificationError,
        match=r"fp16, weights w4\).* more than the tolerance 2.00e-02; build with --weights w8, or build with",
    ):
        build_tensorrt(folder, asked("rtx", ("8.9",), precision="fp16", weights="w4"))
    assert files_of(folder) == before


@pytest.mark.slow
def test_a_wrong_scale_of_one_layer_is_measured(
    proven: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    paths = folder / "unet/model.onnx", folder / reference_file.FILE, "unet"
    good = measure_narrow(*paths, "bf16", "w8", PLAIN).relative_rms

    def spoilt(*arguments: Any) -> Any:
        model, data = quantise(*arguments)
        name = sorted(name for name in data if name.endswith("/scale"))[len(data) // 4]
        data[name] *= np.float32(1.5)
        return model, data

    monkeypatch.setattr(narrowing, "quantise", spoilt)
    assert measure_narrow(*paths, "bf16", "w8", PLAIN).relative_rms > 1.5 * good


@pytest.mark.slow
def test_fp32_plans_of_real_graphs(proven: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    build_tensorrt(folder, asked("rtx", ("8.9",), profiles=("size=32:64:128", "windows=1:1:2")))
    assert [plan.exactness for name in COMPONENTS for plan in plans_of(folder, name).values()] == ["exact"] * 4


def scaled_decoder(folder: Path, factor: float) -> Path:
    """A package whose decoder is the same in float32, but has `factor` times larger values on the way."""
    graph = folder / "vae_decoder" / "model.onnx"
    model = onnx.load(graph, load_external_data=False)
    for name, value in (("grow", factor), ("shrink", 1 / factor)):
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [name], value_float=value))
    model.graph.node.insert(2, onnx.helper.make_node("Mul", ["latent_sample", "grow"], ["grown_in"], "grow/Mul"))
    model.graph.node.insert(3, onnx.helper.make_node("Mul", ["grown_in", "shrink"], ["same"], "shrink/Mul"))
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    first.input[0] = "same"
    onnx.save(model, graph)
    return folder


def reduced_difference(folder: Path, component: str, precision: Any) -> Any:
    """As `build` measures it, without a repair."""
    cases = reference_file.read(folder / reference_file.FILE).cases_of(component)
    return judge(list(compare_reduced(folder / component / "model.onnx", cases, precision)), cases, precision)


def test_a_component_that_overflows_in_fp16_is_named(proven: Callable[[str], Path], tmp_path: Path) -> None:
    folder = scaled_decoder(Path(shutil.copytree(proven("sd15"), tmp_path / "package")), 2.0**17)
    with pytest.raises(
        VerificationError, match=r"vae_decoder \(tensorrt fp16\), .* sample: it holds NaN .* --precision bf16"
    ):
        reduced_difference(folder, "vae_decoder", "fp16")
    assert reduced_difference(folder, "vae_decoder", "bf16").relative_rms < 0.1


def test_plans_in_fp16_of_graphs_that_overflow_are_repaired(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    large = make_once(tmp_path_factory, "overflowing", overflowing.make)
    folder = Path(shutil.copytree(large, tmp_path / "package"))
    before, said = files_of(folder), list[str]()
    build_tensorrt(folder, asked("rtx", ("8.9",), precision="fp16"), progress=said.append)
    for component in ("unet", "vae_encoder", "vae_decoder"):
        (plan,) = plans_of(folder, component).values()
        assert plan.difference is not None and plan.difference.relative_rms < 2e-2
        assert plan.rescaled is not None and plan.rescaled >= 2 and plan.kept == ()
        assert any(re.match(f"{component}: repaired, .* carried at 1/", text) for text in said), said
    (plan,) = plans_of(folder, "text_encoder").values()
    assert (plan.rescaled, plan.kept) == (None, ())
    assert {name for name in files_of(folder) if not name.startswith("engines/")} == set(before)
    open_package(folder, check="full").confirm()


def test_operators_that_stay_in_float32_are_found(proven: Callable[[str], Path], tmp_path: Path) -> None:
    folder = scaled_decoder(Path(shutil.copytree(proven("sd15"), tmp_path / "package")), 2.0**17)
    graph, reference = folder / "vae_decoder" / "model.onnx", folder / reference_file.FILE
    measured = measure_or_repair(graph, reference, "vae_decoder", "fp16", progress=lambda text: None)
    assert set(measured.repair.kept) == {"grow/Mul", "shrink/Mul"} and measured.repair.carried == ()
    assert measured.difference is not None and measured.difference.relative_rms < 2e-2


def test_what_cannot_be_repaired_leaves_the_package_as_it_was(
    proven: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scaled_decoder(Path(shutil.copytree(proven("sd15"), tmp_path / "package")), 2.0**17)
    before = files_of(folder)
    monkeypatch.setattr(repairing, "MOST_KEPT", 0.0)
    with pytest.raises(
        VerificationError, match=r"vae_decoder does not .* overflows is [0-9.e+]+ of grow/Mul \(Mul\); with 1 of"
    ):
        build_tensorrt(folder, asked("rtx", ("8.9",), precision="fp16"))
    assert files_of(folder) == before


def test_a_component_that_differs_too_much_is_named(
    proven: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    row = PRECISIONS["fp16"]
    strict = dataclasses.replace(row, tolerance=dataclasses.replace(row.tolerance, relative_rms=1e-5))
    monkeypatch.setitem(PRECISIONS, "fp16", strict)
    with pytest.raises(
        VerificationError,
        match=r"unet \(tensorrt fp16\), .* out_sample: relative RMS is .*more than the tolerance 1.00e-05",
    ):
        reduced_difference(package, "unet", "fp16")


def test_a_package_without_a_reference_cannot_be_reduced(copy: Path) -> None:
    before = files_of(copy)
    with pytest.raises(PackageError, match="cannot read .*reference.safetensors"):
        build_tensorrt(copy, asked("rtx", ("8.9",), precision="fp16"))
    assert files_of(copy) == before


def test_the_emulation_is_what_half_precision_in_torch_is(
    proven: Callable[[str], Path], tiny_build: Any, tmp_path: Path
) -> None:
    """As near to torch's own fp16 modules as both are to float32: the same rounding, other sums."""
    torch = pytest.importorskip("torch")
    from ldm_export.checkpoint.open import open_checkpoint

    checkpoint = open_checkpoint(tiny_build("sd15").source)
    decoder = checkpoint.load("vae").half()
    case = next(
        each
        for each in reference_file.read(proven("sd15") / "verify/reference.safetensors").cases
        if each.component == "vae_decoder"
    )
    with torch.no_grad():
        half = decoder.decode(torch.from_numpy(case.inputs["latent_sample"].copy()).half()).float().numpy()
    package = Path(shutil.copytree(proven("sd15"), tmp_path / "package"))
    with reduced_graph(package / "vae_decoder/model.onnx", "fp16", emulate=True) as path:
        (emulated,) = exact_session(path).run(["sample"], case.inputs)
    expected = case.outputs["sample"]
    away = [float(np.sqrt(np.mean((each - expected) ** 2))) for each in (half, emulated)]
    assert 0.2 < away[1] / away[0] < 2


# --- what is refused before building ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (asked("rtxx"), r"--flavour \(tensorrt\.flavour\) got 'rtxx'; expected auto, rtx, classic"),
        (asked(precision="int8"), "--precision got 'int8'; expected fp32, fp16, bf16"),  # type: ignore[arg-type]
        (
            asked(compute_capabilities=("9.0",)),
            "got '9.0'; TensorRT for RTX builds for 7.5.*--flavour classic",
        ),
        (
            asked(compute_capabilities=("8",)),
            r"--compute-capability \(tensorrt\.compute_capabilities\) got '8'; TensorRT for RTX builds for [^;]*$",
        ),
        (
            asked(compute_capabilities=("7.5",)),
            "7.5 do not compute in fp32 .* choose --precision fp16, or leave",
        ),
        (asked(compute_capabilities=("8.9", "7.5"), precision="bf16"), "7.5 do not compute in bf16"),
        (asked(profiles=("batch=0",)), r"--profile \(tensorrt\.profiles\) got 'batch=0'"),
        (
            asked(precision="fp16", weight_stripped=True),
            r"--weight-stripped \(tensorrt\.weight_stripped\) takes the weights from the package",
        ),
        (asked(precision="fp16", weights="w5"), r"--weights \(tensorrt.weights\) got 'w5'; expected whole, w8, w4"),
        (asked(weights="w8"), r"--weights w8 \(tensorrt.weights\) is for plans in fp16 or bf16; got --precision fp32"),
        (asked("classic", precision="fp16", weights="w8"), "w8 .* is for TensorRT for RTX; choose --flavour rtx, or"),
        (
            asked(precision="bf16", weights="w4", refit=True),
            "gives plans whose weights cannot be replaced; leave --ref",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_once(target: Asked, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_target(target)


@pytest.mark.parametrize(
    "target",
    [
        asked(),
        asked("rtx", ("7.5", "12.1"), precision="fp16"),
        asked("rtx", ("7.5", "8.9"), precision="fp16", weights="w8"),
        asked("auto", ("8.0", "8.6", "8.9", "12.0", "12.1"), ("size=32:64:128", "batch=1:2:4"), precision="bf16"),
    ],
)
def test_what_can_be_passes(target: Asked) -> None:
    check_target(target)


@without_gpu
def test_classic_without_a_gpu_names_the_other_way() -> None:
    with pytest.raises(EngineUnavailable, match=r"classic .* here is missing .*; `--flavour rtx` builds for RTX GPUs"):
        check_target(asked("classic"))


@without_gpu
@pytest.mark.parametrize("options", [{"refit": True}, {"weight_stripped": True}])
def test_refitting_without_a_gpu_is_refused_before_building(options: dict[str, bool]) -> None:
    with pytest.raises(
        EngineUnavailable, match=r"with a GPU only, and here is missing .*leave --refit and --weight-str"
    ):
        check_target(asked(**options))


def test_a_tensorrt_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(flavour: str) -> Any:
        raise EngineUnavailable("TensorRT cannot be imported; install it with `pip install 'ldm-export[tensorrt]'`")

    monkeypatch.setattr(checking, "import_tensorrt", missing)
    with pytest.raises(EngineUnavailable, match=r"pip install 'ldm-export\[tensorrt\]'"):
        check_target(asked())


def as_with_classic(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    monkeypatch.setattr(checking, "missing_gpu", lambda: None)
    monkeypatch.setattr(checking, "compute_capability", lambda: capability)
    monkeypatch.setattr(
        checking, "import_tensorrt", lambda flavour: SimpleNamespace(flavour="classic", version="10.14")
    )


def test_classic_builds_for_the_gpu_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    as_with_classic(monkeypatch, "9.0")
    work = check_target(asked("classic", precision="bf16", refit=True))
    assert work.groups == {"classic-10.14-sm90-bf16-refit": ()}
    with pytest.raises(InputError, match="builds for the GPU of this machine; leave --compute-capability .* out"):
        check_target(asked("classic", ("9.0",)))


def test_classic_on_a_gpu_without_bf16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    as_with_classic(monkeypatch, "7.5")
    with pytest.raises(InputError, match="compute capability 7.5, does not compute in bf16"):
        check_target(asked("classic", precision="bf16"))


def test_turing_has_plans_of_its_own() -> None:
    assert group_capabilities("rtx", ()) == [()]
    assert group_capabilities("rtx", ("12.0", "7.5", "8.6")) == [("7.5",), ("8.6", "12.0")]
    assert group_capabilities("rtx", ("7.5",)) == [("7.5",)]


def test_what_does_not_fit_into_memory_is_refused(copy: Path) -> None:
    with pytest.raises(ExportError, match=r"the plan of \w+ needs about 0.6 GB, but --max-memory allows 0.1 GB"):
        build_tensorrt(copy, asked("rtx"), max_memory=100_000_000)


def test_a_full_disk_is_said_before_building(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000_000))
    before = files_of(copy)
    with pytest.raises(ExportError, match=r"need about 0.10 GB of disk space, but 0.01 GB are free"):
        build_tensorrt(copy, asked("rtx"))
    assert files_of(copy) == before


def test_what_the_plans_need_is_looked_at_before_the_graphs_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "_export", lambda *args: pytest.fail("it began to export"))
    recipe = BuildRecipe(targets=("onnx", "tensorrt"))
    with monkeypatch.context() as patch, pytest.raises(ExportError, match=r"plans need about .* 0.01 GB are free in"):
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000_000))
        builds.build_package(None, tmp_path / "out", recipe=recipe)
    monkeypatch.setattr(checking, "MEMORY_FACTOR", 1e6)
    with pytest.raises(ExportError, match=r"the plan of \w+ needs about .* GB, but the machine has available"):
        builds.build_package(None, tmp_path / "out", recipe=recipe)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(request: PlanRequest, **kwargs: Any) -> Any:
        (request.plan.parent / "half.plan").write_bytes(b"half")
        raise OSError(28, "No space left on device", str(request.plan))

    monkeypatch.setattr(building, "build_plan", full)
    with (
        pytest.raises(LdmError, match="cannot write .*No space left on device; nothing was left behind"),
        atomic_folder(tmp_path / "package") as folder,
    ):
        shutil.copytree(GOLDEN, folder, dirs_exist_ok=True)
        build_tensorrt(folder, asked("rtx"))
    assert list(tmp_path.iterdir()) == []


# --- what TensorRT refuses ------------------------------------------------------------------------------------------


def request(folder: Path, component: str = "unet", **changes: Any) -> PlanRequest:
    manifest = read_manifest(folder)
    made = PlanRequest(
        graph=folder / component / "model.onnx",
        plan=folder / "out.plan",
        name="a name",
        flavour="rtx",
        capabilities=("8.9",),
        profiles=(input_shapes(manifest.contract, component, axis_ranges(manifest.contract, Profile())[component]),),
    )
    return dataclasses.replace(made, **changes)


def edit(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    path = folder / "unet" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    change(model)
    onnx.save(model, path)


def refused(made: PlanRequest, *texts: str) -> None:
    with pytest.raises(ExportError) as raised:
        build_plan(made)
    message = str(raised.value)
    assert "\n" not in message and "catchCudaError" not in message
    for text in texts:
        assert text in message, message
    assert not made.plan.exists()


def test_operators_that_tensorrt_lacks_are_listed_by_node(copy: Path) -> None:
    def quick_gelu(model: onnx.ModelProto) -> None:
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
        for node in model.graph.node:
            if node.op_type == "Tanh":
                node.op_type, node.domain, node.name = "QuickGelu", "com.microsoft", "unet/act/QuickGelu"

    edit(copy, quick_gelu)
    refused(request(copy), "cannot read", "node 'unet/act/QuickGelu' (QuickGelu): ", "Plugin not found")


def test_products_in_onnx_runtimes_own_blocks_are_refused(copy: Path) -> None:
    """So that plans have DequantizeLinear in the place of MatMulNBits, which ONNX Runtime's graphs of `w4` have."""

    def pack(model: onnx.ModelProto) -> None:
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
        node = next(node for node in model.graph.node if node.op_type == "MatMul")
        weight = next(each for each in model.graph.initializer if each.name == node.input[1])
        inputs, outputs = weight.dims
        packed, scales = pack_blocks(np.ones((outputs, inputs), np.float32))
        for name, array in (("packed", packed), ("scales", scales)):
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        attributes = {"K": inputs, "N": outputs, "bits": 4, "block_size": 32}
        made = onnx.helper.make_node(
            "MatMulNBits",
            [node.input[0], "packed", "scales"],
            node.output,
            "unet/MatMulNBits",
            domain="com.microsoft",
            **attributes,
        )
        node.CopyFrom(made)

    edit(copy, pack)
    refused(request(copy), "cannot read", "unet/MatMulNBits", "failed to load MatMulNBits plugin")


def test_types_that_do_not_go_together_are_said_by_node(copy: Path) -> None:
    def halve(model: onnx.ModelProto) -> None:
        (add,) = (node for node in model.graph.node if node.output[0] == "with_time")
        model.graph.node.insert(0, onnx.helper.make_node("Cast", ["timestep"], ["half_time"], to=10))
        add.name, add.input[1] = "unet/add_time", "half_time"

    edit(copy, halve)
    refused(request(copy), "unet/add_time", "must have same input types")


def test_weights_that_are_missing_are_named_with_the_file(copy: Path) -> None:
    (copy / "unet" / "model.safetensors").unlink()
    refused(request(copy), "cannot read", "model.safetensors")


def test_what_is_no_graph_is_refused(copy: Path) -> None:
    for content in (b"", b"not protobuf at all"):
        (copy / "unet" / "model.onnx").write_bytes(content)
        refused(request(copy), "cannot read")


def test_precisions_that_a_gpu_lacks_come_back_in_tensorrts_words(copy: Path) -> None:
    """What the table refuses first; the table is right."""
    refused(request(copy, "text_encoder", capabilities=("9.0",)), "does not build for compute capability 9.0")
    refused(request(copy, capabilities=("7.5",)), "cannot build", "FP32 GEMM is not supported")


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        ({"sample": ((1, 4, 9, 9), (2, 4, 6, 8), (8, 4, 9, 12))}, ("refuses the profile", "MIN<=OPT<=MAX")),
        (
            {"sample": ((1, 3, 2, 2), (2, 3, 6, 8), (8, 3, 9, 12))},
            ("cannot build", "Dimension mismatch for tensor sample"),
        ),
        ({"encoder_hidden_states": ((1, 1, 6), (3, 12, 6), (8, 48, 6))}, ("cannot build", "batch")),
        ({"noise": ((1,), (1,), (1,))}, ("inputs encoder_hidden_states, sample, timestep, but the profile encoder",)),
    ],
)
def test_a_profile_that_contradicts_the_graph_is_refused(copy: Path, change: Any, texts: tuple[str, ...]) -> None:
    made = request(copy)
    refused(dataclasses.replace(made, profiles=({**made.profiles[0], **change},)), *texts)


def test_a_good_request_builds(copy: Path) -> None:
    """The twin of all that is refused above; two profiles at once."""
    made = request(copy)
    built = build_plan(dataclasses.replace(made, profiles=made.profiles * 2))
    assert built.version == RTX.version and made.plan.stat().st_size == read_header(made.plan).size


# --- loading, as far as it goes without a GPU ------------------------------------------------------------------------


def loaded(path: Path) -> Any:
    RTX.take_messages()
    return load_plan(path, RTX, RTX.module.Runtime(RTX.log))


@pytest.fixture
def plan(built: Path, tmp_path: Path) -> Path:
    (made,) = plans_of(built).values()
    return Path(shutil.copyfile(built / made.file, tmp_path / "unet.plan"))


@without_gpu
def test_a_good_plan_without_a_driver_is_refused_for_that(plan: Path) -> None:
    with pytest.raises(EngineUnavailable, match="CUDA driver|GPU"):
        loaded(plan)


@pytest.mark.parametrize("content", [b"x" * 200, b"vtrt", b"PK\x03\x04" + bytes(300)])
def test_what_is_no_plan_is_damaged_in_tensorrts_eyes(plan: Path, content: bytes) -> None:
    plan.write_bytes(content)
    with pytest.raises(PackageError, match="is damaged: TensorRT .* does not know it as a plan"):
        loaded(plan)


def test_a_truncated_plan_is_refused_by_its_own_size(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "package"))
    package = open_package(folder, check="size")
    found = find_plan(package, "unet", Machine({"rtx": RTX.version}, "8.6"))
    file = package.file(found.file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(PackageError, match="has changed since the package was opened"):
        check_header(package, found)
    with pytest.raises(PackageError, match="is truncated"):
        open_package(folder)
    rehash(folder)  # a manifest that agrees with it
    with pytest.raises(PackageError, match="is truncated: it has"):
        check_header(open_package(folder, check="size"), found)


def test_a_plan_of_another_set_is_refused_by_what_it_says(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "package"))
    build_tensorrt(folder, asked("rtx", ("12.0",)))
    package = open_package(folder, check="size")
    found = find_plan(package, "unet", Machine({"rtx": RTX.version}, "12.0"))
    other = find_plan(package, "unet", Machine({"rtx": RTX.version}, "8.9"))
    shutil.copyfile(package.file(other.file), package.file(found.file))
    rehash(folder)
    with pytest.raises(
        PackageError, match=r"is a plan for GPUs of compute capability 8.6, 8.9, but the manifest says 12"
    ):
        check_header(open_package(folder, check="size"), found)


def test_a_plan_carries_the_names_of_the_files_it_was_built_from(built: Path) -> None:
    manifest = read_manifest(built)
    (plan,) = map(requirements, plans_of(built).values())
    assert plan.graph == manifest.files["unet/model.onnx"].sha256
    assert plan.weights == manifest.files["unet/model.safetensors"].sha256


# --- the verb --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("remembered_traces")
def test_the_verb_builds_plans_beside_the_graphs(tiny_build: Callable[[str], Any], tmp_path: Path) -> None:
    out = tmp_path / "package"
    arguments = ["build", str(tiny_build("sd15").source), "--target", "tensorrt", "--compute-capability", "8.6,8.9"]
    result = CliRunner().invoke(verbs, [*arguments, "--profile", "batch=1:1:2", "--out", str(out)])
    assert result.exit_code == 0, result.output
    manifest = read_manifest(out)
    (plan,) = map(requirements, plans_of(out).values())
    assert plan.compute_capabilities == ("8.6", "8.9") and plan.profiles[0]["batch"].max == 4
    assert manifest.proof.passed and manifest.provenance.recipe["tensorrt"]["profiles"] == ["batch=1:1:2"]
    picture = tmp_path / "a.png"
    run = ["run", str(out), "--prompt", "red", "--steps", "1", "--out", str(picture)]
    assert CliRunner().invoke(verbs, run).exit_code == 0 and picture.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--compute-capability", "9.0"), "got '9.0'; TensorRT for RTX builds for 7.5, 8.0"),
        (("--compute-capability", "7.5"), "do not compute in fp32 with TensorRT for RTX; choose --precision fp16"),
        (("--profile", "size=501"), "takes multiples of"),
        (("--profile", "batch=1:1:99"), "has 99 images at once, with guidance a batch of 198; the package takes"),
        (("--profile", "windows=1:1:99"), "has 99 windows of text; the package joins"),
    ],
)
def test_what_cannot_be_built_is_refused_before_the_work(
    tiny_build: Callable[[str], Any], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    source = str(tiny_build("sd15").source)
    result = CliRunner().invoke(
        verbs, ["build", source, "--target", "tensorrt", *arguments, "--out", str(tmp_path / "p")]
    )
    assert result.exit_code == 1 and message in result.stderr and "export" not in result.stderr
    assert list(tmp_path.iterdir()) == []
