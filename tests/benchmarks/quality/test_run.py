"""The whole measurement on a tiny package that is no model, with features that need no network."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.quality import run as picture_quality
from benchmarks.quality.features import FeatureCache
from benchmarks.quality.image_cache import ImageCache, Progress, Setting, batches, duration
from benchmarks.quality.sections import ROW_TITLES
from ldm_export.analyze.features import Extractor
from ldm_runtime import load
from ldm_runtime.errors import InputError
from ldm_runtime.package.manifest import ImageSpec
from ldm_runtime.pipeline import Pipeline
from tests.runtime import tiny_package
from tests.train.conftest import smoke_recipe, write_images

SIDE = 32
STYLES = ("3d style", "flat style")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return tiny_package.make(tmp_path_factory.mktemp("quality") / "package", image=ImageSpec(SIDE, SIDE))


@pytest.fixture
def recipe(tmp_path):
    """A recipe of 24 images: four colours, three shapes, two styles."""
    folder = tmp_path / "images"
    write_images(folder, SIDE)
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    styled = [{**row, "caption": f"{row['caption']}, {style}"} for style in STYLES for row in rows]
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in styled))
    return smoke_recipe(tmp_path, ("data-cache/smoke", str(folder)), ("held_out = 0.2", "held_out = 0.3"))


def blocks(images):
    """The mean colours of 4x4 blocks."""
    count, side = len(images), images.shape[1] // 4
    return images.reshape(count, 4, side, 4, side, 3).mean(axis=(2, 4)).reshape(count, -1).astype(np.float32)


def mean_colours():
    return Extractor("mean colours", blocks)


@pytest.mark.slow
def test_every_section_is_measured_and_nothing_is_drawn_twice(package, recipe, tmp_path, monkeypatch):
    out, said = tmp_path / "out", []
    measured = picture_quality.measure(package, recipe, out, mean_colours, quick=True, say=said.append)
    facts = json.loads((out / "results.json").read_text())
    assert list(facts["sections"]) == list(picture_quality.ALL)
    assert facts["share"] == 0.1 and facts["package"] == "tiny"
    text = measured.read_text()
    for title in ("Concept accuracy", "Background colour", "Only 10% of everything", "dpmpp_2m_karras"):
        assert title in text
    for name in facts["sections"]["grids"]["files"]:
        with Image.open(out / name) as sheet:
            assert min(sheet.size) > SIDE
    assert said.count("Concept accuracy") == 1 and "Unpicked images" in said

    monkeypatch.setattr(Pipeline, "sample", None)  # drawing anything would fail
    chosen = ["accuracy", "frechet", "diversity", "backgrounds", "samplers"]
    picture_quality.measure(package, recipe, out, mean_colours, quick=True, chosen=chosen)
    again = json.loads((out / "results.json").read_text())
    assert again["sections"] == {name: facts["sections"][name] for name in chosen}


def test_the_figures_of_a_package_that_draws_noise_are_those_of_the_floor_and_the_ceiling_is_the_autoencoders(
    package, recipe, tmp_path
):
    picture_quality.measure(package, recipe, tmp_path / "out", mean_colours, chosen=["accuracy", "backgrounds"])
    sections = json.loads((tmp_path / "out" / "results.json").read_text())["sections"]
    rows = {(row["captions"], row["row"]): row for row in sections["accuracy"]["rows"]}
    assert set(rows) == {(kind, row) for kind in ("trained", "held_out") for row in ROW_TITLES}
    assert rows["trained", "chance"]["top1"] == pytest.approx(1 / 12)
    assert rows["trained", "model"]["count"] + rows["held_out", "model"]["count"] == 24
    assert rows["trained", "model"]["top1"]["share"] < 0.6
    assert [row["real_right"] for row in sections["backgrounds"]["rows"]] == [1, 1, 1]


def test_a_package_of_another_size_is_refused_before_anything_is_written(recipe, tmp_path):
    wrong = tiny_package.make(tmp_path / "wrong")
    with pytest.raises(InputError, match="draws 64x48 images, but those of .* are 32x32"):
        picture_quality.measure(wrong, recipe, tmp_path / "out", mean_colours)
    assert not (tmp_path / "out").exists()
    result = CliRunner().invoke(
        picture_quality.main, [str(wrong), "--recipe", str(recipe), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 1 and "give the package that was trained by this recipe" in result.output


def test_a_recipe_without_held_out_images_is_refused(package, recipe, tmp_path):
    recipe.write_text(recipe.read_text().replace("held_out = 0.3", "held_out = 0.0"))
    with pytest.raises(InputError, match="holds out no images"):
        picture_quality.measure(package, recipe, tmp_path / "out", mean_colours)


def test_the_examples_of_the_help_parse():
    text = picture_quality.main.help
    assert text is not None
    examples = re.findall(r"python benchmarks/picture_quality\.py (.+)", text)
    assert len(examples) == 3
    for example in examples:
        picture_quality.main.make_context("picture_quality", example.split())


def test_a_setting_goes_on_where_it_was_interrupted(package, tmp_path):
    setting = Setting(("red", "blue", "green"), (5, 6, 9), "ddim", 2, 3.0)
    with load(package) as pipe:
        whole = ImageCache(pipe, tmp_path / "whole").draw(setting, lambda work: None)
        broken = ImageCache(pipe, tmp_path / "broken")

        def interrupt(work):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            broken.draw(setting, interrupt)
        assert broken.remaining(setting) == 1  # the first two went as one batch: their seeds count up
        drawn = broken.draw(setting, lambda work: None)
        alone = pipe("green", seed=9, sampler="ddim", steps=2, guidance=3.0)[0]
    np.testing.assert_array_equal(drawn.images, whole.images)
    np.testing.assert_array_equal(drawn.images[2], np.asarray(alone))
    assert len(drawn.seconds) == 3


def test_another_setting_or_package_is_another_file():
    setting = Setting(("red",), (5,), "ddim", 2, 3.0)
    changed = Setting(("red",), (6,), "ddim", 2, 3.0)
    assert len({setting.identity("a"), setting.identity("b"), changed.identity("a")}) == 3


def test_batches_are_runs_of_seeds_that_count_up():
    assert batches([0, 1, 2, 3, 0, 1, 5], most=3) == [slice(0, 3), slice(3, 4), slice(4, 6), slice(6, 7)]
    assert batches([], most=3) == []


def test_features_are_computed_once_for_the_same_images(tmp_path):
    computed = []

    def count(images):
        computed.append(len(images))
        return blocks(images)

    cache = FeatureCache(Extractor("counted", count), tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    assert cache.missing(images) == 3
    first = cache.of(images, lambda count: None)
    assert cache.missing(images) == 0
    np.testing.assert_array_equal(cache.of(images, lambda count: None), first)
    assert computed == [3]
    cache.of(255 - images, lambda count: None)
    assert computed == [3, 3]


@pytest.mark.parametrize(("seconds", "said"), [(42, "42 s"), (725, "12 min"), (11100, "3 h 05 min")])
def test_a_duration_is_said_for_people(seconds, said):
    assert duration(seconds) == said


def test_progress_says_the_time_left_of_the_work_alone(monkeypatch):
    clock, said = [0.0], []
    monkeypatch.setattr("benchmarks.quality.image_cache.time.monotonic", lambda: clock[0])
    progress = Progress("drawing", 40, said.append)
    clock[0] = 10.0
    progress.advance(10)
    clock[0] = 1000.0  # something else
    progress.resume()
    clock[0] = 1010.0
    progress.advance(10)
    assert said == ["drawing: 25.0%, 30 s left", "drawing: 50.0%, 20 s left"]


@pytest.mark.parametrize(("share", "verdict"), [(0.9, "met"), (0.85, "met"), (0.96, "met"), (0.84, "missed")])
def test_the_accuracy_is_judged_by_the_interval_of_the_exact_run(share, verdict):
    exact = {"trained": {"share": 0.9, "low": 0.85, "high": 0.95}}
    (line,) = picture_quality.judge_accuracy({"trained": {"share": share, "low": 0.0, "high": 1.0}}, exact)
    assert line.startswith("accuracy of trained captions: ") and line.endswith(
        f"90.0% (85.0% – 95.0%) exactly: {verdict}"
    )


def test_results_without_accuracy_are_refused(tmp_path):
    with pytest.raises(InputError, match="no results of the section accuracy"):
        picture_quality.read_accuracy(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({"sections": {}}))
    with pytest.raises(InputError, match="no results of the section accuracy"):
        picture_quality.read_accuracy(tmp_path)


def test_accuracy_that_is_not_measured_cannot_be_judged(monkeypatch, tmp_path):
    monkeypatch.setattr(picture_quality, "measure", lambda *args, **options: pytest.fail("the work began"))
    arguments = ["--recipe", "a.toml", "--out", str(tmp_path), "--exact", str(tmp_path), "--section", "grids"]
    done = CliRunner().invoke(picture_quality.main, arguments)
    assert done.exit_code == 1
    assert done.stderr == (
        "Error: --exact judges the section accuracy, but --section names grids; add --section accuracy\n"
    )


def test_a_budget_that_nothing_is_within_is_not_measured_as_if_it_were(package, recipe, tmp_path):
    with pytest.raises(InputError, match="no variant of tiny is within psnr=30 here"):
        picture_quality.measure(package, recipe, tmp_path / "out", mean_colours, budget="psnr=30")
    assert not (tmp_path / "out").exists()


def test_a_variant_has_images_of_its_own(package, tmp_path):
    with load(package) as pipe:
        exact = ImageCache(pipe, tmp_path)
        pipe.variant = SimpleNamespace(name="int8")
        lossy = ImageCache(pipe, tmp_path)
    setting = Setting(("a",), (1,), "ddim", 2, 1.0)
    assert exact.source == pipe.package.identity and lossy.source == f"{pipe.package.identity} int8"
    assert setting.identity(exact.source) != setting.identity(lossy.source)
