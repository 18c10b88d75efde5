"""Killed at every stage, a verb leaves nothing of ours, loses nothing of others, and ends as without the kills."""

import getpass
import shutil
import signal
from dataclasses import replace

import pytest

from ldm_runtime.package.open import open_package
from tests.fuzz.kind import GOLDEN
from tests.kill.killing import (
    Moment,
    Run,
    calibrate,
    differences,
    kill_and_repeat,
    lost,
    make_workplace,
    subtree,
    tree,
)
from tests.kill.verbs import VERBS
from tests.once import shared_folder

pytestmark = pytest.mark.slow


WRITING = Moment("writing", 0, 0.0, writing=True)


def after_image(number):
    """Return the moment when the next image is on its way."""
    return Moment(f"after image {number}", 0, 0.0, output=f"picture-{number}.png")


def require_right(killed):
    assert [(one.stage, one.wrong) for one in killed if one.wrong] == []
    assert [one.stage for one in killed if not one.struck] == []


def names(folder):
    return {file.name for file in folder.iterdir()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The workplace of `run`, and what a run there does that nobody stops."""
    workplace = tmp_path_factory.mktemp("run") / "workplace"
    return workplace, calibrate(workplace, VERBS["run"])


def test_a_run_that_is_killed_anywhere_draws_the_same_image_again(drawn):
    workplace, calibration = drawn
    moments = [Moment("start", 0, 0.05), after_image(1), after_image(3), WRITING]
    require_right(kill_and_repeat(workplace, VERBS["run"], calibration, moments, signal.SIGKILL))


def test_a_training_that_is_killed_in_every_stage_ends_at_the_same_weights(tmp_path):
    verb = VERBS["train"]
    calibration = calibrate(tmp_path / "workplace", verb)
    words = ("tokenizer:", "autoencoder:", "encoding", "text_encoder", "diffusion:", "decoder:")
    moments = [Moment(each, 1, 0.05, each) for each in words]
    killed = kill_and_repeat(tmp_path / "workplace", verb, calibration, moments, signal.SIGKILL)
    assert [(one.stage, one.wrong) for one in killed if one.wrong] == []
    assert sum(one.struck for one in killed) >= len(words) - 1  # the last stage may be over too soon


def test_a_build_that_is_killed_leaves_the_old_package_until_the_new_one_is_whole(
    tiny_build, tmp_path, tmp_path_factory, monkeypatch
):
    """What a killed build leaves, the next one sweeps before its work.

    Without an unkilled build beside it, with remembered traces after the first kill: the rest takes too long here.
    `python -m tests.kill` kills the command as it is shipped in every stage, and compares.
    """

    def prepare(folder):
        shutil.copytree(tiny_build("sd15").source, folder / "source")
        shutil.copytree(GOLDEN / "package", folder / "package")

    verb, folder = replace(VERBS["build-force"], prepare=prepare), tmp_path / "workplace"
    warm = replace(verb, module="tests.kill.warm")
    monkeypatch.setenv("TRACES", str(shared_folder(tmp_path_factory) / "traces"))
    foreign = make_workplace(folder, verb)
    before = tree(folder)
    known, left = {name.partition("/")[0] for name in before} | {"tmp", "cache"}, set()
    for words, each in (("tracing", verb), ("optimising", warm), ("verify:", warm)):
        run = Run(folder, each)
        assert run.wait_for(Moment(words, 1, 0.05, words)), run.said()
        assert not left & names(folder)
        run.signal(signal.SIGKILL)
        run.end()
        assert lost(folder, foreign) == []
        assert subtree(tree(folder), "package") == subtree(before, "package")
        left = names(folder) - known
        assert left
    assert Run(folder, warm).end() == 0
    assert lost(folder, foreign) == []
    package = open_package(folder / "package", check="full")
    package.confirm()
    assert package.manifest.proof.passed and package.manifest.name == "source"
    assert names(folder) == known
    assert names(folder / "tmp") <= {f"torchinductor_{getpass.getuser()}"}  # torch's own cache, as of an unkilled build


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_end_leaves_nothing_half_written(drawn, number):
    workplace, calibration = drawn
    require_right(kill_and_repeat(workplace, VERBS["run"], calibration, [after_image(1), WRITING], number))


def test_the_comparison_sees_what_is_lost_left_missing_and_changed(tmp_path):
    verb = VERBS["run"]
    foreign = make_workplace(tmp_path / "workplace", verb)
    folder = tmp_path / "workplace"
    before = tree(folder)
    assert lost(folder, foreign) == [] and differences(before, tree(folder), verb) == []
    name = next(iter(foreign))
    (folder / name).unlink()
    (folder / ".ldm-left.partial").write_text("half")
    (folder / "package" / "manifest.json").write_text("{}")
    shutil.rmtree(folder / "package" / "unet")
    assert lost(folder, foreign) == [f"lost: {name}"]
    found = differences(before, tree(folder), verb)
    make_workplace(folder, verb)  # before every series of kills: nothing of the one before is left
    assert tree(folder) == before
    for wrong in (
        "left behind: .ldm-left.partial",
        "missing: package/unet/model.onnx",
        "other bytes: package/manifest.json",
    ):
        assert wrong in found
