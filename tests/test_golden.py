"""The Python runtime against the conformance kit, and the kit against the script that writes it."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ldm_runtime
from ldm_runtime.engines.choice import choose, open_engine
from ldm_runtime.errors import CODES, InputError, PackageError
from ldm_runtime.interpolate import interpolate
from ldm_runtime.package import safetensors
from ldm_runtime.package.open import open_package
from ldm_runtime.request import SampleOptions
from ldm_runtime.sampling.solvers import PRESETS, SOLVERS, read_sampler
from tests import golden_manifests, golden_numbers, golden_tokenizers
from tests.runtime.tiny_package import rehash

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[1]
MEGABYTE = 1 << 20


def load(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text("ascii"))


def tensors(name: str) -> dict[str, np.ndarray]:
    return dict(safetensors.read(GOLDEN / f"{name}.safetensors"))


def test_the_kit_is_small_and_holds_enough() -> None:
    """What it says of tokens, prompts, noise, guidance and plans is what the script writes again to the byte."""
    assert sum(file.stat().st_size for file in GOLDEN.rglob("*") if file.is_file()) < 10 * MEGABYTE
    tokens, prompts, plans = load("tokenizer"), load("prompts"), load("plans")
    assert hashlib.sha256((GOLDEN / tokens["tokenizer"]).read_bytes()).hexdigest() == tokens["sha256"]
    assert len(tokens["cases"]) > 3000 and len(plans["cases"]) > 300 and len(prompts["windows"]) > 10
    for cases, result in ((prompts["parse"], "parts"), (prompts["windows"], "windows")):
        assert any(case[result] is None for case in cases), "nothing is refused"


def change(folder: Path, edits: list[dict[str, Any]]) -> None:
    """The edits that tests/golden/README.md defines."""
    for edit in edits:
        file = folder / edit.get("file", "manifest.json")
        if edit["do"] == "delete":
            file.unlink()
        elif edit["do"] == "write":
            file.write_bytes(bytes.fromhex(edit["hex"]) if "hex" in edit else edit["text"].encode())
        elif edit["do"] == "append":
            file.write_bytes(file.read_bytes() + bytes.fromhex(edit["hex"]))
        elif edit["do"] == "truncate":
            file.write_bytes(file.read_bytes()[: -edit["bytes"]])
        elif edit["do"] == "flip":
            content = bytearray(file.read_bytes())
            content[edit["offset"]] ^= 0xFF
            file.write_bytes(content)
        elif edit["do"] == "set":
            whole = json.loads(file.read_text())
            place = whole
            for key in edit["path"][:-1]:
                place = place[key]
            place[edit["path"][-1]] = edit["value"]
            file.write_text(json.dumps(whole))
        elif edit["do"] == "link":
            file.unlink()
            file.symlink_to(edit["target"])
        else:
            assert edit["do"] == "rehash"
            rehash(folder)


@pytest.mark.parametrize("case", load("packages"), ids=lambda case: case["why"])
def test_packages(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = Path(shutil.copytree(GOLDEN / "package", tmp_path / "package"))
    (tmp_path / "model.safetensors").write_bytes((folder / "unet" / "model.safetensors").read_bytes())
    change(folder, case["edits"])
    if case["opens"]:
        with ldm_runtime.load(folder, check="full") as pipe:
            assert pipe("red", steps=1, seed=1)[0].size == (64, 48)
    else:
        with pytest.raises(PackageError) as caught:
            ldm_runtime.load(folder, check="full").close()
        assert caught.value.code == case["code"]


def test_the_kit_has_a_package_for_every_code() -> None:
    """All but those of a running system, of large files and of plans, which need a GPU."""
    classes = ("package", "file", "json", "manifest", "schedule", "weights", "graph", "plan", "tokenizer")
    codes = {code for code in CODES if code.startswith(tuple(f"{each}." for each in classes))}
    left_out = {"file.too-large", "file.changed", "plan.format", "plan.mismatch"}
    assert {case["code"] for case in load("packages")} - {None} == codes - left_out


@pytest.mark.slow
def test_manifests() -> None:
    """What becomes of changed manifests, headers and graphs; and what contracts of every family say."""
    assert golden_manifests.manifest_cases(GOLDEN) == load("manifests")
    assert golden_manifests.mutation_cases(GOLDEN) == load("mutations")
    assert golden_manifests.family_facts(GOLDEN / "manifests") == load("families")


@pytest.mark.slow
def test_changed_tokenizers() -> None:
    """Which of them are refused, and the ids of those that are read; the library's own ids are in test_clip_encoder."""
    assert golden_tokenizers.tokenizer_changes(GOLDEN) == load("tokenizers")
    refused = {change.rpartition(" ")[2] for change in load("tokenizers")["changes"]}
    assert {code for code in CODES if code.startswith("tokenizer.")} | {"ok"} < refused


def test_the_kit_has_a_changed_manifest_for_every_code() -> None:
    refused = {code for code in CODES if code.startswith("manifest.")} - {"manifest.version"}
    assert refused < {case["code"] for case in load("manifests")}


def test_graphs() -> None:
    values, package = tensors("graphs"), open_package(GOLDEN / "package")
    for case in load("graphs"):
        engine = open_engine(choose("ort"), package, case["component"]).engine
        outputs = engine.run({name: values[key] for name, key in case["inputs"].items()})
        assert set(outputs) == set(case["outputs"])
        for name, key in case["outputs"].items():
            assert np.abs(outputs[name] - values[key]).max() <= 1e-6 * np.abs(values[key]).max()


@pytest.mark.parametrize("case", load("samplers")["texts"], ids=lambda case: case["text"])
def test_texts_of_samplers(case: dict[str, Any]) -> None:
    if case["canonical"] is None:
        with pytest.raises(InputError) as caught:
            read_sampler(case["text"])
        assert caught.value.code == "request.sampler"
    else:
        assert read_sampler(case["text"]).canonical == case["canonical"]


def test_numbers() -> None:
    cases = load("numbers")
    assert len(cases) > 300 and {case[1].split()[0] for case in cases} == {
        "integer",
        "real",
        "json.number",
        "json.syntax",
    }
    assert cases == golden_numbers.number_cases()


def test_the_kit_has_a_run_of_every_kind() -> None:
    """Every sampler, noise, task and syntax, and interpolations of several shares."""
    cases = load("runs")
    assert {case["sampler"] for case in cases} >= {*SOLVERS, *PRESETS} - {"flow_euler"}
    kinds = {(case["noise"], case["strength"], case["mask"], case["to"] is None) for case in cases}
    for noise in ("torch", "cuda"):
        assert kinds >= {(noise, None, False, True), (noise, 0.7, False, True), (noise, 0.75, True, True)}
    between = [case for case in cases if case["to"] is not None]
    assert {case["to"][2] for case in between} >= {0.0, 0.25, 0.5, 1.0}
    assert {(case["noise"], case["variation"] is None) for case in between} >= {("philox", False), ("torch", False)}


@pytest.mark.slow
def test_runs() -> None:
    values = tensors("runs")
    image, mask = Image.fromarray(values["image"]), Image.fromarray(values["mask"])
    with ldm_runtime.load(GOLDEN / "package") as pipe:
        for case in load("runs"):
            variation = case["variation"]
            options: SampleOptions = {
                "negative": case["negative"],
                "steps": case["steps"],
                "guidance": case["guidance"],
                "guidance_rescale": case["guidance_rescale"],
                "guidance_interval": case["guidance_interval"],
                "sampler": case["sampler"],
                "noise": case["noise"],
                "variation": None if variation is None else (int(variation[0]), variation[1]),
                "image": None if case["strength"] is None else image,
                "strength": case["strength"],
                "mask": mask if case["mask"] else None,
                "syntax": case["syntax"],
            }
            if case["to"] is None:
                run = pipe.sample(case["prompt"], seed=int(case["seed"]), **options)
            else:
                last, seed, share = case["to"]
                between = interpolate(pipe, (case["prompt"], last), (int(case["seed"]), int(seed)), 2, **options)
                run = between._ends.run(share)
            steps = list(run.evaluations())
            expected = values[f"{case['tensors']}/latents"]
            latents = np.concatenate([step.latents for step in steps])
            assert latents.shape == expected.shape, case
            away = np.sqrt(
                np.square(latents - expected).mean(axis=(1, 2, 3)) / np.square(expected).mean(axis=(1, 2, 3))
            )
            assert away.max() < 1e-5, case
            picture = np.asarray(steps[-1].images()[0], int)
            assert np.abs(picture - values[f"{case['tensors']}/picture"]).max() <= 1, case


@pytest.mark.slow
def test_the_script_writes_the_kit_again(tmp_path: Path) -> None:
    """To the byte; but of plans to 1e-12, since cos and exp of two machines may differ in their last bit."""
    script = ROOT / "tests" / "make_golden.py"
    subprocess.run([sys.executable, script, tmp_path / "golden"], check=True, capture_output=True)
    again = {path.relative_to(tmp_path / "golden") for path in (tmp_path / "golden").rglob("*") if path.is_file()}
    here = {path.relative_to(GOLDEN) for path in GOLDEN.rglob("*") if path.is_file()}
    assert again == here - {Path("README.md")}
    of_plans = {"plans", "samplers"}
    for name in again - {Path(f"{name}.json") for name in of_plans}:
        assert (tmp_path / "golden" / name).read_bytes() == (GOLDEN / name).read_bytes(), name
    for name in of_plans:
        assert_near(json.loads((tmp_path / "golden" / f"{name}.json").read_text("ascii")), load(name))


def assert_near(value: Any, expected: Any) -> None:
    """Of one structure, texts and whole numbers equal, other numbers to 1e-12."""
    assert type(value) is type(expected)
    if isinstance(expected, dict):
        assert list(value) == list(expected)
        value, expected = list(value.values()), list(expected.values())
    if isinstance(expected, list):
        for one, other in zip(value, expected, strict=True):
            assert_near(one, other)
    elif isinstance(expected, float):
        assert value == pytest.approx(expected, rel=1e-12, abs=1e-15)
    else:
        assert value == expected


@pytest.mark.parametrize("value", [{"a": [1.0, 2]}, {"a": [1.0, 2.0 + 1e-11]}, {"a": [1.0]}, {"b": [1.0, 2.0]}])
def test_another_plan_is_noticed(value: Any) -> None:
    with pytest.raises((AssertionError, ValueError)):
        assert_near(value, {"a": [1.0, 2.0]})
