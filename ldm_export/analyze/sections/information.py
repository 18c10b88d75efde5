"""Information: what the posterior tells of an image, between bounds; unused channels; entropy; rate and distortion."""

import math

import numpy as np

from ldm_export.analyze.entropy import (
    MOST_DIMENSIONS,
    gaussian_entropy,
    neighbour_entropy,
    neighbour_error,
    principal_components,
)
from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.mutual_information import (
    gaussian_channel_bound,
    is_at_ceiling,
    kl_to_standard_normal,
    minibatch_bound,
)
from ldm_export.analyze.posterior import drawn_latents, posterior, require_variation
from ldm_export.analyze.rate_distortion import measure_curves
from ldm_export.analyze.sections.information_rate import add_rate
from ldm_export.analyze.statistics import Interval, bootstrap, spread
from ldm_export.analyze.study import Study
from ldm_export.plots import image_grid, to_png

BIT = math.log(2)  # nats
PLAIN, FAINT = 4.0, 0.3  # bits of KL for each number, above and below which its weight is as good as none, or too high
ACTIVE = 0.01  # variance of means, unscaled (Burda et al. 2016)
COLLAPSED = 0.1  # share of a channel's cells that are active, below which it counts as unused
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
        _add_channels(findings, kl, mean, variance)
        findings.pictures.append(_map(study, kl))
    else:
        _say_no_posterior(findings)
    _add_entropies(findings, study)
    add_rate(findings, study, measure_curves(study, bits))
    return findings


def _over(count: int) -> str:
    return f"95 % by bootstrap over {count} images"


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
            _over(len(kl)),
        ),
        Figure.measured(
            "kl_number",
            "The same per number of the latents",
            per_number,
            "bits",
            estimator,
            "A mean: single channels are in the table.",
            _over(len(kl)),
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
    ceiling = math.log2(count)
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
            _over(count),
        )
    )
    at_ceiling = is_at_ceiling(below.value * BIT, count)
    name, title, unit = "information_below", "Information between image and latents: at least", "bits per image"
    estimator = f"minibatch estimate with the encoder's own posterior, {count} images"
    limits = f"It cannot say more than log2 of the images, here {ceiling:.3g} bits."
    if at_ceiling:
        note = (
            f"At its ceiling: the {count} images are told from one another without doubt, which takes {ceiling:.3g} "
            "bits, and the estimate can say no more."
        )
        findings.figures.append(Figure(name, title, None, unit, estimator, limits, note=note))
    else:
        findings.figures.append(Figure.measured(name, title, below, unit, estimator, limits, _over(count)))
    kl_image = findings.value("kl_image") or 0.0
    most = min(kl_image, above.value)
    pixels = study.pictures.size[0] * study.pictures.size[1]
    lowest = ceiling if at_ceiling else min(below.value, most)
    least = f"{lowest:.3g} bits" + (f", which is all that {count} images can show," if at_ceiling else "")
    findings.sentences.append(
        f"A draw of the latents tells between {least} and {most:,.0f} bits ({most / 8:,.0f} bytes, {most / pixels:.3g} "
        f"bits per pixel) about its image. N(0, I) as a model of all latents gives {kl_image:,.0f} bits as the upper "
        f"bound, a fitted Gaussian {above.value:,.0f}."
    )
    return bits


def _add_channels(findings: Findings, kl: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> None:
    """Tell how each channel is used, and warn of those that are not."""
    spread_of_means = mean.var(axis=0)  # (C, h, w)
    active = spread_of_means > ACTIVE
    findings.figures.append(
        Figure(
            "active",
            "Active units: numbers of the latents whose mean varies between images",
            int(active.sum()),
            f"of {active.size}",
            f"variance of the posterior's mean over {len(mean)} images above {ACTIVE} (Burda et al. 2016)",
            "The threshold is for unscaled latents that are about as wide as N(0, 1). Active does not mean useful.",
            interval="a count",
        )
    )
    share = active.mean(axis=(1, 2))
    signal, noise = spread_of_means.mean(axis=(1, 2)), variance.mean(axis=(0, 2, 3))
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            channel + 1,
            float(kl[:, channel].mean()),
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
        "KL, bits per image",
        "active share",
        "variance of means",
        "posterior's variance",
        "signal to noise",
    )
    findings.tables.append(Table("channels", "The posterior, by channel", head, rows, "Unscaled, averaged over cells."))
    for channel in range(len(share)):
        reason = unused_reason(float(share[channel]), float(signal[channel]), float(noise[channel]))
        if reason:
            findings.warnings.append(f"Channel {channel + 1} {reason}.")
    unused = len(findings.warnings)
    findings.sentences.append(
        f"{active.mean():.0%} of the latents' numbers are active, "
        + (f"and {unused} of {len(share)} channels carry less than they could." if unused else "in every channel.")
    )


def unused_reason(active: float, signal: float, noise: float) -> str:
    """Return why a channel says little, "" if it does not.

    active: share of its cells. signal, noise: variance of the posterior's mean over images, and of the posterior.
    """
    if active < COLLAPSED and noise > 0.5:
        return (
            f"has collapsed: its posterior is N(0, 1) for nearly every image (its mean varies by {signal:.2g}, its own "
            f"variance is {noise:.2g}). The KL term won: lower its weight, or raise it slowly, or take fewer channels"
        )
    if active < COLLAPSED:
        return (
            f"is constant: its mean varies by {signal:.2g} over the images although its noise is only {noise:.2g}. The "
            "decoder does without it, so fewer channels would do"
        )
    if signal < noise:
        return (
            f"is mostly noise: its mean varies by {signal:.2g} over the images, less than the posterior's own variance "
            f"of {noise:.2g}. It carries less than half a bit for each number; the KL term is heavy for what it holds"
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
        reduced = principal_components(cells.reshape(-1, channels), used)
        cells = reduced.reshape(count, height * width, used)
    places = random.integers(0, height * width, (DRAWS, count))
    draws = [cells[np.arange(count), each] for each in places]
    what = f"{used} channels" if used == channels else f"{used} principal components of {channels} channels"
    _add_entropy(findings, "cell", f"a latent cell, {what}", draws, study)
    parts = min(MOST_DIMENSIONS, count // 16)
    projected = principal_components(latents.reshape(count, -1), parts)
    halves = [projected[random.permutation(count)[: count // 2]] for _ in range(DRAWS)]
    _add_entropy(findings, "components", f"the first {parts} principal components of the whole latents", halves, study)


def _add_entropy(findings: Findings, name: str, what: str, draws: list[np.ndarray], study: Study) -> None:
    dimensions, count = draws[0].shape[1], len(draws[0])
    bound = spread(np.array([gaussian_entropy(each) for each in draws]) / BIT)
    over = f"range of {len(draws)} draws of {count} points"
    scale = "Differential entropy moves with the latents' scale by log2 of it, and may be negative."
    title, estimator = f"Entropy of {what}: at most", "entropy of a Gaussian with the same covariance"
    if not math.isfinite(bound.low):
        note = "Some direction does not vary, so there is no density."
        findings.figures.append(Figure(f"entropy_{name}_gaussian", title, None, "bits", estimator, scale, note=note))
        return
    findings.figures.append(
        Figure.measured(f"entropy_{name}_gaussian", title, bound, "bits", estimator, scale, over),
    )
    title, estimator = f"Entropy of {what}: estimate", "fourth nearest neighbour (Kozachenko and Leonenko 1987)"
    estimates = np.array([neighbour_entropy(each) for each in draws]) / BIT
    if not np.isfinite(estimates).all():
        note = "Some images have exactly the same values there, so there is no density."
        findings.figures.append(Figure(f"entropy_{name}", title, None, "bits", estimator, scale, note=note))
        return
    error = neighbour_error(draws[0], study.random(f"entropy {name}")) / BIT
    if abs(error) > MOST_ERROR * dimensions:
        note = (
            f"Too few points: on a Gaussian, {count} points in {dimensions} dimensions leave it {error:+.2g} bits off."
        )
        findings.figures.append(Figure(f"entropy_{name}", title, None, "bits", estimator, scale, note=note))
        return
    limits = f"{scale} On a Gaussian of as many points it is off by {error:+.2g} bits."
    found = spread(estimates)
    findings.figures.append(
        Figure.measured(f"entropy_{name}", title, found, "bits", estimator, limits, over),
    )
    gap = bound.value - found.value
    findings.sentences.append(
        f"The entropy of {what} is {gap:.2g} bits below that of a Gaussian with the same covariance: "
        + (
            "close to one."
            if gap < MOST_ERROR * dimensions
            else "its values cluster, and a model that knows where would need that many bits less than a Gaussian."
        )
    )
