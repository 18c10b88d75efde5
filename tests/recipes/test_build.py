"""Build recipes are read strictly: an unknown key, a wrong type or an impossible value is one clear error."""

import dataclasses
import difflib
import json
import re
import types
import typing
from pathlib import Path

import pytest

from ldm_export.cli.build import build
from ldm_export.errors import ConfigError
from ldm_export.optimise.pipeline import OPTIONAL_PASSES
from ldm_export.recipes import build as recipes
from ldm_export.recipes.build import PASSES, BuildRecipe, load_build_recipe
from ldm_export.recipes.toml import MAX_FAULTS, Rule
from ldm_export.targets import TARGETS

TENSORRT = 'targets = ["tensorrt"]\n[tensorrt]\n'
SHIPPED = sorted((Path(__file__).parents[2] / "export_configs").glob("*.build.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_recipe_is_readable(path):
    assert load_build_recipe(path).name is not None


def test_there_is_a_shipped_recipe():
    assert SHIPPED


def test_no_recipe_is_the_defaults():
    assert load_build_recipe(None) == BuildRecipe()


def test_a_recipe_says_what_run_does_by_default(tmp_path):
    (tmp_path / "a.toml").write_text('sampler = "ddim"\nsteps = 5\nguidance = 0\nwidth = 64\nheight = 32\n')
    recipe = load_build_recipe(tmp_path / "a.toml")
    assert recipe == BuildRecipe(sampler="ddim", steps=5, guidance=0.0, width=64, height=32)


def test_every_pass_that_a_recipe_can_name_is_there():
    assert set(PASSES) == set(OPTIONAL_PASSES)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("magic = 1", "magic"),
        ('sampler = "magic"', "sampler must be one of .*dpmpp_2m.*got sampler = .magic"),
        ("steps = 0", "steps must be from 1 .*got steps = 0"),
        ("steps = 2.5", "steps"),
        ("guidance = -1.0", "guidance"),
        ("guidance = nan", "guidance"),
        ("guidance = inf", "guidance"),
        ("width = 0", "width must be from 1 .*got width = 0"),
        ('targets = ["abacus"]', "targets must each be one of onnx, openvino, tensorrt; got .*abacus"),
        ('targets = "onnx"', "targets must be a list"),
        ('passes = ["magic"]', "passes must each be one of onnxsim; got .*magic"),
        ('passes = ["onnxsim", "onnxsim"]', "passes must name each pass once"),
        ('precision = "int2"', "precision must be .*fp32"),
        ('precision = "fp16"', "the target onnx is built in fp32; got .*precision = 'fp16'"),
        ('targets = ["tensorrt", "openvino"]\nprecision = "bf16"', "the target openvino is built in fp32, fp16"),
        (
            "[tensorrt]\nrefit = true",
            r"--refit \(tensorrt.refit\) needs the target tensorrt: add --target tensorrt.*; got targets = .'onnx'.$",
        ),
        ("targets = []", "targets must name at least one target; got targets"),
        ('targets = ["openvino", "openvino"]', "targets must name each target once; got targets"),
        ('[tensorrt]\nprecision = "fp16"', "unknown key 'tensorrt.precision'"),
        (
            '[tensorrt]\nflavour = "rtxx"',
            r"tensorrt.flavour must be one of auto, rtx, classic; .* \(did you mean 'rtx'\?\)",
        ),
        (TENSORRT + 'profiles = ["batch=0"]', r"--profile \(tensorrt.profiles\) got 'batch=0'; expected MIN"),
        (TENSORRT + 'profiles = ["size=8", "width=8"]', r"--profile \(tensorrt.profiles\) gives width twice"),
        (
            TENSORRT + 'compute_capabilities = ["9.0"]',
            r"--compute-capability \(tensorrt.compute_capabilities\) got '9.0'; TensorRT for RTX builds for",
        ),
        (TENSORRT + 'compute_capabilities = ["7.5"]', "7.5 do not compute in fp32 with TensorRT for RTX"),
        ("steps = ", "TOML"),
        ('sampler = "unipc:order=99"', "sampler 'unipc': order is '99', expected an integer from 1 to 4"),
        ("guidence = 3.0", r"unknown key 'guidence' \(did you mean 'guidance'\?\); expected name, sampler, steps"),
        ('targets = ["onnx", "openvion"]', r"one of .* \(did you mean 'openvino'\?\); got .*openvion"),
        ('precision = "fp23"', r"precision must be one of fp32, fp16, bf16; got \"fp23\" \(did you mean 'fp32'\?\)"),
        ('precision = "int8"', r"precision must be one of fp32, fp16, bf16; got \"int8\""),
        ('budget = "psnr=abc"', "budget is 'psnr=abc'; expected exact, psnr=DB from 10 to 100, or ssim=SHARE"),
        ('budget = "psnr=5"', "budget is 'psnr=5'; expected exact"),
        ('budget = "psnr=35"\nlossy = ["int9"]', r"lossy must each be one of bf16, .*int8.* \(did you mean 'int8'\?\)"),
        ('budget = "psnr=35"\nlossy = ["int8", "int8"]', "lossy must name each method once"),
        (
            'lossy = ["int8"]',
            r"lossy methods \(--lossy\) need a budget: add --budget, such as psnr=35; got budget = 'exact'",
        ),
        ('sampler = "dpmp_2m"', r"\(did you mean 'dpmpp_2m'\?\); got sampler = 'dpmp_2m'"),
    ],
)
def test_a_bad_recipe_is_one_error_that_names_the_file(text, pattern, tmp_path):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError, match=pattern) as caught:
        load_build_recipe(tmp_path / "a.toml")
    assert "a.toml" in str(caught.value)


def test_an_option_of_a_target_names_the_flag_that_sets_it():
    flags = {flag for each in build.params for flag in each.opts}
    for target in TARGETS.values():
        own = [] if target.options is None else dataclasses.fields(target.options)
        assert {each.metadata["flag"] for each in own} <= flags


def test_the_rules_of_a_recipe_are_tried_once_when_it_is_read(tmp_path, monkeypatch):
    tried = []
    counting = Rule(("steps",), lambda steps: tried.append(steps) is None, "never broken")
    monkeypatch.setattr(recipes, "BUILD_RULES", [*recipes.BUILD_RULES, counting])
    (tmp_path / "a.toml").write_text("steps = 5\n")
    load_build_recipe(tmp_path / "a.toml")
    assert tried == [5]


def test_all_faults_are_listed_one_to_a_line(tmp_path):
    (tmp_path / "a.toml").write_text('magic = 1\nsteps = 0\nwidth = "wide"\nsampler = "magic"\n')
    with pytest.raises(ConfigError) as caught:
        load_build_recipe(tmp_path / "a.toml")
    head, *faults = str(caught.value).splitlines()
    assert head == f"{tmp_path / 'a.toml'} has 4 faults:"
    parts = (
        "  unknown key 'magic'; expected",
        "  width must be an integer",
        "  sampler must be one",
        "  steps must be from 1",
    )
    for fault, start in zip(faults, parts, strict=True):
        assert fault.startswith(start)


def test_faults_of_a_target_s_values_are_among_the_others(tmp_path):
    (tmp_path / "a.toml").write_text('steps = 0\ntargets = ["tensorrt"]\n[tensorrt]\nprofiles = ["x"]\nflavour = "y"\n')
    with pytest.raises(ConfigError, match="3 faults") as caught:
        load_build_recipe(tmp_path / "a.toml")
    assert all(each in str(caught.value) for each in ("steps must", "tensorrt.flavour must", "(tensorrt.profiles) got"))


def test_classic_tensorrt_may_have_any_compute_capability_until_a_gpu_says_otherwise(tmp_path):
    (tmp_path / "a.toml").write_text(TENSORRT + 'flavour = "classic"\ncompute_capabilities = ["9.0"]\n')
    assert load_build_recipe(tmp_path / "a.toml").tensorrt.compute_capabilities == ("9.0",)


def test_only_the_faults_that_are_listed_get_a_suggestion(tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(difflib, "get_close_matches", lambda name, known, n: compared.append(name) or [])
    (tmp_path / "a.toml").write_text("".join(f"k{index} = 1\n" for index in range(5000)))
    with pytest.raises(ConfigError, match="5000 faults"):
        load_build_recipe(tmp_path / "a.toml")
    assert len(compared) == 2 * MAX_FAULTS


def test_a_value_unlike_any_known_one_gets_no_suggestion(tmp_path):
    (tmp_path / "a.toml").write_text('magic = 1\nprecision = "int2"\nsampler = "abacus"\n')
    with pytest.raises(ConfigError, match="3 faults") as caught:
        load_build_recipe(tmp_path / "a.toml")
    assert "did you mean" not in str(caught.value)


PAGE = Path(__file__).parents[2] / "docs" / "build.md"
KINDS = {str: "string", int: "integer", float: "float", bool: "bool", tuple[str, ...]: "list of strings"}


def keys_of(cls: type, prefix: str = "") -> dict[str, tuple[str, str]]:
    """Return type and default of every key of a recipe, as the documentation writes them."""
    keys, kinds = {}, typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind, name = kinds[field.name], prefix + field.name
        if dataclasses.is_dataclass(kind):
            keys |= keys_of(kind, f"{name}.")
            continue
        if typing.get_origin(kind) is types.UnionType:
            kind = typing.get_args(kind)[0]
        written = "choice" if typing.get_origin(kind) is typing.Literal else KINDS[kind]
        keys[name] = (written, "the source's" if field.default is None else f"`{json.dumps(field.default)}`")
    return keys


def keys_in(page: str) -> dict[str, tuple[str, str]]:
    """Return type and default of every key of the page's table."""
    rows = re.findall(r"^\| `([\w.]+)` \| ([\w ]+) \| ([^|]+) \| [^|]+ \|$", page, flags=re.MULTILINE)
    return {key: (kind, default) for key, kind, default in rows}


def test_the_documentation_lists_every_key_with_its_type_and_default():
    page = PAGE.read_text(encoding="utf-8")
    assert keys_in(page) == keys_of(BuildRecipe)
    assert keys_in(page.replace("| `precision` | choice |", "| `precision` | string |")) != keys_of(BuildRecipe)
    assert set(keys_of(BuildRecipe)) - set(keys_in(page.replace("| `tensorrt.refit`", "| `refit`"))) == {
        "tensorrt.refit"
    }


def test_the_recipe_of_the_documentation_is_readable(tmp_path):
    (recipe,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "recipe.toml").write_text(recipe, encoding="utf-8")
    assert load_build_recipe(tmp_path / "recipe.toml").openvino.genai
