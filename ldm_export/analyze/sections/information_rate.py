"""What the section on information says of rate and distortion."""

import math
from collections.abc import Sequence

import numpy as np

from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.rate_distortion import (
    BARE_JPEG,
    DRAWS,
    LATENTS,
    Curves,
    Point,
    at_equal_error,
    equal_error_samples,
    psnr,
    working_point,
)
from ldm_export.analyze.statistics import Interval, bootstrap, over_resampled
from ldm_export.analyze.study import Study
from ldm_export.plots import draw_lines, image_grid, to_png

LOSS = 0.5  # dB that quantising may cost at the point that is compared with other codecs
TOLERANCE = 0.01  # of the rate, by which the bytes written may differ from it


def add_rate(findings: Findings, study: Study, curves: Curves) -> None:
    """Compare latents with JPEG and WebP on the same images."""
    pixels = study.pictures.size[0] * study.pictures.size[1]
    point, count = working_point(curves, LOSS), len(curves.places)
    random = study.random("information rate")
    over = over_resampled(count)
    findings.figures.append(
        Figure.measured(
            "rate",
            f"Rate of latents in steps of {point.setting:g} standard deviations",
            bootstrap(point.bits / pixels, random),
            "bits per pixel",
            "factorised model of the symbols of each channel, learnt on the other half of the images",
            "The decoder's weights and the model's tables are not counted. A model that sees neighbouring cells would "
            "need less.",
            over,
        )
    )
    _add_coder_check(findings, curves)
    for key, codec in (("rate_jpeg", BARE_JPEG), ("rate_webp", "WebP")):
        findings.figures.append(_other_rate(key, codec, point, curves, pixels, random, over))
    findings.sentences.append(_sentence(findings, curves, point, random))
    _add_draws(findings, curves, point, pixels, random, over)
    findings.tables.append(_table(curves, pixels, random, study.random("information rate, PSNR")))
    findings.pictures += [_plot(curves, pixels), _images(study, curves, point)]


def _add_draws(
    findings: Findings, curves: Curves, point: Point, pixels: int, random: np.random.Generator, over: str
) -> None:
    """Add what draws of the posterior would take, beside quantised latents with the same error."""
    for draws in curves.lines.get(DRAWS, ()):
        findings.figures.append(
            Figure.measured(
                "rate_draws",
                f"Rate of draws of the posterior, {draws.psnr:.1f} dB, by its KL",
                bootstrap(draws.bits / pixels, random),
                "bits per pixel",
                "KL of the posterior against a Gaussian with the latents' covariances, fitted to other images",
                "Nothing was written: a draw can be sent in about so many bits, but known ways to do it are slow.",
                over,
            )
        )
        line = curves.lines[LATENTS]
        same = bootstrap(equal_error_samples(draws, line), random, at_equal_error)
        note = f"The steps go from {line[-1].psnr:.1f} to {line[0].psnr:.1f} dB."
        findings.figures.append(
            _rate_at(
                "rate_at_draws",
                "Rate of quantised latents at the PSNR of draws",
                _per_pixel(same, pixels),
                "as above; between steps the logarithm of the rate goes straight with the PSNR",
                "With as many dB errors may still look different.",
                over,
                note,
            )
        )
        ratio = _ratio(draws, line, random)
        findings.sentences.append(draws_sentence(point, draws, same.value, ratio, pixels))


def _ratio(point: Point, line: Sequence[Point], random: np.random.Generator) -> Interval:
    """Return how many times a point's bits another codec takes at its error; NaN where it is not that bad or good."""
    samples = np.column_stack([equal_error_samples(point, line), point.bits])
    return bootstrap(samples, random, lambda part: at_equal_error(part[:, :-1]) / float(part[:, -1].mean()))


def times(ratio: Interval) -> str:
    """Say a ratio, and whether it is told from 1."""
    if math.isnan(ratio.low + ratio.high):
        return f"{ratio.value:.2f} times as many"
    values = f"{ratio.value:.2f} times, {ratio.low:.2f} to {ratio.high:.2f}"
    return f"as many, as far as these images tell: {values}" if ratio.low <= 1 <= ratio.high else values


def draws_sentence(point: Point, draws: Point, same: float, ratio: Interval, pixels: int) -> str:
    """Say what of the bits of quantised latents a draw of the posterior would save, and what for.

    same: bits of quantised latents at the draws' PSNR, NaN if no step has it. ratio: those over the draws' bits.
    """
    rate, drawn = (float(each.bits.mean()) / pixels for each in (point, draws))
    text = (
        f"Draws of the posterior would take {drawn:.3g} bits per pixel ({drawn / rate:.0%} of those of quantised "
        f"latents; nothing was written), with {draws.psnr:.1f} dB."
    )
    if math.isnan(same):
        return f"{text} No step of quantised latents has that PSNR to compare with."
    text += f" Quantised latents of that PSNR take {same / pixels:.3g} ({times(ratio)}). "
    if math.isnan(ratio.low + ratio.high):
        return text + "Of some choices of the images no step has that PSNR, so what draws save is not known."
    if ratio.low <= 1:
        if ratio.high < 1:
            return text + "So draws save nothing: for the same PSNR they take more."
        return text + "So draws save nothing that can be seen: the difference pays for a higher or lower PSNR."
    why = (
        "what rounding costs, and a model of the symbols that sees no dependence between numbers, where the Gaussian "
        "of the draws has covariances"
    )
    if rate <= drawn:
        return f"{text}So draws save {1 - 1 / ratio.value:.0%} at the same PSNR: that is {why}."
    finer = max(0.0, (rate - same / pixels) / (rate - drawn))
    return f"{text}So {finer:.0%} of the difference pays for a higher PSNR; the rest is {why}."


def _add_coder_check(findings: Findings, curves: Curves) -> None:
    excess = [each.excess for each in curves.lines[LATENTS] if each.excess is not None]
    worst = max(excess, key=abs) if excess else None
    findings.figures.append(
        Figure(
            "coder_excess",
            "Bytes of a range coder beyond the rate, at the worst step",
            None if worst is None else 100 * worst,
            "%",
            "constriction's range coder, all coded images as one stream",
            "It checks the rate; a stream for each image has up to four bytes more.",
            interval="" if worst is None else "exact",
            note="Too few bytes were written to tell." if worst is None else "",
        )
    )
    if worst is not None and abs(worst) > TOLERANCE:
        findings.warnings.append(f"The range coder's bytes differ from the rate by {worst:.1%}.")


def _other_rate(
    key: str, codec: str, point: Point, curves: Curves, pixels: int, random: np.random.Generator, over: str
) -> Figure:
    """Return the rate of a codec where its PSNR is that of a point of the latents."""
    samples = equal_error_samples(point, curves.lines[codec])
    found = bootstrap(samples, random, at_equal_error)
    worst, *_, best = curves.lines[codec]
    return _rate_at(
        key,
        f"Rate of {codec} at the same PSNR, {point.psnr:.1f} dB",
        _per_pixel(found, pixels),
        "Pillow's encoder; between qualities the logarithm of the rate goes straight with the PSNR",
        "PSNR is blind to what is sharp and what is smeared: look at the images below.",
        over,
        f"Its qualities go from {worst.psnr:.1f} dB at {worst.bits.mean() / pixels:.2g} bits per pixel to "
        f"{best.psnr:.1f} dB.",
    )


def _per_pixel(bits: Interval, pixels: int) -> Interval:
    return Interval(bits.value / pixels, bits.low / pixels, bits.high / pixels)


def _rate_at(key: str, title: str, found: Interval, estimator: str, limits: str, over: str, reach: str) -> Figure:
    """Return a rate at a PSNR. found: NaN where no setting has it. reach: which PSNRs the settings have, a sentence."""
    unit = "bits per pixel"
    if math.isnan(found.value):
        return Figure(key, title, None, unit, estimator, limits, note=reach)
    note = f"Some choices of the images are out of reach, so there is no interval. {reach}"
    return Figure.perhaps(key, title, found, unit, estimator, limits, over, note)


def _sentence(findings: Findings, curves: Curves, point: Point, random: np.random.Generator) -> str:
    kept = psnr(float(curves.unquantised.mean()))
    text = (
        f"Latents in steps of {point.setting:g} standard deviations take {findings.value('rate'):.3g} bits per pixel "
        f"and give {point.psnr:.1f} dB, against {kept:.1f} dB without quantising, which is where finer steps lead. "
    )
    compared = [
        _compared(name, curves.lines[name], point, findings.value(key), random)
        for name, key in ((BARE_JPEG, "rate_jpeg"), ("WebP", "rate_webp"))
    ]
    return f"{text}At that PSNR {' and '.join(compared)}."


def _compared(name: str, line: Sequence[Point], point: Point, rate: float | None, random: np.random.Generator) -> str:
    if rate is not None:
        return f"{name} needs {rate:.3g} ({times(_ratio(point, line, random))})"
    psnrs = [each.psnr for each in line]
    return f"{name} has no quality so low" if point.psnr < min(psnrs) else f"{name} has no quality so high"


def _table(curves: Curves, pixels: int, of_rate: np.random.Generator, of_error: np.random.Generator) -> Table:
    """of_rate, of_error: what the intervals of both are drawn by."""
    rows: list[tuple[Cell, ...]] = []
    for name, line in curves.lines.items():
        for point in line:
            rate, error = bootstrap(point.bits / pixels, of_rate), bootstrap(point.error, of_error)
            rates = (rate.value, rate.low, rate.high, rate.value * pixels / 8)
            rows.append((name, point.setting, *rates, point.psnr, psnr(error.high), psnr(error.low)))
    kept = psnr(float(curves.unquantised.mean()))
    return Table(
        "rate",
        "Rate and distortion",
        (
            "codec",
            "step or quality",
            "bits per pixel",
            "low",
            "high",
            "bytes per image",
            "PSNR, dB",
            "PSNR: low",
            "PSNR: high",
        ),
        tuple(rows),
        f"low and high: of the rate, PSNR: low and high: of that; {over_resampled(len(curves.places))}. Steps are in "
        f"standard deviations of the latents; as they are they give {kept:.4g} dB. Draws: the bits are the KL of the "
        "posterior against a model of all latents; nothing was written. PSNR of the mean squared error over all "
        "images.",
    )


def _plot(curves: Curves, pixels: int) -> Picture:
    lines = {
        name: [(float(point.bits.mean()) / pixels, point.psnr) for point in line] for name, line in curves.lines.items()
    }
    rates = [rate for line in lines.values() for rate, _ in line]
    kept = psnr(float(curves.unquantised.mean()))
    lines["latents, not quantised"] = [(min(rates), kept), (max(rates), kept)]
    image = draw_lines(lines, "bits per pixel", "PSNR, dB", log_x=True)
    return Picture(
        "rate", "Rate and distortion of the latents beside JPEG and WebP, on the same images.", to_png(image)
    )


def _images(study: Study, curves: Curves, point: Point) -> Picture:
    """Show images, and what codecs make of them with about as many bits."""
    budget = float(point.bits.mean())
    columns = [study.pictures.pixels[curves.places[: len(point.shown)]], point.shown]
    captions = ["image", f"latents, {budget / 8:.0f} bytes"]
    for name in (BARE_JPEG, "WebP"):
        nearest = min(curves.lines[name], key=lambda each: abs(math.log(float(each.bits.mean()) / budget)))
        columns.append(nearest.shown)
        captions.append(f"{name.split()[0]}, {nearest.bits.mean() / 8:.0f} bytes")
    levels = np.stack(columns, axis=1).reshape(-1, *columns[0].shape[1:])
    images = levels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    return Picture(
        "rate_images",
        f"From the left: the image, its latents in steps of {point.setting:g} standard deviations, and JPEG (bytes "
        "without headers) and WebP at the quality nearest to as many bytes.",
        to_png(image_grid(images, len(columns), captions * len(point.shown))),
    )
