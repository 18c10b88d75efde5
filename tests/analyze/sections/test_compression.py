"""What models cost and their twins on pixels would: the built-in model, tiny ones of every kind, and known counts."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ldm_export.analyze import pixel_twin
from ldm_export.analyze.component_inputs import axis_sizes
from ldm_export.analyze.features import Extractor
from ldm_export.analyze.findings import Findings
from ldm_export.analyze.graph_cost import CROSS, KINDS, SELF, Cost
from ldm_export.analyze.pictures import load_pictures
from ldm_export.analyze.pixel_twin import Pair, Side, count_pairs, measure_pairs, sizes_up_to, twins
from ldm_export.analyze.sections import compression
from ldm_export.analyze.sections.compression_total import recipe_of, total_sentence
from ldm_export.analyze.sections.compression_twin import _speedup_figure, _times_table, law_sentence, speed_sentence
from ldm_export.analyze.study import Study
from ldm_export.analyze.subject import Subject, open_subject
from ldm_export.analyze.timing import TimeBudget
from tests.analyze.conftest import mean_colour, write_images
from tests.analyze.tables import number, table
from tests.oracles import build_tiny_sd, with_tiny_autoencoder
from tests.stages import here

SECONDS = (60.0, 60.0)


def study_of(subject: Subject, folder: Path) -> Study:
    write_images(folder / "images", 1)
    pictures = load_pictures(folder / "images", 1, subject.size, 0, [])
    return Study(subject, pictures, Extractor("mean colour", mean_colour), 0, True, folder, lambda text: None)


def measured(source: Path | None, folder: Path) -> Findings:
    with pytest.MonkeyPatch.context() as patch, open_subject(source) as subject:
        patch.setattr(compression, "ROUNDS", 2)
        patch.setattr(compression, "TWIN_SECONDS", SECONDS)
        if source is not None:  # the built-in model's are measured in processes of their own
            patch.setattr(pixel_twin, "run_isolated", here)
        patch.setattr(
            pixel_twin, "sizes_up_to", lambda cells: sizes_up_to(cells)[-2:] if source else sizes_up_to((2, 2))
        )
        found = compression.measure(study_of(subject, folder))
    found.require_finite()
    return found


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return measured(None, tmp_path_factory.mktemp("compression"))


@pytest.mark.slow
def test_ratios_are_those_of_the_shapes(findings: Findings) -> None:
    assert findings.value("ratio") == 128 * 128 * 3 / (16 * 16 * 4)
    assert findings.value("downsample") == 8 and findings.value("numbers") == 16 * 16 * 4


@pytest.mark.slow
def test_work_on_pixels_grows_with_the_area_at_least(findings: Findings) -> None:
    rows = table(findings, "twin").rows
    assert [row[0] for row in rows] == ["8x8", "16x16"]
    small, large = (list(map(number, row[1:])) for row in rows)
    latent, pixel, ratio = large[:3]
    assert pixel > latent and ratio == pytest.approx(pixel / latent) == findings.value("work_ratio")
    assert 3.5 < pixel / small[1] < 16  # four times the pixels; attention's part sixteen times
    assert [row[0] for row in table(findings, "twin_times").rows] == ["8x8", "16x16"]


@pytest.mark.slow
def test_each_kind_of_work_grows_by_its_own_law(findings: Findings) -> None:
    laws = {str(row[0]): row for row in table(findings, "laws").rows}
    for kind in (CROSS, "linear"):
        assert laws[kind][4] == 64
    assert laws[SELF][4] == 4096 and number(laws[SELF][3]) > number(laws[CROSS][3])
    assert laws["fixed: of text and timestep alone"][3] == 1


@pytest.mark.slow
def test_times_are_figures_with_their_spread(findings: Findings) -> None:
    names = {figure.name for figure in findings.figures}
    assert {"time_unet", "time_text_encoder", "time_vae_encoder", "time_vae_decoder", "total_time", "speedup"} <= names
    for figure in findings.figures:
        assert figure.interval or figure.note, f"{figure.name} says nothing of its uncertainty"
        assert figure.limits and figure.estimator
        if figure.unit in ("ms", "s"):
            assert figure.low is not None and figure.high is not None and figure.value is not None
            assert figure.low <= figure.value <= figure.high


@pytest.mark.slow
def test_the_total_has_text_encoder_steps_decoder_and_from_an_image_the_encoder(findings: Findings) -> None:
    work = {str(row[0]): number(row[2]) for row in table(findings, "components").rows}
    total = 2 * work["text_encoder"] + 20 * 2 * work["unet"] + work["vae_decoder"]
    assert findings.value("total") == pytest.approx(total)
    assert findings.value("total_image") == pytest.approx(total + work["vae_encoder"])
    training = work["text_encoder"] + 3 * work["unet"] + work["vae_encoder"]
    assert findings.value("total_training") == pytest.approx(training)
    assert findings.value("codec_share") == pytest.approx(work["vae_decoder"] / total)
    saved = 2 * (number(table(findings, "twin").rows[-1][2]) - work["unet"])
    both = work["vae_encoder"] + work["vae_decoder"]
    if saved > 0:  # of a small twin here
        assert findings.value("break_even") == pytest.approx(both / saved)
    else:
        assert findings.value("break_even") is None


# --- Tiny checkpoints of every kind ---

CHECKPOINTS: dict[str, Callable[[Path], Path]] = {
    "sd15": lambda folder: build_tiny_sd(folder, "sd15"),
    "sd21": lambda folder: build_tiny_sd(folder, "sd21"),
    "sdxl": lambda folder: build_tiny_sd(folder, "sdxl"),
    "inpaint": lambda folder: build_tiny_sd(folder, "inpaint"),
    "sdxl inpaint": lambda folder: build_tiny_sd(folder, "sdxl_inpaint"),
    "lcm": lambda folder: build_tiny_sd(folder, unet={"time_cond_proj_dim": 8}),
    "tiny autoencoder": lambda folder: with_tiny_autoencoder(build_tiny_sd(folder)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints_of_every_kind_are_measured(tmp_path: Path, kind: str) -> None:
    found = measured(CHECKPOINTS[kind](tmp_path / "source"), tmp_path)
    assert len(table(found, "twin_times").rows) == 2, found.sentences
    assert number(found.value("work_ratio")) > 1 and number(found.value("speedup")) > 0
    assert all(sentence.endswith(".") and "(1 " not in sentence for sentence in found.sentences)


@pytest.mark.parametrize(
    ("kind", "channels"), (("sd15", (4, 3)), ("inpaint", (9, 7)), ("sdxl inpaint", (9, 7)), ("lcm", (4, 3)))
)
def test_the_twin_has_three_channels_wherever_latents_have_theirs(
    tmp_path: Path, kind: str, channels: tuple[int, int]
) -> None:
    """A mask is one channel on both sides."""
    with open_subject(CHECKPOINTS[kind](tmp_path / "source")) as subject:
        networks = twins(subject)
        names = [[each.name for each in network.spec.inputs] for network in networks]
        latent, pixel = (network.count(axis_sizes(subject)) for network in networks)
    assert tuple(network.spec.inputs[0].dims[1] for network in networks) == channels
    assert networks[1].spec.outputs[0].dims[1] == 3 and names[0] == names[1]
    width = networks[0].config.block_out_channels[0]
    assert latent.parameters - pixel.parameters == 9 * width * (channels[0] - channels[1] + 4 - 3) + 1  # a bias


# --- What does not fit ---


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sd(tmp_path_factory.mktemp("tiny") / "source")


def test_nothing_is_started_that_will_not_fit(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(pixel_twin, "run_isolated", refuse)
    with open_subject(tiny) as subject:
        networks, study = twins(subject), study_of(subject, tmp_path)
        pairs = count_pairs(subject, networks)
        started = time.monotonic()
        found, reason = measure_pairs(study, networks, pairs, TimeBudget(100.0, pace=1.0), 7)
        assert found == pairs and time.monotonic() - started < 20
        assert "Sizes from 2x2 on are counted, and not measured: on latents an evaluation would take about" in reason
        monkeypatch.setattr(pixel_twin, "available_memory", lambda: 300_000_000)
        found, reason = measure_pairs(study, networks, pairs, TimeBudget(100.0), 7)
    assert found == pairs and "may need 0.5 GB of memory, and 0.3 GB are available" in reason


def test_a_size_whose_evaluation_is_too_long_ends_the_measurement(tiny: Path) -> None:
    with open_subject(tiny) as subject:
        network, pairs = twins(subject)[0], count_pairs(subject, twins(subject))
        jobs = [pixel_twin.Job(axis_sizes(subject, (1, 1)), pairs[0].latent)]
        jobs.append(pixel_twin.Job(axis_sizes(subject, (2, 2)), replace(pairs[0].latent, macs={"linear": 10**16})))
        sides, reason, pace = pixel_twin.time_network(network, jobs, 3, TimeBudget(30.0))
    assert len(sides) == 1 and len(sides[0].seconds) == 3 and pace > 0
    assert "an evaluation would take about" in reason


def test_components_that_will_not_fit_are_named(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_subject(tiny) as subject:
        study = study_of(subject, tmp_path)
        costs = compression.component_costs(subject)
        huge = replace(costs["unet"], macs={"linear": 10**16})
        seconds, left_out = compression.time_components(study, {**costs, "unet": huge})
        assert seconds["unet"] == () and all(each for name, each in seconds.items() if name != "unet")
        assert "not timed" in left_out and "unet (would take about" in left_out and "vae" not in left_out
        monkeypatch.setattr(compression, "available_memory", lambda: 1)
        seconds, left_out = compression.time_components(study, costs)
        assert not any(seconds.values()) and left_out.count("of memory") == 4


# --- Sizes, sentences, recipes ---


@pytest.mark.parametrize(
    ("cells", "sizes"),
    (
        ((1, 1), [(1, 1)]),
        ((16, 16), [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16)]),
        ((12, 20), [(1, 2), (2, 3), (3, 5), (6, 10), (12, 20)]),
    ),
)
def test_sizes_are_halved_down_to_one_cell(cells: tuple[int, int], sizes: list[tuple[int, int]]) -> None:
    assert sizes_up_to(cells) == sizes


def cost(positions: int, squares: int = 0, fixed: int = 0) -> Cost:
    none = dict.fromkeys(KINDS, 0)
    return Cost({**none, "linear": positions + fixed, SELF: squares}, {**none, "linear": fixed}, 10, 10, 0)


def pair(area: int, positions: int, squares: int = 0, fixed: int = 0) -> Pair:
    """Both sides of a model whose work is known, where latents have so many fewer positions."""
    return Pair(64, 48, cost(positions, squares, fixed), cost(positions * area, squares * area**2, fixed))


@pytest.mark.parametrize(
    ("cell", "channels", "work", "said"),
    (
        (8, 4, (1000, 0, 0), ("64 times as much", "100.0% grows", "f² is near: the count is as much", "c = 4")),
        (8, 3, (1000, 0, 0), ("r = 64, f² = 64", "r is f² here, for latents have three channels")),
        (
            4,
            16,
            (900, 0, 100),
            ("14.5 times as much", "10.0% is made of text and timestep", "f² is near: the count is 0.906 of it"),
        ),
        (
            16,
            8,
            (1, 1, 0),
            (
                "f² = 256 times as many",
                "f⁴ = 65,536",
                "None of the laws",
                "the nearest is r², and the count 3.57 times it",
            ),
        ),
        (
            2,
            4,
            (1, 0, 3),
            ("r = 3, f² = 4, r² = 9", "the nearest is r, and the count 0.583 times it", "75.0% is made of"),
        ),
        (1, 4, (1000, 10, 0), ("f = 1", "does as much work", "r = 0.75")),
    ),
)
def test_the_law_is_that_of_the_model(
    cell: int, channels: int, work: tuple[int, int, int], said: tuple[str, ...]
) -> None:
    text = law_sentence(pair(cell**2, *work), cell, channels, 3 * cell**2 / channels)
    assert all(part in text for part in said), text
    assert "as much times" not in text and "  " not in text


@pytest.mark.parametrize(
    ("pixel", "said"),
    (
        ((0.64, 0.65), "Time follows work"),
        ((0.2, 0.21), "Time gains less than work: each operator has an overhead"),
        ((1.2, 1.3), "Time gains more than work"),
    ),
)
def test_time_is_compared_with_work(pixel: tuple[float, float], said: str) -> None:
    known = replace(pair(64, 1000), measured=(Side((0.01, 0.0101), None), Side(pixel, None)))
    text = speed_sentence(known)
    assert said in text and "64x48" in text and "for 64 times as much work" in text


def test_one_evaluation_of_each_tells_of_no_spread() -> None:
    known = replace(pair(64, 1000), measured=(Side((0.01,), None), Side((0.2,), None)))
    text = speed_sentence(known)
    assert "takes 20 times as long" in text and "inf" not in text and text.endswith("from it is not known.")
    findings = Findings(tables=[_times_table([known])], figures=[_speedup_figure([known])])
    findings.require_finite()
    assert findings.tables[0].rows[0][1:4] == (pytest.approx(10.0), None, None)
    assert "no interval" in findings.figures[0].note


def contract(*, negative: bool = True, zero_negative: bool = False, inpaints: bool = False, sampler: str = "ddim"):
    from ldm_runtime.package.open import read_manifest
    from ldm_runtime.pipeline import builtin_package

    known = read_manifest(builtin_package()).contract
    defaults = replace(known.defaults, sampler=sampler, steps=10, guidance=5.0 if negative else 1.0)
    return replace(
        known,
        defaults=replace(defaults, zero_negative=zero_negative),
        concat=("mask", "masked_latents") if inpaints else (),
    )


@pytest.mark.parametrize(
    ("options", "text", "image"),
    (
        ({}, (2, 20, 0, 1), (2, 20, 1, 1)),
        ({"negative": False}, (1, 10, 0, 1), (1, 10, 1, 1)),
        ({"zero_negative": True}, (1, 20, 0, 1), (1, 20, 1, 1)),
        ({"inpaints": True}, (2, 20, 2, 1), (2, 20, 2, 1)),
        ({"sampler": "heun"}, (2, 38, 0, 1), (2, 38, 1, 1)),
    ),
)
def test_how_often_components_are_evaluated(
    options: dict[str, object], text: tuple[int, ...], image: tuple[int, ...]
) -> None:
    recipe = recipe_of(contract(**options))  # type: ignore[arg-type]
    names = ("text_encoder", "unet", "vae_encoder", "vae_decoder")
    assert tuple(recipe.text[name] for name in names) == text
    assert tuple(recipe.image[name] for name in names) == image
    assert recipe.training["unet"] == 3 and recipe.training["vae_decoder"] == 0


@pytest.mark.parametrize(
    ("unet", "pixel", "codec", "said"),
    (
        (1.0, 64.0, 2.0, "from step 1 on latents cost less"),
        (1.0, 2.0, 5.0, "from step 10 on latents cost less"),
        (1.0, 1.0, 2.0, "latents never pay by their cost"),
    ),
)
def test_latents_pay_from_a_step_on(unet: float, pixel: float, codec: float, said: str) -> None:
    known = contract(negative=False)
    macs = {"text_encoder": 0.1, "unet": unet, "vae_encoder": codec, "vae_decoder": codec}
    text = total_sentence(known, macs, recipe_of(known), pixel)
    assert said in text and "10 evaluations of the UNet" in text


def test_a_single_evaluation_is_one() -> None:
    known = replace(contract(negative=False), defaults=replace(contract(negative=False).defaults, steps=1))
    macs = {"text_encoder": 0.1, "unet": 1.0, "vae_encoder": 1.0, "vae_decoder": 1.0}
    assert "1 evaluation of the UNet" in total_sentence(known, macs, recipe_of(known), 64.0)
