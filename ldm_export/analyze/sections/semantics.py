"""Semantics: whether near latents are images that look alike, and what a change of one is for the other."""

from collections.abc import Sequence

import numpy as np

from ldm_export.analyze.distances import advantage, agreement, pair_distances, typical_distance
from ldm_export.analyze.findings import Figure, Findings, Picture, Table
from ldm_export.analyze.sections.semantics_changes import (
    Change,
    Consistency,
    Scales,
    measure_change,
    measure_mean,
    measure_operation,
)
from ldm_export.analyze.statistics import Interval, bootstrap, over_resampled, pearson, spearman
from ldm_export.analyze.study import Study
from ldm_export.analyze.transforms import transforms
from ldm_export.errors import AnalysisError
from ldm_export.plots import draw_lines, image_grid, to_png

MARGIN = 0.1  # of the pixels' reaction, by which that of latents is the same
MOST_LEFT = 0.5  # of a change of latents, below which most of it is made up for
LINEAR = 0.5  # of half the distance of two images, within which the mean of their latents lands


def measure(study: Study) -> Findings:
    """Correlate distances, change images, and operate on latents."""
    findings = Findings()
    scales = _add_distances(study, findings)
    _add_alignment(study, findings, scales)
    height, width = study.pixels.shape[2:]
    changes = transforms(study.subject.contract.latent.downsample, height == width, study.random("semantics noise"))
    count = min(len(study.pictures), study.scaled_by_size(64, 8, least=8))
    progress = study.progress("semantics: images changed", 2 * len(changes))
    measured = []
    for transform in changes:
        measured.append(measure_change(study, transform, count, scales))
        progress.advance()
    _add_changes(study, findings, measured)
    operations = []
    for transform in changes:
        if transform.on_latents is not None:
            operations.append(measure_operation(study, transform, count, scales))
        progress.advance()
    operations.append(measure_mean(study, count, scales))
    _add_consistency(study, findings, operations)
    return findings


# --- Distances ---


def _add_distances(study: Study, findings: Findings) -> Scales:
    count = min(len(study.pictures), study.scaled(256, 96))
    resamples = study.scaled(400, 100)
    spaces = {
        "latents": pair_distances(study.latents[:count]),
        "pixels": pair_distances(study.pixels[:count]),
        "features": pair_distances(study.features[:count]),
    }
    for name, distances in spaces.items():
        if not distances.max() > 0:
            raise AnalysisError(f"the {count} images are all the same in {name}: there is no distance between them")
    if any(np.ptp(each[np.triu_indices(count, 1)]) == 0 for each in spaces.values()):
        raise AnalysisError(f"all pairs of the {count} images are equally far apart: there is nothing to correlate")
    random = study.random("semantics distances")
    over = f"{over_resampled(count)}, {resamples} times"
    found: dict[str, Interval] = {}
    for one, other in (("latents", "pixels"), ("latents", "features"), ("pixels", "features")):
        for kind, correlation in (("spearman", spearman), ("pearson", pearson)):
            name = f"{kind}_{one}_{other}"
            found[name] = agreement(spaces[one], spaces[other], correlation, random, resamples)
            findings.figures.append(
                _correlation(
                    name,
                    f"Correlation of distances in {one} with distances in {other} ({kind.capitalize()})",
                    found[name],
                    f"{kind.capitalize()}'s correlation over all {count * (count - 1) // 2} pairs of {count} images; "
                    f"features of {study.extractor.name}",
                    "Euclidean distances of whole images: an object that only moved is far away in pixels.",
                    over,
                )
            )
    better = advantage(spaces["latents"], spaces["pixels"], spaces["features"], spearman, random, resamples)
    findings.figures.append(
        _correlation(
            "advantage",
            "By how much latents order images more like features than pixels do",
            better,
            "difference of the two correlations by Spearman, on the same resampled images",
            f"What looks alike is what {study.extractor.name} finds alike; it is not a person.",
            over,
        )
    )
    findings.sentences.append(_distance_sentence(found, better))
    findings.pictures.append(_distance_plot(spaces))
    return Scales(**{name: typical_distance(distances) for name, distances in spaces.items()})


def _correlation(name: str, title: str, found: Interval, estimator: str, limits: str, over: str) -> Figure:
    """Return a figure; without an interval where most resamples have no distances that differ."""
    note = "Nearly all images are alike, so that resampling them tells of no interval."
    return Figure.perhaps(name, title, found, "", estimator, limits, over, note)


def _distance_sentence(found: dict[str, Interval], better: Interval) -> str:
    to_pixels, to_features = found["spearman_latents_pixels"].value, found["spearman_latents_features"].value
    nature = _nature(found["spearman_latents_pixels"], found["spearman_latents_features"])
    said = {
        True: "Latents are a better guide to what looks alike than pixels are",
        False: "Latents are a worse guide to what looks alike than pixels are",
        None: "Latents are no better and no worse a guide to what looks alike than pixels are, as far as these images "
        "can tell",
    }[True if better.low > 0 else False if better.high < 0 else None]
    known = "" if np.isnan(better.low) else f", from {better.low:+.3f} to {better.high:+.3f}"
    return (
        f"The rank correlation of distances between latents with those between pixels is {to_pixels:.2f}, with those "
        f"between features {to_features:.2f}: the latent space is {nature}. {said} (difference "
        f"{better.value:+.3f}{known})."
    )


def _nature(to_pixels: Interval, to_features: Interval) -> str:
    """Say what latents are nearer to. Intervals that meet, or are not known, do not tell."""
    if to_pixels.low > to_features.high:
        return "more of a small image than of a meaning"
    if to_features.low > to_pixels.high:
        return "nearer to looks than to pixels"
    return "about as near to pixels as to looks, as far as these images can tell"


def _distance_plot(spaces: dict[str, np.ndarray]) -> Picture:
    """Plot features' distance over tenths of the pairs, by their distance in latents and in pixels."""
    upper = np.triu_indices(len(spaces["latents"]), 1)
    features = spaces["features"][upper]
    lines = {}
    for name in ("latents", "pixels"):
        parts = np.array_split(features[np.argsort(spaces[name][upper], kind="stable")], 10)
        lines[f"pairs by distance in {name}"] = [
            (10 * place + 5, float(part.mean() / features.mean())) for place, part in enumerate(parts)
        ]
    image = draw_lines(lines, "pairs from the nearest to the farthest, %", "features' distance, mean = 1")
    return Picture(
        "distances",
        "Pairs of images by their distance in latents and in pixels, in tenths, and how far apart their features are "
        "on average: a steep line is a distance that knows what looks alike.",
        to_png(image),
    )


def _add_alignment(study: Study, findings: Findings, scales: Scales) -> None:
    squared = np.square(study.features - study.reconstructed_features).sum(axis=1)
    found = bootstrap(squared, study.random("semantics alignment"))
    over = over_resampled(len(squared))
    estimator = f"mean squared distance of features of {study.extractor.name}"
    whole = scales.features**2
    findings.figures += [
        Figure(
            "alignment_loss",
            "Alignment loss: features of images against features of their reconstructions",
            found.value,
            "squared features",
            estimator,
            "Its size depends on the network of features; compare within one network alone.",
            found.low,
            found.high,
            over,
        ),
        Figure(
            "alignment_share",
            "The same as a share of the squared distance of two different images",
            found.value / whole,
            "",
            f"{estimator}, over that of pairs of different images",
            "0 is a reconstruction with the same features, 1 one that is as unlike as another image.",
            found.low / whole,
            found.high / whole,
            over,
        ),
    ]
    findings.sentences.append(
        f"By its features, a reconstruction is {np.sqrt(found.value / whole):.0%} as far from its image as other "
        f"images are, which is {found.value / whole:.0%} of the squared distance."
    )


# --- Changes of images ---


def _add_changes(study: Study, findings: Findings, changes: Sequence[Change]) -> None:
    random = study.random("semantics changes")
    count = len(changes[0].latents)
    rows = []
    for change in changes:
        latents, pixels, features = (
            bootstrap(each, random) for each in (change.latents, change.pixels, change.features)
        )
        commuted = None if change.commuted is None else bootstrap(change.commuted, random)
        rows.append(
            (
                change.transform.name,
                pixels.value,
                features.value,
                latents.value,
                _range(latents),
                None if commuted is None else commuted.value,
                "" if commuted is None else _range(commuted),
            )
        )
    head = ("change of the image", "pixels", "features", "latents", "from to", "latents, changed alike", "from to")
    findings.tables.append(
        Table(
            "changes",
            "What a change of an image does, as a share of the typical distance to another image",
            head,
            tuple(rows),
            f"Means; from to: {over_resampled(count)}. 0 in a column is invariance. Latents, "
            "changed alike: latents of the changed image against the changed latents of the image; 0 is equivariance. "
            "Turns by other than quarters and shifts by parts of a cell interpolate latents linearly: that counts too.",
        )
    )
    findings.sentences += change_sentences(changes, study.random("semantics changes, sentences"))


def change_sentences(changes: Sequence[Change], random: np.random.Generator) -> list[str]:
    """Say to which changes latents are more and less sensitive than pixels, and which they follow: for sure alone."""
    above, below = (
        {each.transform.name: bootstrap(each.latents - times * each.pixels, random) for each in changes}
        for times in (1 + MARGIN, 1 - MARGIN)
    )
    more = [name for name, over in above.items() if over.low > 0]
    less = [name for name, under in below.items() if under.high < 0]
    alike = [name for name in above if above[name].high <= 0 <= below[name].low]
    beside, said = "Measured by the distance to another image, latents react", []
    if less:
        said.append(f"{beside} less than pixels do to: {'; '.join(less)}.")
    if more:
        said.append(f"{beside} more than pixels do to: {'; '.join(more)}.")
    if len(alike) == len(changes):
        said.append("Latents react to every change of the image as pixels do: they are not invariant to any.")
    elif not less and not more:
        said.append("That latents react more or less than pixels do to any change these images do not tell.")
    return said + _follow_sentences(changes, random)


def _follow_sentences(changes: Sequence[Change], random: np.random.Generator) -> list[str]:
    """Say to which changes of an image the same change of its latents leads: nearer than half the way, for sure."""
    left = {
        each.transform.name: bootstrap(each.commuted - MOST_LEFT * each.latents, random)
        for each in changes
        if each.commuted is not None
    }
    follow = [name for name, over in left.items() if over.high <= 0]
    rest = [name for name, over in left.items() if over.low > 0]
    unclear = [name for name in left if name not in follow and name not in rest]
    said, alike = [], "Changing the grid of latents alike"
    if follow:
        said.append(f"{alike} makes up for most of the difference: {'; '.join(follow)}.")
    if rest:
        said.append(
            f"{'It' if follow else alike} does not make up for most of the difference for these, to which the "
            f"autoencoder is not equivariant: {'; '.join(rest)}."
        )
    if unclear:
        what = "it" if said else alike[0].lower() + alike[1:]
        said.append(f"Whether {what} makes up for most of it these images do not tell of: {'; '.join(unclear)}.")
    return said


def _range(interval: Interval) -> str:
    return f"{interval.low:.3g} to {interval.high:.3g}"


# --- Operations on latents ---


def _add_consistency(study: Study, findings: Findings, operations: Sequence[Consistency]) -> None:
    random = study.random("semantics consistency")
    rows = []
    for each in operations:
        error = bootstrap(each.error, random)
        known = each.share[~np.isnan(each.share)]
        share = float(np.median(known)) if len(known) else None
        rows.append((each.name, error.value, _range(error), share, float(each.features.mean())))
    findings.tables.append(
        Table(
            "consistency",
            "Operations on latents, decoded, against the same on the decoded image",
            ("operation", "levels", "from to", "share of the operation", "features"),
            tuple(rows),
            f"Levels: root mean square of 8-bit values; from to: {over_resampled(len(operations[0].error))}. Share of "
            "the operation: the difference over what the operation changes in the image, median over the images that "
            "it changes; at 1 the operation on latents is as far from its goal as doing nothing. Features: share of "
            "their typical distance.",
        )
    )
    shares = operations[-1].share
    _add_mean(findings, shares[~np.isnan(shares) | np.isnan(operations[-1].error)], random)
    findings.pictures.append(_picture(study, operations))


def _add_mean(findings: Findings, shares: np.ndarray, random: np.random.Generator) -> None:
    """Report how far the decoder is from linear between two images. shares: of pairs that differ, (pairs,)."""
    title = "The mean of two latents, decoded, against the mean of the two images"
    unit = "of half the distance of the images"
    how = "root mean square of the difference over that from the mean of the images to one of them; mean over pairs"
    limits = "0 is a decoder that is linear between two images: it cross-fades. What is better is for the eye to say."
    if not len(shares):
        note = "No two of the images differ once decoded."
        findings.figures.append(Figure("mean_of_two", title, None, unit, how, limits, note=note))
        return
    found = bootstrap(shares, random)
    over = over_resampled(len(shares), "pairs")
    findings.figures.append(Figure.measured("mean_of_two", title, found, unit, how, limits, over))
    nature = (
        "nearly linear, so it cross-fades"
        if found.high < LINEAR
        else "far from linear"
        if found.low >= LINEAR
        else "neither nearly linear nor surely far from it"
    )
    findings.sentences.append(
        f"Between two latents the decoder is {nature}: "
        f"the mean of two latents is {found.value:.2f} of half their distance away from the mean of the two images."
    )


def _picture(study: Study, operations: Sequence[Consistency]) -> Picture:
    names: list[str] = []
    images: list[np.ndarray] = []
    count = len(operations[0].image)
    for each in operations:
        if each.name.startswith(("shifted by", "turned by 5")):
            continue
        names += [f"{each.name}"] * count + ["decoded, then changed"] * count
        images += [*each.image, *each.wanted]
    grid = image_grid(np.clip(np.stack(images), -1, 1), 2 * count, names)
    return Picture(
        "operations",
        f"In each row: {count} images decoded from changed latents, then the same change of the decoded images.",
        to_png(grid),
    )
