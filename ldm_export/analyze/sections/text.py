"""Text: how much a caption tells of its image, by how much better the denoiser finds the noise when it reads it."""

import math

import numpy as np

from ldm_export.analyze.caption_errors import NONE, OTHER, CaptionErrors
from ldm_export.analyze.caption_parts import caption_parts
from ldm_export.analyze.denoising_information import beyond, integrated, middle
from ldm_export.analyze.findings import Figure, Findings, Picture, Table
from ldm_export.analyze.sections.text_captions import measure_captions, plan_captions, say_few
from ldm_export.analyze.sections.text_parts import add_parts, add_words
from ldm_export.analyze.sections.work_budget import budget_of
from ldm_export.analyze.statistics import Interval, over_images
from ldm_export.analyze.study import Study
from ldm_export.errors import AnalysisError
from ldm_export.plots import draw_lines, to_png

ALIKE = 0.1  # by which the best scale may be off 1


def measure(study: Study) -> Findings:
    """Measure what captions, their parts and their words tell."""
    if study.subject.contract.embeds_guidance:
        raise AnalysisError(
            "the model was distilled with guidance: what it predicts is not the noise that it expects, so its errors "
            "tell no information; analyse the model that it was distilled from"
        )
    findings, budget = Findings(), budget_of(study)
    parts = caption_parts(study.pictures)
    texts = [each for part in parts.values() for each in (part.without, part.alone)]
    runs = plan_captions(study, budget, len(texts))
    measured = measure_captions(study, runs, [] if runs.lacking else texts)
    told = _add_whole(study, findings, measured)
    say_few(findings, runs, budget)
    _add_levels(study, findings, measured, told)
    if runs.lacking:
        findings.sentences.append(f"What parts of captions tell was not measured: {runs.lacking}.")
    else:
        add_parts(study, findings, measured, parts)
    add_words(study, findings, measured.levels, budget)
    budget.add_cuts(findings)
    return findings


# --- The whole caption ---


def _add_whole(study: Study, findings: Findings, measured: CaptionErrors) -> bool:
    """Add what whole captions tell, and return whether that is something for sure."""
    random, at = study.random("text information"), measured.log_snr
    span = f"half the integral over log-SNR from {at[0]:.3g} to {at[-1]:.3g}, {len(at)} levels by the trapezoidal rule"
    gain, distance = integrated(at, measured.gain[:, NONE]), integrated(at, measured.distance[:, NONE])
    by_error, over = over_images(gain, random)
    by_distance, _ = over_images(distance, random)
    scale, _ = over_images(np.stack([gain, distance], axis=1), random, best_scale)
    wrong, _ = over_images(gain - integrated(at, measured.gain[:, OTHER]), random)
    missing, _ = over_images(beyond(measured.gain[:, NONE]), random)
    findings.figures += [
        *_information(by_error, by_distance, span, over),
        _scale_figure(scale, over),
        *_beside(wrong, missing, over),
    ]
    pictures = study.pictures
    most = math.log2(pictures.available * len(set(pictures.backgrounds)))
    beside_another, _ = over_images(integrated(at, measured.gain[:, OTHER]), random)
    findings.sentences.append(whole_sentence(by_error, wrong, beside_another, most))
    if by_error.low > 0:
        findings.sentences.append(_scale_sentence(scale, study.subject.contract.defaults.guidance))
    return by_error.low > 0


def _information(by_error: Interval, by_distance: Interval, span: str, over: str) -> list[Figure]:
    """Return what a caption tells, by both forms of the integral. span: over what, and how."""
    return [
        Figure.measured(
            "information",
            "What a caption tells the denoiser of its image, by errors",
            by_error,
            "bits",
            f"squared error of the predicted noise without text less that with the caption, {span}",
            "The information between the two for the best denoisers there are; for this network no bound of it, above "
            "or below. A model may know the images that it was trained on better than others.",
            over,
        ),
        Figure.measured(
            "information_by_distance",
            "The same, by predictions",
            by_distance,
            "bits",
            f"squared distance of the predictions without text and with the caption, {span}",
            "Never below 0: it counts all that the text changes, right or wrong.",
            over,
        ),
    ]


def _scale_figure(scale: Interval, over: str) -> Figure:
    return Figure.measured(
        "best_scale",
        "Guidance scale with which predictions would have the least squared error",
        scale,
        "",
        "(errors over predictions + 1) / 2 of the two figures above: the projection of the error on the difference",
        "Of one scale for all levels. Images are drawn with a larger one for other reasons than that error.",
        over,
    )


def _beside(wrong: Interval, missing: Interval, over: str) -> list[Figure]:
    """Return what another image's caption tells, and what the integral leaves out."""
    return [
        Figure.measured(
            "information_of_another",
            "What the caption of another image tells, by errors",
            wrong,
            "bits",
            "squared error without text less that with the caption of another image, integrated as above",
            "Below 0 where a wrong text does harm. Captions that share a part tell some of it.",
            over,
        ),
        Figure.measured(
            "information_beyond",
            "What is left out beyond the noisiest level, about",
            missing,
            "bits",
            "half the density at the noisiest level, as if clean latents were guessed no worse in more noise",
            "It is not in the figures above.",
            over,
        ),
    ]


def best_scale(samples: np.ndarray) -> float:
    """Return the scale of predictions' differences with the least squared error, of gains and distances (N, 2)."""
    gain, distance = samples.mean(axis=0)
    return float(0.5 * (gain / distance + 1)) if distance > 0 else 1.0


def whole_sentence(by_error: Interval, wrong: Interval, beside_another: Interval, most: float) -> str:
    """Say what a caption tells. most: bits that tell all images and backgrounds of the folder apart."""
    if by_error.high < 0:
        return (
            "Captions mislead the denoiser: with its own it finds the noise in an image "
            f"{shown_bits(-by_error.value)} worse than without."
        )
    if by_error.low <= 0:
        direction = "better" if by_error.value >= 0 else "worse"
        return (
            "That captions tell anything of these images cannot be seen: with its caption the denoiser finds the noise "
            f"in an image {shown_bits(abs(by_error.value))} {direction} than without, and the interval of what it "
            f"gains is {by_error.low:+,.3g} to {by_error.high:+,.3g}."
        )
    text = f"A caption tells the denoiser {shown_bits(by_error.value)} of its image. "
    if most > 0:
        text += f"To tell all images and backgrounds of this folder apart takes {shown_bits(most)}. "
    if by_error.low > most:
        text += (
            "What is above that says what kind of images these are, to a model that was trained on others too; or it "
            "makes up for what the denoiser without a text could find in the noise by itself, and does not. "
        )
    if wrong.high < 0:
        return text + (
            f"Another image's caption does harm: with it the noise is found {shown_bits(-wrong.value)} worse than "
            "without a text."
        )
    if beside_another.low > 0:
        if wrong.low > 0:
            return text + f"Another image's caption tells less: {shown_bits(wrong.value)}."
        return text + "Another image's caption tells nothing that can be seen."
    return text + f"But another image's caption does as well ({wrong.value:+,.3g}): which one it is matters little."


def shown_bits(value: float) -> str:
    """Write a number of bits, with its word in the right number."""
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{shown} bit" if shown == "1" else f"{shown} bits"


def _scale_sentence(scale: Interval, guidance: float) -> str:
    if abs(scale.value - 1) <= ALIKE:
        said = "of the right size"
    elif scale.low <= 1 <= scale.high:
        said = "of the right size, as far as these images tell"
    else:
        said = "too large" if scale.value < 1 else "too small"
    return (
        f"What the caption changes in predictions is {said}: a guidance scale of {scale.value:.2f} would have the "
        f"least error. The model's own for drawing is {guidance:g}."
    )


def _add_levels(study: Study, findings: Findings, measured: CaptionErrors, told: bool) -> None:
    """told: whether the caption tells something for sure."""
    at = measured.log_snr
    gain, distance = (each[:, NONE].mean(axis=0) / 2 for each in (measured.gain, measured.distance))
    wrong = (measured.gain[:, NONE] - measured.gain[:, OTHER]).mean(axis=0) / 2
    random = study.random("text levels")
    ends = [over_images(each, random)[0] for each in measured.gain[:, NONE].T / 2]
    _, over = over_images(measured.gain[:, NONE, 0], random)
    rows = tuple(
        (
            level.timestep,
            float(each),
            level.ratio,
            one.value,
            one.low,
            one.high,
            *map(float, (two, other)),
            best_scale(np.array([[one.value, two]])),
        )
        for level, each, one, two, other in zip(measured.levels, at, ends, distance, wrong, strict=True)
    )
    head = (
        "timestep",
        "log-SNR",
        "noise over signal",
        "by errors",
        "low",
        "high",
        "by predictions",
        "another image's caption",
        "best guidance scale",
    )
    findings.tables.append(
        Table(
            "levels",
            "What the caption tells at each noise level, bits for a unit of log-SNR",
            head,
            rows,
            f"The area under a column is its figure. low and high: of the column by errors, {over}.",
        )
    )
    lines = {
        "by errors": list(zip(at.tolist(), gain.tolist(), strict=True)),
        "by predictions": list(zip(at.tolist(), distance.tolist(), strict=True)),
    }
    plot = draw_lines(lines, "log-SNR: noise on the left, the image on the right", "bits for a unit of log-SNR")
    findings.pictures.append(
        Picture("levels", "Where the caption tells something, by noise level; areas are bits.", to_png(plot))
    )
    _add_middle(findings, measured, told, random)


def _add_middle(findings: Findings, measured: CaptionErrors, told: bool, random: np.random.Generator) -> None:
    """Add where in noise half of the information lies; told: whether there is some for sure."""
    name, title = "noise_at_half", "Noise over signal below which half of the information is left to find"
    estimator = "the place in log-SNR that halves the area by errors"
    limits = "In latents of about unit deviation. Where the integral is cut off, the middle moves."
    gains = measured.gain[:, NONE]
    if not told or middle(measured.log_snr, gains.mean(axis=0)) is None:
        note = "That the caption tells anything is not sure, so it has no middle."
        findings.figures.append(Figure(name, title, None, "", estimator, limits, note=note))
        return

    def ratio(part: np.ndarray) -> float:
        half = middle(measured.log_snr, part.mean(axis=0))
        return math.nan if half is None else math.exp(-half / 2)

    found, over = over_images(gains, random, ratio)
    note = "Of some choices of the images there is no middle, so it has no interval."
    findings.figures.append(Figure.perhaps(name, title, found, "", estimator, limits, over, note))
    findings.sentences.append(middle_sentence(found))


def middle_sentence(found: Interval) -> str:
    """Say at which noise over signal half of the information lies; NaN ends where no interval is known."""
    place = f"over {found.value:.2g} times the deviation of the signal"
    text = f"Half of what the caption tells is told where noise has {place}, half below"
    if found.low > 1:
        return f"{text}: at the middle noise outweighs the image."
    if found.high < 1:
        return f"{text}: at the middle the image already outweighs the noise."
    return f"{text}; whether noise or image outweighs the other at the middle these images do not tell."
