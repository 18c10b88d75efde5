"""What the section on transport says of costs: of moving noise to latents, and of the latents themselves."""

from collections.abc import Sequence

import numpy as np

from ldm_export.analyze.findings import Cell, Figure, Findings, Table
from ldm_export.analyze.flow_runs import euler_of, even_steps, plain_guidance, result
from ldm_export.analyze.mutual_information import kl_to_standard_normal
from ldm_export.analyze.pairing import Pairing, least_cost, pairing
from ldm_export.analyze.posterior import posterior
from ldm_export.analyze.rate_distortion import psnr
from ldm_export.analyze.similarity import squared_errors
from ldm_export.analyze.statistics import over_images, spread
from ldm_export.analyze.study import Study, levels
from ldm_runtime.pipeline import Pipeline

BATCH = 32  # noises that are paired with results
LEAST_FOR_BOUND = 64  # images
HALVES = 5  # random ones of the images
BLOCK = 8
NEAR_BEST = 0.95
UNIT = "per number"  # of the latents


def add_cost(findings: Findings, study: Study, pipe: Pipeline, noise: np.ndarray, steps: int) -> None:
    """Compare the pairs of noise and latents that the model makes with others. noise: (N, C, h, w), of N/BATCH batches.

    steps: about how many. The prompt is empty, so that all noises go to one and the same distribution.
    """
    (steps,) = even_steps(pipe.contract, [steps])

    def draw(part: Sequence[int]) -> np.ndarray:
        return result(
            pipe, [""] * len(part), noise[list(part)], steps, euler_of(pipe.contract), plain_guidance(pipe.contract)
        )

    drawn = study.in_blocks("transport empty prompt", range(len(noise)), study.at_once(BLOCK), draw)
    size = min(BATCH, len(noise))
    batches = [slice(start, start + size) for start in range(0, len(noise) - size + 1, size)]
    pairs = [pairing(noise[batch], drawn[batch]) for batch in batches]
    over = f"range over {len(batches)} batches" if len(batches) > 1 else ""
    estimator = f"mean squared difference of noise and latents, {steps} steps, empty prompt, batches of {size}"
    limits = "Of latents that the model draws, from which its own errors cannot be told."
    for name, title, values in (
        ("cost", "Cost of the model's pairs of noise and latents", [each.given for each in pairs]),
        ("cost_random", "Cost of random pairs of the same", [each.mean for each in pairs]),
        ("cost_best", "Cost of the best pairs of the same", [each.best for each in pairs]),
    ):
        findings.figures.append(_figure(name, title, values, UNIT, estimator, limits, over))
    findings.figures.append(_saved(pairs, estimator, over))
    _add_to_data(findings, study, noise, batches)
    rows: list[tuple[Cell, ...]] = [
        (figure.title, figure.value, figure.low, figure.high)
        for figure in findings.figures
        if figure.name.startswith("cost") and figure.value is not None
    ]
    note = (
        "Mean squared difference of each number of unit noise and latents. The best pairs of a larger batch cost less."
    )
    findings.tables.append(
        Table("cost", "What it costs to move noise", ("pairs", "cost", "low", "high"), tuple(rows), note)
    )
    findings.sentences.append(_sentence(findings, size))
    _compare_with_data(findings, size)


def _figure(
    name: str, title: str, values: Sequence[float], unit: str, estimator: str, limits: str, over: str
) -> Figure:
    found = spread(np.array(values))
    low, high = (found.low, found.high) if over else (None, None)
    return Figure(name, title, found.value, unit, estimator, limits, low, high, over)


def _saved(pairs: list[Pairing], estimator: str, over: str) -> Figure:
    title = "Share of what pairing could save that the model's does"
    limits = "In many dimensions all pairs cost nearly the same: see how far the best is from random."
    shares = [each.share_saved for each in pairs]
    known = [100 * share for share in shares if share is not None]
    if len(known) < len(shares):
        note = "Nothing can be saved: all pairs cost the same."
        return Figure("saved", title, None, "%", estimator, limits, note=note)
    return _figure(
        "saved", title, known, "%", f"0 % at random, 100 % the optimal assignment; {estimator}", limits, over
    )


def _add_to_data(findings: Findings, study: Study, noise: np.ndarray, batches: list[slice]) -> None:
    """Add the costs of moving noise to the latents of the images."""
    title, limits = "Least cost of moving noise to the latents of the images", "A lower bound: the true one is higher."
    if len(study.latents) < LEAST_FOR_BOUND:
        note = f"It needs {LEAST_FOR_BOUND} images."
        findings.figures.append(Figure("cost_bound", title, None, UNIT, "Gelbrich's bound", limits, note=note))
    else:
        random, count = study.random("transport bound"), len(study.latents)
        values = [least_cost(study.latents[random.permutation(count)], count // 2) for _ in range(HALVES)]
        estimator = f"Gelbrich's bound in the main directions of half of {count} images, measured on the others"
        over = f"median and range of {HALVES} random halves"
        findings.figures.append(_figure("cost_bound", title, values, UNIT, estimator, limits, over))
    size = batches[0].stop - batches[0].start
    if len(study.latents) < size:
        return
    random = study.random("transport data")
    chosen = [random.permutation(len(study.latents))[:size] for _ in batches]
    pairs = [pairing(noise[batch], study.latents[places]) for batch, places in zip(batches, chosen, strict=True)]
    over = f"range over {len(pairs)} batches" if len(pairs) > 1 else ""
    estimator = f"mean squared difference of unit noise and latents of images, batches of {size}"
    limits = "The best pairs of a larger batch cost less."
    for name, title, values in (
        ("cost_data_random", "Cost of random pairs of noise and latents of images", [each.mean for each in pairs]),
        ("cost_data_best", "Cost of the best pairs of noise and latents of images", [each.best for each in pairs]),
    ):
        findings.figures.append(_figure(name, title, values, UNIT, estimator, limits, over))


def _sentence(findings: Findings, size: int) -> str:
    cost, random, best = (findings.value(name) for name in ("cost", "cost_random", "cost_best"))
    saved = findings.value("saved")
    assert cost is not None and random is not None and best is not None
    said = f"The model moves noise to latents at a cost of {cost:.3f} a number, where random pairs cost {random:.3f}"
    if saved is None:
        return f"{said}; other pairs cost the same."
    if saved >= 100 * NEAR_BEST:
        return f"{said}: of {size} noises at a time, no other pairs cost noticeably less ({best:.3f})."
    return f"{said} and the best ones of {size} at a time {best:.3f}: it saves {saved:.0f} % of what could be saved."


def _compare_with_data(findings: Findings, size: int) -> None:
    """Say what pairing noise with images before training, as minibatch optimal transport does, could save beside."""
    names = {figure.name for figure in findings.figures}
    if "cost_data_best" not in names:
        return
    values = [findings.value(name) for name in ("cost", "cost_random", "cost_data_best", "cost_data_random")]
    model, model_random, data, data_random = (each or 0.0 for each in values)
    if min(model_random, data_random) <= 0:
        return
    findings.sentences.append(
        f"Pairing {size} noises with {size} images at best saves {1 - data / data_random:.0%} of the cost of random "
        f"pairs; the flow, which chooses where a noise goes, saves {1 - model / model_random:.0%}."
    )


def add_codec(findings: Findings, study: Study) -> None:
    """Put the autoencoder's rate and distortion beside: what is transported, and what that loses."""
    width, height = study.pictures.size
    errors = squared_errors(study.pictures.pixels, levels(study.reconstructions))
    random = study.random("transport codec")
    found, over = over_images(errors, random, lambda part: psnr(float(part.mean())))
    limits = "One point: the section on information has the curve."
    title, estimator = "PSNR of the autoencoder", "of the mean squared error over all images, 8 bits"
    findings.figures.append(Figure.measured("psnr", title, found, "dB", estimator, limits, over))
    rate = _rate(study, width * height, random)
    findings.figures.append(rate)
    share = study.latents[0].size / (3 * width * height)
    bits = "" if rate.value is None else f" (KL: {rate.value:.2f} bits per pixel)"
    findings.sentences.append(
        f"What is transported are {study.latents[0].size} numbers in place of {3 * width * height}, {share:.1%}{bits}; "
        f"the autoencoder gives the image back with {found.value:.1f} dB."
    )


def _rate(study: Study, pixels: int, random: np.random.Generator) -> Figure:
    title, estimator = "KL of the posterior against N(0, I)", "closed form, of Gaussian posteriors"
    limits = "Bits that a draw of the latents tells of the image at most; not a file's size."
    if not study.subject.contract.encodes_moments:
        note = "This encoder gives latents and no posterior."
        return Figure("rate", title, None, "bits per pixel", estimator, limits, note=note)
    divergence = kl_to_standard_normal(*posterior(study.moments)).reshape(len(study.latents), -1).sum(axis=1)
    found, over = over_images(divergence / np.log(2) / pixels, random)
    return Figure.measured("rate", title, found, "bits per pixel", estimator, limits, over)
