"""--budget, --exact and --variant: the same on each verb, said on stderr and in the PNG; one sentence if wrong."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from ldm_export import bench
from ldm_export.bench import bench_package
from ldm_runtime.package.variants import Way
from tests.cli.calling import call
from tests.runtime.lossy_package import variant, with_variants

GOLDEN = Path(__file__).parents[1] / "golden/package"
CLAIM = (
    "note: the variant short draws: the worst of 12 images was 31 dB (SSIM 0.9) from the exact one, at 4 steps; "
    "budget exact draws without it\n"
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The golden package with two variants: one of two steps, and one with an engine that is nowhere."""
    copied = Path(shutil.copytree(GOLDEN, tmp_path / "package"))
    far = Way("abacus", "canonical", "bf16", ())
    short = variant("short", 31.0, 0.5, ways={}, steps=2)
    return with_variants(copied, variant("far", 40.0, 0.1, ways={"unet": far}), short)


def draw(package: Path, out: Path, *more: object) -> tuple[Image.Image, str]:
    done = call("run", package, "--prompt", "red", "--seed", 1, "--out", out, *more)
    assert done.exit_code == 0, done.stderr
    with Image.open(out) as image:
        image.load()
        return image, done.stderr


def test_run_draws_exactly_unless_it_is_told_otherwise(package: Path, tmp_path: Path) -> None:
    exact, said = draw(package, tmp_path / "exact.png")
    assert (exact.info["steps"], "variant" in exact.info, said) == ("4", False, "")
    for index, more in enumerate((["--exact"], ["--budget", "exact"], ["--exact", "--budget", "exact"])):
        same, said = draw(package, tmp_path / f"{index}.png", *more)
        assert same.tobytes() == exact.tobytes() and same.info.keys() == exact.info.keys() and said == ""


def test_run_within_a_budget_says_what_it_costs(package: Path, tmp_path: Path) -> None:
    short, said = draw(package, tmp_path / "short.png", "--budget", "psnr=30")
    assert (short.info["steps"], short.info["variant"]) == ("2", "short")
    assert said == f"note: far is left out: it runs unet with abacus, which this version does not know\n{CLAIM}"
    named, said = draw(package, tmp_path / "named.png", "--variant", "short")
    assert named.tobytes() == short.tobytes() and said == CLAIM
    own, said = draw(package, tmp_path / "own.png", "--variant", "short", "--steps", 3)
    assert own.info["steps"] == "3"
    assert "note: the error of short was measured with 2 steps; of this run it is not known" in said


def test_run_draws_exactly_where_no_variant_is_within_the_budget(package: Path, tmp_path: Path) -> None:
    exact, said = draw(package, tmp_path / "exact.png", "--budget", "psnr=50")
    assert exact.info["steps"] == "4"
    assert said == "note: no variant of this package is within psnr=50 (far reaches 40 dB): drawn exactly\n"


def test_interpolate_takes_the_same_options(package: Path, tmp_path: Path) -> None:
    out = tmp_path / "way.png"
    arguments = ("interpolate", package, "--prompt", "red", "--to-prompt", "blue", "--frames", 2, "--out", out)
    done = call(*arguments, "--variant", "short")
    assert done.exit_code == 0 and done.stderr.count(CLAIM) == 1
    with Image.open(out) as strip:
        assert strip.info["variant"] == "short" and strip.info["steps"] == "2"


@pytest.mark.parametrize("verb", ["run", "interpolate", "bench"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exact", "--budget", "psnr=30"], "--exact and --budget psnr=30 exclude each other; leave out one of them"),
        (["--exact", "--variant", "short"], "--exact and --variant short exclude each other; leave out one of them"),
        (["--budget", "psnr=abc"], "budget is 'psnr=abc'; expected exact, psnr=DB from 10 to 100, or ssim=SHARE"),
        (["--variant", "best"], "variant is 'best'; expected one of far, short"),
        (["--variant", "short", "--budget", "psnr=35"], "variant short is not within psnr=35: 31 dB"),
        (["--variant", "far"], "the variant far does not run here: it runs unet with abacus, which this version"),
    ],
)
def test_what_is_wrong_is_one_sentence(package: Path, tmp_path: Path, verb: str, arguments, message: str) -> None:
    needed = {"run": ["--prompt", "x"], "interpolate": ["--prompt", "x", "--out", tmp_path / "x.png"], "bench": []}
    done = call(verb, package, *needed[verb], *arguments)
    assert done.exit_code == 1 and message in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.slow
def test_bench_measures_the_variant_that_would_draw(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SECONDS_PER_GRAPH", 0.01)
    report = bench_package(package, engines=("ort",), rounds=1, budget="psnr=30")
    (result,) = report.results
    assert (result.variant, result.title, report.steps) == ("short", "ort, short", 4)
    assert any("the variant short draws" in notice for notice in result.rounds[0].notices)
    assert "ort, short: " in report.table() and json.loads(report.to_json())["results"][0]["variant"] == "short"
    assert list(report.bars()) == ["ort, short"]
