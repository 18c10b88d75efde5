"""The whole chain from a checkpoint to an image (examples/train_build_run.sh trains it first), and builds that stop."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ldm_export import build as builds
from ldm_export.cli.main import verbs
from ldm_export.errors import CheckpointError, ExportError, VerificationError
from ldm_export.lossy import int8
from ldm_export.lossy.prompts import digest, seeds
from ldm_export.package import write
from ldm_export.package.write import require_package
from ldm_export.recipes.build import BuildRecipe
from ldm_runtime.errors import InputError, LdmError, PackageError
from ldm_runtime.files.atomic import atomic_folder
from ldm_runtime.package import open as opening
from ldm_runtime.package import safetensors
from ldm_runtime.package.manifest import Defaults, ImageSpec
from ldm_runtime.package.open import read_manifest
from ldm_runtime.pipeline import builtin_package
from tests import traces
from tests.lossy.making import hasten
from tests.runtime.tiny_package import COMPONENTS, edit_manifest
from tests.stages import here


def call(*arguments: str) -> str:
    result = CliRunner().invoke(verbs, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
@pytest.mark.usefixtures("remembered_traces")
def test_a_checkpoint_in_half_precision_is_built_proven_run_and_built_again(tiny_build, tmp_path, monkeypatch):
    """The second time from the package, which is a checkpoint too and has defaults of its own."""
    monkeypatch.chdir(tmp_path)
    Path("first.toml").write_text('name = "first"\nsampler = "heun"\nsteps = 7\nguidance = 2.5\nwidth = 48\n')
    built = call("build", str(tiny_build("sd15-fp16").source), "--out", "package", "--config", "first.toml")
    assert "fuse_attention" in built and "verify" in built and ": passed" in built
    assert ": passed" in call("verify", "package", "--out", "proof")
    assert {file.name for file in Path("proof").iterdir()} == {"report.json", "report.html"}
    call("run", "package", "--prompt", "red apple", "--steps", "2", "--out", "apple.png")
    with Image.open("apple.png") as image:
        assert image.width == 48 and np.asarray(image).std() > 1
    Path("again.toml").write_text('passes = ["onnxsim"]\n')
    again = call("build", "package", "--out", "again", "--config", "again.toml")
    assert ": passed" in again and again.count("run_onnxsim") == again.count("optimise ") == len(COMPONENTS)
    first, second = read_manifest(Path("package")), read_manifest(Path("again"))
    assert second.provenance.tools["onnxsim"] and first.contract.defaults == Defaults("heun", 7, 2.5)
    # the source's own choices stay, what it draws too
    assert (second.name, second.contract.image) == (first.name, first.contract.image) == ("first", ImageSpec(48, 32))
    assert second.contract.defaults == first.contract.defaults
    assert_same_weights(Path("package"), Path("again"))
    for component in COMPONENTS:
        header = safetensors.read_header(Path("package") / component / "model.safetensors")
        assert {info.dtype for info in header.tensors.values()} == {"F16"}


@pytest.mark.slow
@pytest.mark.usefixtures("remembered_traces")
def test_a_build_within_a_budget_has_variants_with_their_error(tiny_build, tmp_path, monkeypatch):
    hasten(monkeypatch)
    monkeypatch.setattr(int8, "FORMS", int8.FORMS[:1])
    captions = [f"{colour} {thing}" for colour in ("red", "blue", "grey", "pink") for thing in "abcd"]
    (tmp_path / "captions.txt").write_text("\n".join(captions))
    source, package = str(tiny_build("sd15").source), tmp_path / "package"
    budget = ("--budget", "psnr=12", "--lossy", "int8", "--prompts", str(tmp_path / "captions.txt"))
    built = call("build", source, "--out", str(package), *budget)
    manifest = read_manifest(package)
    (variant,) = manifest.variants
    assert variant.name == "int8" and variant.error.psnr >= 12 and variant.error.prompts.count == 8
    assert variant.error.prompts.sha256 == digest(captions[1::2], seeds(101, 8))
    assert (manifest.provenance.recipe["budget"], manifest.provenance.recipe["lossy"]) == ("psnr=12", ["int8"])
    assert f"{variant.error.psnr:.1f} dB" in built and "variant int8" in built
    assert {file.name for file in (package / "verify/variants").iterdir()} == {
        "int8.safetensors",
        "report.json",
        "report.html",
    }
    exact, whole = (
        json.loads((package / "verify" / name).read_text()) for name in ("report.json", "variants/report.json")
    )
    assert whole["cases"] == exact["cases"] and [each["name"] for each in whole["variants"]] == ["int8"]
    assert built.count("verify variants") == 1 and "lossy: making int8" in built
    kept = {each.name: len(each.kept) for each in manifest.components["unet"].artefacts}
    assert kept["int8"] > 0 and variant.bytes < (package / "unet" / "model.safetensors").stat().st_size
    require_package(package)


def assert_same_weights(first: Path, second: Path) -> None:
    for component in COMPONENTS:
        contents = [(package / component / "model.safetensors").read_bytes() for package in (first, second)]
        assert contents[0] == contents[1]


@pytest.mark.slow
@pytest.mark.usefixtures("remembered_traces")
def test_a_build_whose_weights_went_wrong_leaves_no_package(tiny_build, tmp_path, monkeypatch):
    """One channel of one convolution 1 % off, as a faulty pass would leave it."""
    optimise = builds.optimise

    def faulty(path: Path, out: Path, passes):
        weights = path.parent / "model.safetensors"
        if path.parent.name == "vae_decoder" and out.name == "model.onnx":
            info = safetensors.read_header(weights).tensors["decoder.conv_in.bias"]
            with open(weights, "r+b") as file:
                values = np.fromfile(file, np.float32, 1, offset=info.offset)
                file.seek(info.offset)
                file.write((values * np.float32(1.01)).tobytes())
        return optimise(path, out, passes)

    monkeypatch.setattr(builds, "optimise", faulty)
    with pytest.raises(VerificationError, match=r"no package is left: vae_decoder .*relative RMS"):
        builds.build_package(tiny_build("sd15").source, tmp_path / "out", recipe=BuildRecipe())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_build_opens_its_source_once_hashes_a_file_once_and_writes_one_manifest(tiny_build, tmp_path, monkeypatch):
    """Every stage has a process of its own; here they are one, so that they can be watched."""
    built = tiny_build("sd15")
    opened, hashed, written = [], [], []

    def watch(modules, name, log):
        real = getattr(modules[0], name)

        def watched(first, *rest, **options):
            log.append(first)
            return real(first, *rest, **options)

        for module in modules:
            monkeypatch.setattr(module, name, watched)

    monkeypatch.setattr(builds, "run_isolated", here)
    watch([builds], "open_checkpoint", opened)
    watch([write], "sha256_of", hashed)
    watch([builds], "write_manifest", written)
    with traces.remembered(built.traces, built.checkpoint):
        builds.build_package(built.source, tmp_path / "out", recipe=BuildRecipe())
    assert opened == [built.source]
    assert len(written) == 1
    assert len(hashed) == len(set(hashed))
    listed = set(read_manifest(tmp_path / "out").files)
    assert {file.relative_to(written[0]).as_posix() for file in hashed if file.is_relative_to(written[0])} == listed


def test_a_package_that_is_the_source_is_opened_once(tmp_path, monkeypatch):
    opened, hashed = [], []
    open_it, measure = opening._read_manifest, opening.HashCache.measure
    monkeypatch.setattr(opening, "_read_manifest", lambda path: opened.append(path) or open_it(path))
    monkeypatch.setattr(opening.HashCache, "measure", lambda cache, name: hashed.append(name) or measure(cache, name))
    monkeypatch.setattr(builds, "_export", lambda *rest: pytest.fail("the work began"))
    with pytest.raises(pytest.fail.Exception, match="the work began"):
        builds.build_package(None, tmp_path / "out", recipe=BuildRecipe())
    assert opened == [builtin_package()]
    assert sorted(hashed) == sorted(read_manifest(builtin_package()).files)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("latent", "scale"), 0.7),
        (("text", 0, "tokenizer", "max_length"), 3),
        (("text", 0, "tokenizer", "bos_token_id"), 5),
        (("defaults", "steps"), 7),
    ],
)
def test_a_package_whose_contract_was_changed_by_hand_is_no_source(tmp_path, monkeypatch, place, value):
    """Its configs and tokenizer would give the old values back, without a word."""
    monkeypatch.setattr(builds, "_export", lambda *rest: pytest.fail("the work began"))
    shutil.copytree(builtin_package(), tmp_path / "source")
    edit_manifest(tmp_path / "source", "contract", *place, value=value)
    spelt = "contract" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    with pytest.raises(
        PackageError, match=rf"has {re.escape(spelt)} {value}, but .* was proven; .*build that"
    ) as caught:
        builds.build_package(tmp_path / "source", tmp_path / "out", recipe=BuildRecipe())
    assert caught.value.code == "proof.invalid"
    assert os.listdir(tmp_path) == ["source"]


# --- what a build may replace, and what it is made of -----------------------------------------------------------------


def edit_in_place(file: Path) -> None:
    file.write_bytes(file.read_bytes()[::-1])


NO_PACKAGE = {
    "a thesis": (
        lambda out: [(out / name).unlink() for name in ("manifest.json", "LICENSE")],
        "not a complete package",
    ),
    "a file beside": (lambda out: (out / "thesis.txt").write_text("precious"), r"holds .*out/thesis\.txt"),
    "a file in a part": (lambda out: (out / "unet" / "thesis.txt").write_text("precious"), "holds .*unet/thesis"),
    "weights beside": (lambda out: (out / "mine.safetensors").write_text("precious"), "holds mine.safetensors"),
    "a link": (lambda out: (out / "data").symlink_to(out.parent), "holds .*out/data"),
    "a part is missing": (lambda out: (out / "unet" / "model.onnx").unlink(), "unet/model.onnx is missing"),
    "a part is cut": (lambda out: os.truncate(out / "unet" / "model.safetensors", 100), "is truncated"),
    "a file was changed": (lambda out: (out / "LICENSE").write_text("my own"), "LICENSE is "),
    "a file was edited in place": (lambda out: edit_in_place(out / "LICENSE"), "LICENSE has changed: its SHA-256"),
    "a manifest of something else": (lambda out: (out / "manifest.json").write_text('{"name": "app"}'), "manifest"),
}


@pytest.fixture
def no_work(monkeypatch):
    """A build that gets past its checks fails the test."""
    monkeypatch.setattr(builds, "open_checkpoint", lambda *rest: pytest.fail("the work began"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A complete package where the next one shall go."""
    return shutil.copytree(builtin_package(), tmp_path / "out")


def build_forced(source: Path | None, out: Path) -> None:
    builds.build_package(source, out, recipe=BuildRecipe(), force=True)


@pytest.mark.parametrize("case", NO_PACKAGE)
def test_what_is_no_package_is_refused_before_any_work_and_kept(case, out, no_work):
    change, message = NO_PACKAGE[case]
    change(out)
    before = snapshot(out)
    with pytest.raises(LdmError, match=message):
        build_forced(None, out)
    assert snapshot(out) == before and os.listdir(out.parent) == ["out"]


def test_a_complete_package_is_replaced(out):
    (out / "verify" / "openvino").mkdir()
    (out / "verify" / "openvino" / "report.html").touch()  # written after the manifest, as those of every proof
    require_package(out)
    with atomic_folder(out, replace=require_package) as partial:
        (partial / "file").write_text("new")
    assert os.listdir(out) == ["file"]


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(file): (file.lstat().st_size, file.lstat().st_mtime_ns) for file in folder.rglob("*")}


@pytest.mark.parametrize(
    "source, where, how",
    [
        ("out", "out", "is the output"),
        ("link", "out", "is the output"),
        ("out/unet", "out", "lies in the output"),
        ("out", "out/new", "holds the output"),
        ("out", "link/unet/new", "holds the output"),
        ("ours", "ours/unet/new", "folder .*ours/unet holds the output"),
        ("ours", "ours/tokenizer", "folder .*ours/tokenizer holds the output"),
    ],
)
def test_a_source_that_overlaps_the_output_is_refused(source, where, how, out, no_work, tmp_path):
    (tmp_path / "link").symlink_to("out")
    (tmp_path / "ours" / "unet").mkdir(parents=True)
    with pytest.raises(InputError, match=how):
        build_forced(tmp_path / source, tmp_path / where)
    assert (out / "manifest.json").exists()


class ExportBegun(Exception):
    pass


def begin_export(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build up to its first export."""

    def begin(*_: object) -> None:
        raise ExportBegun

    monkeypatch.setattr(builds, "_export", begin)
    build_forced(source, out)


def test_an_output_beside_the_parts_of_a_checkpoint_is_built(tiny_build, tmp_path, monkeypatch):
    source = shutil.copytree(tiny_build("sd15").source, tmp_path / "ours")
    monkeypatch.chdir(source)
    before = snapshot(source)
    with pytest.raises(ExportBegun):
        begin_export(Path("."), Path("package"), monkeypatch)
    assert snapshot(source) == before


def test_an_output_that_the_source_reads_through_a_link_is_refused(tiny_build, tmp_path, monkeypatch):
    source = shutil.copytree(tiny_build("sd15").source, tmp_path / "ours")
    shutil.copytree(builtin_package(), source / "package")
    with pytest.raises(ExportBegun):
        begin_export(source, source / "package", monkeypatch)
    (source / "LICENSE").symlink_to("package/LICENSE")
    with pytest.raises(InputError, match=r"file .*ours/LICENSE is a link into the output .*ours/package"):
        begin_export(source, source / "package", monkeypatch)


def test_a_folder_that_is_no_model_is_refused_without_a_walk_through_it(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "walk", lambda *rest: pytest.fail("a walk"))
    with pytest.raises(CheckpointError, match="is not a model's folder"):
        build_forced(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("kind", ["out", "nothing"])
def test_an_output_that_is_a_link_is_refused_before_any_work(kind, out, no_work, tmp_path):
    (tmp_path / "link").symlink_to(kind)
    with pytest.raises(LdmError, match=f"is a link to {kind}; give the place itself"):
        build_forced(None, tmp_path / "link")


def test_memory_is_estimated_for_every_stage_and_refused_with_the_figure(tiny_build):
    checkpoint = tiny_build("sd15").checkpoint
    needs = builds.memory_needs(checkpoint)
    assert {name.split()[0] for name in needs} == {"exporting", "computing", "running"}
    assert all(need > 100e6 for need in needs.values())
    most = max(needs.values())
    builds.require_stages_to_fit(checkpoint, most)
    with pytest.raises(ExportError, match=f"{most / 1e9:.1f} GB"):
        builds.require_stages_to_fit(checkpoint, most - 1)
