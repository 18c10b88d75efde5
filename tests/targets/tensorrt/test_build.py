"""Plans are really built, without a GPU, from a package's graphs, and listed in its manifest; the verb builds them too.

TensorRT for RTX has to be installed; what only a GPU can do is in `test_gpu.py`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import ldm_runtime
from ldm_export.cli.main import verbs
from ldm_export.targets.tensorrt.check import CAPABILITIES
from ldm_export.targets.tensorrt.profiles import Profile, axis_ranges
from ldm_runtime.engines.tensorrt.fit import Machine, check_header, find_plan, requirements
from ldm_runtime.engines.tensorrt.library import read_header
from ldm_runtime.errors import EngineUnavailable
from ldm_runtime.package.artefacts import Range
from ldm_runtime.package.open import open_package, read_manifest
from tests.runtime.tiny_package import COMPONENTS
from tests.targets.tensorrt.planning import RTX, asked, build_tensorrt, capabilities_of, files_of, plans_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_this_process")]


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
