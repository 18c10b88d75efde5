"""The tool `ldm` draws with a package's variants as `ldm-export run` does, and says what it gives up."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ldm_runtime
from tests.cpp.tool_runs import ldm, sentence
from tests.runtime import tiny_package
from tests.runtime.quantised_package import with_int8

pytestmark = pytest.mark.slow
CLAIM = "note: the variant int8 draws: the worst of 12 images was 30 dB (SSIM 0.9) from the exact one"
LOSSY: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["--exact"], {}),
    (["--exact", "--budget", "exact"], {}),
    (["--budget", "psnr=40"], {"budget": "psnr=40"}),
    (["--budget", "psnr=20"], {"budget": "psnr=20"}),
    (["--variant", "int8"], {"variant": "int8"}),
    (["--variant", "int8", "--budget", "ssim=0.9"], {"variant": "int8", "budget": "ssim=0.9"}),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_int8(tiny_package.make(tmp_path_factory.mktemp("packages") / "int8"))


@pytest.mark.parametrize(("arguments", "options"), LOSSY, ids=[" ".join(each) for each, _ in LOSSY])
def test_what_is_lossy_is_python_s(
    tool: Path, package: Path, tmp_path: Path, arguments: list[str], options: dict[str, Any]
) -> None:
    given = ("run", package, "--prompt", "red", "--seed", "3", "--no-map-weights", "--out", tmp_path / "image.png")
    done = ldm(tool, *given, *arguments)
    assert done.returncode == 0, done.stderr
    with ldm_runtime.load(package, engine="ort", **options) as pipe:
        expected = pipe("red", seed=3)[0]
    with Image.open(tmp_path / "image.png") as found:
        assert found.info == expected.info
        assert np.abs(np.asarray(found, int) - np.asarray(expected, int)).max() <= 1
    assert (CLAIM in done.stderr) is ("variant" in expected.info)


def test_exact_and_lossy_options_exclude_each_other(tool: Path, package: Path) -> None:
    for option, value in (("--budget", "psnr=30"), ("--variant", "int8")):
        done = ldm(tool, "run", package, "--prompt", "red", "--exact", option, value)
        assert sentence(done, 2) == f"--exact and {option} {value} exclude each other; leave out one of them"


def test_a_proof_takes_no_variant(tool: Path, package: Path) -> None:
    done = ldm(tool, "verify", package, "--variant", "int8")
    assert sentence(done, 2) == "there is no option --variant; see `ldm verify --help`"
