"""The verbs `plan` and `engines`: what a sampler does, and what runs here."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from ldm_runtime.package.open import read_manifest
from ldm_runtime.pipeline import builtin_package
from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.sampling.solvers import read_sampler
from tests.cli.calling import call, refused


@pytest.fixture
def package() -> Path:
    return builtin_package()


def test_plan_prints_every_step_and_draws_it(package, tmp_path):
    plot = tmp_path / "plan.png"
    result = call("plan", package, "--sampler", "heun", "--steps", 4, "--plot", plot)
    assert result.exit_code == 0, result.output
    assert "heun, 4 steps" in result.output and len(result.output.splitlines()) == 2 + 7
    with Image.open(plot) as image:
        assert image.info["sampler"] == "heun"
    refused(call("plan", package, "--plot", plot), "exists already")
    refused(call("plan", package, "--sampler", "magic"), "magic")
    refused(call("plan", package, "--steps", 0), "steps is 0")
    refused(call("plan", package, "--strength", 3), "strength is 3")
    late = call("plan", package, "--sampler", "ddim", "--steps", 10, "--strength", 0.3)
    assert "from step 8" in late.output and len(late.output.splitlines()) == 2 + 3
    listed = call("plan", "--list")
    for text in ("dpmsolver ", "order=2 (1 to 3)", "dpmpp_2m_karras", "predict=x0 (x0, eps)"):
        assert text in listed.output


def test_a_plan_as_json_is_the_compiled_plan():
    result = call("plan", "--sampler", "unipc:order=3", "--steps", 5, "--strength", 0.6, "--json")
    assert result.exit_code == 0, result.output
    schedule = read_manifest(builtin_package()).contract.schedule
    plan = json.loads(result.stdout)
    assert plan == compile_plan(schedule, read_sampler("unipc:order=3"), 5, 2).to_dict()
    assert (plan["sampler"], plan["steps"], plan["start"], len(plan["rows"])) == ("unipc:order=3", 5, 2, 3)
    clipped = json.loads(call("plan", "--sampler", "ddim:clip=1", "--steps", 2, "--json").stdout)
    assert clipped["hook"] == {"kind": "clip", "limit": 1.0, "ratio": 0.0}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--json"], "--json"),
        (["--steps", 0], "--steps"),
        (["--sampler", "ddim"], "--sampler"),
        (["--strength", 0], "--strength"),
        (["--plot", "plan.png", "--force"], "--plot, --force"),
        (["./package"], "PACKAGE"),
    ],
)
def test_a_list_of_samplers_takes_no_other_argument(arguments, named):
    refused(call("plan", "--list", *arguments), f"--list and {named} exclude each other")


def test_engines_lists_what_runs_here_and_what_is_missing_for_the_rest():
    result = call("engines")
    assert result.exit_code == 0, result.output
    facts = json.loads(call("engines", "--json").stdout)
    assert facts["ort"] == {"summary": "ONNX Runtime on the CPU", "runs_here": True, "missing": None}
    for name, fact in facts.items():
        assert re.search(rf"^{re.escape(name)} +(runs here|not here) ", result.stdout, re.MULTILINE)
        assert fact["runs_here"] or fact["missing"] in result.stdout
