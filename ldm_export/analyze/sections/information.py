"""Information: what the posterior tells of an image, between bounds; unused channels; entropy; rate and distortion."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.mutual_information import (
    gaussian_channel_bound,
    is_at_ceiling,
    kl_to_standard_normal,
    minibatch_bound,
)
from ldm_export.analyze.posterior import posterior, require_variation
from ldm_export.analyze.sections.information_curves import measure_curves
from ldm_export.analyze.sections.information_entropy import add_entropies
from ldm_export.analyze.sections.information_rate import add_rate
from ldm_export.analyze.statistics import (
    Interval,
    bootstrap,
    over_resampled,
)
from ldm_export.analyze.study import Study
from ldm_export.analyze.units import BIT
from ldm_export.plots import image_grid, to_png

PLAIN, FAINT = 4.0, 0.3  # bits of KL for each number, above and below which its weight is as good as none, or too high
ACTIVE = 0.01  # variance of means, unscaled (Burda et al. 2016)
COLLAPSED = 0.05  # bits of KL for each number of a channel: about a variance of means of 0.07 in N(0, 1)
INACTIVE = 0.1  # share of a channel's cells that are active, below which it counts as constant
ACTIVE_RESAMPLES = 200
SHOWN = 6  # images


def measure(study: Study) -> Findings:
    """Measure bounds, entropies and the rate-distortion curve."""
    require_variation(study.latents)
    findings = Findings()
    bits = None
    if study.subject.contract.encodes_moments:
        mean, variance = posterior(study.moments)
        kl = kl_to_standard_normal(mean, variance) / BIT
        _add_kl(findings, study, kl)
        bits = _add_bounds(findings, study, mean, variance)
        _add_channels(findings, study, kl, mean, variance)
        findings.pictures.append(_map(study, kl))
    else:
        _say_no_posterior(findings)
    add_entropies(findings, study)
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


@dataclass(frozen=True)
class _Channel:
    """A channel. used: bits of KL for each number, image: of an image. active: share of its cells. signal, noise:
    variance of the posterior's mean over images, and of the posterior.
    """

    used: Interval
    image: float
    active: float
    signal: float
    noise: float


def _add_channels(findings: Findings, study: Study, kl: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> None:
    """Tell how each channel is used, and warn of those that are not."""
    random = study.random("information channels")
    active, figure = _active_units(mean, random)
    findings.figures.append(figure)
    share = active.mean(axis=(1, 2))
    signal, noise = mean.var(axis=0).mean(axis=(1, 2)), variance.mean(axis=(0, 2, 3))
    channels = [
        _Channel(
            bootstrap(kl[:, place].mean(axis=(1, 2)), random),
            float(kl[:, place].sum(axis=(1, 2)).mean()),
            float(share[place]),
            float(signal[place]),
            float(noise[place]),
        )
        for place in range(len(share))
    ]
    findings.tables.append(_channels_table(channels, over_resampled(len(mean))))
    reasons = [unused_reason(each.used.value, each.active, each.signal, each.noise) for each in channels]
    findings.warnings += [f"Channel {place + 1} {reason}." for place, reason in enumerate(reasons) if reason]
    findings.sentences.append(channels_sentence(float(active.mean()), sum(map(bool, reasons)), len(reasons)))


def _active_units(mean: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, Figure]:
    """Return which numbers of the latents vary between images, bool (C, h, w), and how many those are."""
    flat = mean.reshape(len(mean), -1)
    active = flat.var(axis=0) > ACTIVE
    found = bootstrap(flat, random, lambda part: float((part.var(axis=0) > ACTIVE).sum()), ACTIVE_RESAMPLES)
    figure = Figure.measured(
        "active",
        "Active units: numbers of the latents whose mean varies between images",
        found,
        f"of {active.size}",
        f"variance of the posterior's mean over {len(mean)} images above {ACTIVE} (Burda et al. 2016)",
        "The threshold is for unscaled latents that are about as wide as N(0, 1). Active does not mean useful: see "
        "the KL of each channel.",
        over_resampled(len(mean)),
    )
    return active.reshape(mean.shape[1:]), figure


def _channels_table(channels: Sequence[_Channel], over: str) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            number,
            each.used.value,
            each.used.low,
            each.used.high,
            each.image,
            each.active,
            each.signal,
            each.noise,
            each.signal / each.noise,
        )
        for number, each in enumerate(channels, 1)
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
        f"Unscaled, averaged over cells; low and high: {over}. A channel has collapsed below {COLLAPSED} bits of KL "
        "per number."
    )
    return Table("channels", "The posterior, by channel", head, rows, note)


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
