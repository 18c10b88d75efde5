"""Information: what the posterior tells of an image, between bounds; unused channels; entropy; rate and distortion."""

import math
from collections.abc import Callable

import numpy as np

from ldm_export.analyze.entropy import (
    MOST_DIMENSIONS,
    gaussian_entropy,
    neighbour_entropy,
    neighbour_error,
)
from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.frechet import main_directions
from ldm_export.analyze.mutual_information import (
    gaussian_channel_bound,
    is_at_ceiling,
    kl_to_standard_normal,
    minibatch_bound,
)
from ldm_export.analyze.posterior import drawn_latents, posterior, require_variation
from ldm_export.analyze.sections.information_curves import measure_curves
from ldm_export.analyze.sections.information_rate import add_rate
from ldm_export.analyze.statistics import NORMAL_95, Interval, bootstrap, groups_of, jackknife, over_resampled
from ldm_export.analyze.study import Study
from ldm_export.analyze.units import BIT
from ldm_export.analyze.wording import counted
from ldm_export.plots import image_grid, to_png

PLAIN, FAINT = 4.0, 0.3  # bits of KL for each number, above and below which its weight is as good as none, or too high
ACTIVE = 0.01  # variance of means, unscaled (Burda et al. 2016)
COLLAPSED = 0.05  # bits of KL for each number of a channel: about a variance of means of 0.07 in N(0, 1)
INACTIVE = 0.1  # share of a channel's cells that are active, below which it counts as constant
ACTIVE_RESAMPLES = 200
DRAWS = 16  # of one cell of each image
MOST_ERROR = 0.15  # bits for each dimension by which the estimate by neighbours may be off on a Gaussian
SHOWN = 6  # images


def measure(study: Study) -> Findings:
    """Measure bounds, entropies and the rate-distortion curve."""
    require_variation(study)
    findings = Findings()
    bits = None
    if study.subject.contract.encodes_moments:
        mean, variance = posterior(study)
        kl = kl_to_standard_normal(mean, variance) / BIT
        _add_kl(findings, study, kl)
        bits = _add_bounds(findings, study, mean, variance)
        _add_channels(findings, study, kl, mean, variance)
        findings.pictures.append(_map(study, kl))
    else:
        _say_no_posterior(findings)
    _add_entropies(findings, study)
    add_rate(findings, study, measure_curves(study, bits))
    return findings


def _say_no_posterior(findings: Findings) -> None:
    reason = "This encoder gives latents and no posterior: without noise, KL and mutual information are infinite."
    for name, title in (
        ("kl_image", "KL of the posterior against N(0, I), per image"),
        ("information_above", "Information between image and latents: at most"),
        ("information_below", "Information between image and latents: at least"),
        ("active", "Active units"),
    ):
        findings.figures.append(Figure(name, title, None, "bits", "none", "It needs a posterior.", note=reason))
    findings.sentences.append(f"{reason} What it keeps is told by the rate of its quantised latents below.")


# --- The posterior ---


def _add_kl(findings: Findings, study: Study, kl: np.ndarray) -> None:
    """kl: (N, C, h, w) in bits."""
    random = study.random("information kl")
    per_image = bootstrap(kl.sum(axis=(1, 2, 3)), random)
    numbers = kl[0].size
    per_number = Interval(*(each / numbers for each in (per_image.value, per_image.low, per_image.high)))
    estimator = "closed form for Gaussians, on the unscaled latents"
    findings.figures += [
        Figure.measured(
            "kl_image",
            "KL of the posterior against N(0, I), per image",
            per_image,
            "bits",
            estimator,
            "Also an upper bound of the information between image and latents; loose where they are far from N(0, I).",
            over_resampled(len(kl)),
        ),
        Figure.measured(
            "kl_number",
            "The same per number of the latents",
            per_number,
            "bits",
            estimator,
            "A mean: single channels are in the table.",
            over_resampled(len(kl)),
        ),
    ]
    each = per_number.value
    if each >= PLAIN:
        said = "its noise is next to nothing, as in an autoencoder without a KL term. Blur does not come from that term"
    elif each >= FAINT:
        said = "its noise is felt. With a lower weight of the KL term more detail could pass"
    else:
        said = "it is almost N(0, I) for every image, so little passes. The KL term weighs too much, or rose too fast"
    findings.sentences.append(f"The posterior differs from N(0, I) by {each:.3g} bits for each number: {said}.")


def _add_bounds(findings: Findings, study: Study, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the bits of each image at the upper bound, (N,)."""
    count = len(mean)
    flat, noise = mean.reshape(count, -1), variance.reshape(count, -1)
    random = study.random("information bounds")
    bits = gaussian_channel_bound(flat, noise, random) / BIT
    above = bootstrap(bits, random)
    below = bootstrap(minibatch_bound(flat, noise, random) / BIT, random)
    findings.figures.append(
        Figure.measured(
            "information_above",
            "Information between image and latents: at most",
            above,
            "bits per image",
            "bound of a Gaussian channel: KL against a Gaussian with shrunk covariance, which is fitted to half of the "
            "images and measured on the others, both ways",
            "With the same noise for all images it is 1/2 sum log2(1 + lambda / sigma^2); noise that differs between "
            "images, and latents that are no Gaussian, leave it above the information. More images lower it.",
            over_resampled(count),
        )
    )
    findings.figures.append(_below(below, count))
    kl_image = findings.value("kl_image") or 0.0
    most = min(kl_image, above.value)
    pixels = study.pictures.size[0] * study.pictures.size[1]
    lowest = findings.value("information_below")
    findings.sentences.append(
        f"A draw of the latents tells {between(lowest, most)} bits ({most / 8:,.0f} bytes, {most / pixels:.3g} bits "
        f"per pixel) about its image. N(0, I) as a model of all latents gives {kl_image:,.0f} bits as the upper bound, "
        f"a fitted Gaussian {above.value:,.0f}."
        + (
            f" The lower estimate is at its ceiling with {count} images."
            if is_at_ceiling(below.value * BIT, count)
            else ""
        )
    )
    return bits


def _below(below: Interval, count: int) -> Figure:
    """Return the minibatch estimate, or why it says nothing."""
    name, title, unit = "information_below", "Information between image and latents: at least", "bits per image"
    estimator = f"minibatch estimate with the encoder's own posterior, {count} images"
    limits = (
        "It cannot say more than log2 of the number of images, and may be a little above what it bounds, by chance."
    )
    note = (
        f"At its ceiling: the {count} images are told from one another without doubt, and over so many the estimate "
        "can say no more."
        if is_at_ceiling(below.value * BIT, count)
        else "Not informative: the estimate is not above 0."
        if below.value <= 0
        else ""
    )
    if note:
        return Figure(name, title, None, unit, estimator, limits, note=note)
    return Figure.measured(name, title, below, unit, estimator, limits, over_resampled(count))


def between(lowest: float | None, most: float) -> str:
    """Say the bounds of a number of bits, of which the lower may be missing, or by chance above the upper."""
    if lowest is None:
        return f"at most {most:,.0f}"
    if lowest > most:
        return f"about {most:,.3g}"
    return f"between {lowest:,.3g} and {most:,.3g}"


def _add_channels(findings: Findings, study: Study, kl: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> None:
    """Tell how each channel is used, and warn of those that are not."""
    random = study.random("information channels")
    flat = mean.reshape(len(mean), -1)
    active = flat.var(axis=0) > ACTIVE
    counted = bootstrap(flat, random, lambda part: float((part.var(axis=0) > ACTIVE).sum()), ACTIVE_RESAMPLES)
    findings.figures.append(
        Figure.measured(
            "active",
            "Active units: numbers of the latents whose mean varies between images",
            counted,
            f"of {active.size}",
            f"variance of the posterior's mean over {len(mean)} images above {ACTIVE} (Burda et al. 2016)",
            "The threshold is for unscaled latents that are about as wide as N(0, 1). Active does not mean useful: see "
            "the KL of each channel.",
            over_resampled(len(mean)),
        )
    )
    share = active.reshape(mean.shape[1:]).mean(axis=(1, 2))
    signal, noise = mean.var(axis=0).mean(axis=(1, 2)), variance.mean(axis=(0, 2, 3))
    used = [bootstrap(kl[:, channel].mean(axis=(1, 2)), random) for channel in range(len(share))]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            channel + 1,
            used[channel].value,
            used[channel].low,
            used[channel].high,
            float(kl[:, channel].sum(axis=(1, 2)).mean()),
            float(share[channel]),
            float(signal[channel]),
            float(noise[channel]),
            float(signal[channel] / noise[channel]),
        )
        for channel in range(len(share))
    )
    head = (
        "channel",
        "KL, bits per number",
        "low",
        "high",
        "KL, bits per image",
        "active share",
        "variance of means",
        "posterior's variance",
        "signal to noise",
    )
    note = (
        f"Unscaled, averaged over cells; low and high: {over_resampled(len(mean))}. A channel has collapsed below "
        f"{COLLAPSED} bits of KL per number."
    )
    findings.tables.append(Table("channels", "The posterior, by channel", head, rows, note))
    reasons = [
        unused_reason(used[channel].value, float(share[channel]), float(signal[channel]), float(noise[channel]))
        for channel in range(len(share))
    ]
    findings.warnings += [f"Channel {place + 1} {reason}." for place, reason in enumerate(reasons) if reason]
    findings.sentences.append(channels_sentence(float(active.mean()), sum(map(bool, reasons)), len(reasons)))


def channels_sentence(active: float, unused: int, channels: int) -> str:
    """Say how many numbers are active, a share, and how many channels carry less than they could."""
    text = f"{active:.0%} of the latents' numbers are active"
    if not unused:
        return text + (", and no channel carries less than it could." if channels > 1 else ".")
    if channels == 1:
        return text + ", and their only channel carries less than it could."
    less = "carries less than it could" if unused == 1 else "carry less than they could"
    return text + f", and {unused} of {channels} channels {less}."


def unused_reason(kl: float, active: float, signal: float, noise: float) -> str:
    """Return why a channel says little, "" if it does not.

    kl: bits for each number, against N(0, 1). active: share of its cells. signal, noise: variance of the posterior's
    mean over images, and of the posterior.
    """
    if kl < COLLAPSED:
        though = (
            f" Its numbers count as active, for their means vary by more than {ACTIVE}, but that drowns in the noise."
            if active >= INACTIVE
            else ""
        )
        return (
            f"has collapsed: its KL is {kl:.2g} bits per number, so its posterior is N(0, 1) for nearly every image "
            f"(its mean varies by {signal:.2g}, its own variance is {noise:.2g}).{though} The KL term won: lower its "
            "weight, or raise it slowly, or take fewer channels"
        )
    if active < INACTIVE:
        return (
            f"is constant: its mean varies by {signal:.2g} over the images (its noise is {noise:.2g}), so its KL of "
            f"{kl:.2g} bits per number is paid for the same values in every image. The decoder does without it, so "
            "fewer channels would do"
        )
    if signal < noise:
        return (
            f"is mostly noise: its mean varies by {signal:.2g} over the images, less than the posterior's own variance "
            f"of {noise:.2g}. As a Gaussian channel it carries less than half a bit for each number; the KL term is "
            "heavy for what it holds"
        )
    return ""


def _map(study: Study, kl: np.ndarray) -> Picture:
    """Show where in an image the bits are: KL of each cell beside the image."""
    places = np.linspace(0, len(kl) - 1, min(SHOWN, len(kl))).astype(int)
    shown = kl[places].sum(axis=1)
    white = float(np.quantile(shown, 0.99))
    cell = study.subject.contract.latent.downsample
    grey = np.kron(np.minimum(shown / white, 1) * 2 - 1, np.ones((1, cell, cell)))[:, None]
    maps = np.broadcast_to(grey, (len(grey), 3, *grey.shape[2:]))
    image = image_grid(np.concatenate([study.pixels[places], maps]), len(shown))
    caption = f"Where the bits are: KL of each latent cell, black 0, white {white:.3g} bits and more, under its image."
    return Picture("bits", caption, to_png(image))


# --- Entropy ---


def _add_entropies(findings: Findings, study: Study) -> None:
    """Measure the density of single cells and of the first principal components, as the denoiser has them."""
    random = study.random("information entropy")
    latents = drawn_latents(study, random)
    count, channels, height, width = latents.shape
    used = min(channels, MOST_DIMENSIONS)
    cells = latents.transpose(0, 2, 3, 1).reshape(count, height * width, channels)
    if used < channels:
        cells = cells @ main_directions(cells.reshape(-1, channels), used)
    everything = np.arange(count)
    draws = [(everything, cells[everything, random.integers(0, height * width, count)]) for _ in range(DRAWS)]
    what = counted(channels, "channel")
    if used < channels:
        what = f"{used} principal components of {what}"
    _add_entropy(findings, "cell", f"a latent cell ({what})", draws, study)
    parts = min(MOST_DIMENSIONS, count // 16)
    flat, order = latents.reshape(count, -1), random.permutation(count)
    halves = (order[: count // 2], order[count // 2 :])
    # Components of the very images that are measured would have too much variance: they are those of the other half.
    held_out = [(one, flat[one] @ main_directions(flat[other], parts)) for one, other in (halves, halves[::-1])]
    _add_entropy(
        findings, "components", f"the first {parts} principal components of the whole latents", held_out, study
    )


def _add_entropy(
    findings: Findings, name: str, what: str, draws: list[tuple[np.ndarray, np.ndarray]], study: Study
) -> None:
    """draws: of the same density, each the numbers of some images and a point of each of them."""
    count, dimensions = draws[0][1].shape
    images = 1 + max(int(numbers.max()) for numbers, _ in draws)
    groups = groups_of(images, study.random(f"entropy {name} groups"))
    over = f"95 % by the jackknife over {images} images in {groups.max() + 1} groups"
    scale = "Differential entropy moves with the latents' scale by log2 of it, and may be negative."
    title, estimator = (
        f"Entropy of {what}: at most",
        f"entropy of a Gaussian with the same covariance, without the bias of its logarithm; mean of {len(draws)} "
        f"draws of {count} points",
    )
    key = f"entropy_{name}_gaussian"
    limits = f"{scale} The bias is that of Gaussian points, others leave some."
    if not all(math.isfinite(gaussian_entropy(points)) for _, points in draws):
        note = "Some direction does not vary, so there is no density."
        findings.figures.append(Figure(key, title, None, "bits", estimator, limits, note=note))
        return

    def mean_of(estimate: Callable[[np.ndarray], float], kept: np.ndarray) -> float:
        return float(np.mean([estimate(points[kept[numbers]]) for numbers, points in draws])) / BIT

    bound = _as_interval(jackknife(groups, lambda kept: np.array([mean_of(gaussian_entropy, kept)])), 0)
    findings.figures.append(Figure.measured(key, title, bound, "bits", estimator, limits, over))
    title = f"Entropy of {what}: estimate"
    estimator = (
        "fourth nearest neighbour (Kozachenko and Leonenko 1987), without its bias on a Gaussian like the points"
    )
    if not all(math.isfinite(neighbour_entropy(points)) for _, points in draws):
        note = "Some images have exactly the same values there, so there is no density."
        findings.figures.append(Figure(f"entropy_{name}", title, None, "bits", estimator, scale, note=note))
        return
    bias, uncertain = (each / BIT for each in neighbour_error(count, dimensions, study.random(f"entropy {name}")))
    if abs(bias) > MOST_ERROR * dimensions:
        note = (
            f"Too few points: on a Gaussian, {count} points in {dimensions} dimensions leave it {bias:+.2g} bits off."
        )
        findings.figures.append(Figure(f"entropy_{name}", title, None, "bits", estimator, scale, note=note))
        return

    def both(kept: np.ndarray) -> np.ndarray:
        estimate = mean_of(neighbour_entropy, kept) - bias
        return np.array([estimate, mean_of(gaussian_entropy, kept) - estimate])

    ends = jackknife(groups, both)
    limits = (
        f"{scale} The bias that was taken off is {bias:+.2g} bits (± {2 * uncertain:.1g}); on what is no Gaussian it "
        "may be another."
    )
    found = _wider(_as_interval(ends, 0), NORMAL_95 * uncertain)
    findings.figures.append(Figure.measured(f"entropy_{name}", title, found, "bits", estimator, limits, over))
    gap = _wider(_as_interval(ends, 1), NORMAL_95 * uncertain)
    findings.figures.append(
        Figure.measured(
            f"entropy_{name}_gap",
            f"Entropy of {what}: how far below that of a Gaussian",
            gap,
            "bits",
            "difference of the two figures above, by leaving out the same images in both",
            "0 for a Gaussian, on average: below 0 is chance.",
            over,
        )
    )
    findings.sentences.append(gap_sentence(what, gap, dimensions))


def _as_interval(ends: tuple[np.ndarray, np.ndarray, np.ndarray], place: int) -> Interval:
    return Interval(*(float(each[place]) for each in ends))


def _wider(found: Interval, more: float) -> Interval:
    """Return an interval with a further, independent error."""
    low, high = math.hypot(found.value - found.low, more), math.hypot(found.high - found.value, more)
    return Interval(found.value, found.value - low, found.value + high)


def gap_sentence(what: str, gap: Interval, dimensions: int) -> str:
    """Say how far an entropy is below that of a Gaussian with the same covariance."""
    values = f"({gap.value:.2g} bits, {gap.low:.2g} to {gap.high:.2g})"
    if gap.low <= 0:
        return f"The entropy of {what} is not told from that of a Gaussian with the same covariance {values}."
    text = f"The entropy of {what} is below that of a Gaussian with the same covariance {values}: "
    if gap.value < MOST_ERROR * dimensions:
        return text + "close to one."
    return text + "its values cluster, and a model that knows where would need that many bits less than a Gaussian."
