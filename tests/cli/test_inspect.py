"""The verb `inspect`: what it tells of packages and checkpoints, and what it refuses."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from ldm_runtime.pipeline import builtin_package
from tests.cli.calling import GOLDEN, call, refused
from tests.runtime.package.varied_package import add_variants


def test_inspect_tells_what_a_package_is():
    facts = json.loads(call("inspect", builtin_package(), "--json").stdout)
    assert facts["kind"] == "package" and set(facts["components"]) >= {"unet", "vae_decoder"}
    assert "unet" in call("inspect", builtin_package()).stdout


def test_inspect_tells_of_variants_and_of_their_artefacts(tmp_path):
    package = add_variants(Path(shutil.copytree(GOLDEN / "package", tmp_path / "package")))
    facts = json.loads(call("inspect", package, "--json").stdout)
    variants, artefacts = facts["variants"], facts["components"]["unet"]["artefacts"]
    assert list(variants) == ["int8-bf16", "cached", "mixed", "merged"]
    assert variants["int8-bf16"]["ways"]["unet"]["precision"] == "bf16"
    assert variants["int8-bf16"]["error"]["psnr"] == 34.1 and variants["cached"]["run"]["caching"]["interval"] == 2
    assert artefacts["shallow"]["inputs"][1] == "deep float32 [batch, 4, height, width]"
    assert artefacts["int8"]["kept"] == ["conv_in", "conv_out"] and artefacts["fp16"]["rescaled"] == 64.0
    assert artefacts["merged"]["merged"] == 0.5
    assert "units: avx512_bf16; avx512_vnni" in call("inspect", package).stdout
    assert "variants" not in json.loads(call("inspect", GOLDEN / "package", "--json").stdout)


@pytest.mark.slow
def test_inspect_tells_the_precision_of_the_weights(tiny_build):
    for kind, dtype in (("sd15", "F32"), ("sd15-fp16", "F16")):
        built = tiny_build(kind)
        for folder in (built.source, built.package):
            components = json.loads(call("inspect", folder, "--json").stdout)["components"]
            assert all(list(component["weights"]) == [dtype] for component in components.values())
            assert components["unet"]["weights"] == {dtype: built.checkpoint.parameter_count("unet")}
            assert re.search(rf"weights: {dtype} [\d,]+\n", call("inspect", folder).stdout)


def test_inspect_tells_what_a_checkpoint_is(tiny_build):
    facts = json.loads(call("inspect", tiny_build("sd15").source, "--json").stdout)
    assert facts["kind"] == "checkpoint" and facts["components"]["unet"]["parameters"] > 1000


def test_inspect_refuses_a_path_that_is_not_there_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    result = call("inspect", str(tmp_path / "nosuch"))
    assert result.exit_code == 1
    assert "nosuch does not exist; expected a package, a diffusers folder or a single-file" in result.stderr


def test_inspect_refuses_options_of_a_checkpoint_for_a_package():
    refused(call("inspect", "--variant", "fp16", "--zero-snr"), "is a package, which has no --variant or --zero-snr")


def test_inspect_refuses_a_folder_that_is_neither(tmp_path):
    refused(call("inspect", tmp_path), "neither")
