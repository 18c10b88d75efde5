"""What the section on geometry says of ways between images: straight, spherical, the shortest found, a cross-fade."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.coding import decoded
from ldm_export.analyze.derivative_cost import Work, lacking_memory
from ldm_export.analyze.distances import pair_distances, typical_distance
from ldm_export.analyze.findings import Figure, Findings, Picture, Table
from ldm_export.analyze.geodesic import Geodesic, geodesic, path_length, spherical, straight
from ldm_export.analyze.sections.work_budget import affordable
from ldm_export.analyze.statistics import spread
from ldm_export.analyze.study import Study, levels
from ldm_export.errors import AnalysisError
from ldm_export.plots import image_grid, to_png

KNOTS, PIECES = 4, 10  # of a path whose energy is minimised: free points, and pieces of the sum
STRAIGHT, SPHERICAL, SHORTEST, FADE = "straight", "spherical", "shortest found", "cross-fade"
SAME = 1e-3  # of the typical distance, below which two images are the same
NOTICEABLE = 0.05  # of a length
COLUMNS = 8  # images of a path in the strip
RATIOS = {
    "straight_length": ("Length in pixels: straight line over cross-fade", 0, 3, "pixels"),
    "spherical_length": ("Length in pixels: spherical interpolation over cross-fade", 1, 3, "pixels"),
    "geodesic_length": ("Length in pixels: shortest path found over cross-fade", 2, 3, "pixels"),
    "geodesic_gain": ("Length in pixels: shortest path found over straight line", 2, 0, "pixels"),
    "geodesic_features": ("Length in features: shortest path found over straight line", 2, 0, "features"),
}
ONE_IMAGE = "No two images differ in their latents and once decoded: there is no way between two."


@dataclass(frozen=True)
class Path:
    """The images of one way between two of them, and its lengths: in levels, and in features."""

    name: str
    images: np.ndarray
    pixels: float
    features: float


@dataclass(frozen=True)
class Ways:
    """The ways between two images, in the order of RATIOS' places. found: what the search ended at; None without it.

    shortest: the name of the way that is the shortest of latents; SHORTEST where it is the searched one.
    """

    paths: Sequence[Path]
    found: Geodesic | None
    shortest: str


def add_paths(study: Study, findings: Findings, work: Work) -> None:
    """Measure the ways between pairs of images that differ. work: of the decoder."""
    pairs = different_pairs(study.latents, affordable(work, study.scaled(4, 1), least=1))
    lacking = lacking_memory(work)
    progress = study.progress("geometry: paths", len(pairs))
    measured = []
    for pair in pairs:
        ways = compare_ways(study, pair, None if lacking else _search(study, pair, work))
        if ways.paths[-1].pixels != 0:  # NaN goes on, and is refused
            measured.append(ways)
        progress.advance()
    if not measured:
        findings.figures += [_missing(name, ONE_IMAGE) for name in RATIOS]
        findings.sentences.append(ONE_IMAGE)
        return
    findings.figures += [
        _missing(name, lacking) if lacking and "geodesic" in name else _ratio(name, measured) for name in RATIOS
    ]
    findings.tables.append(_table(measured, study.extractor.name))
    findings.sentences.append(_sentence(findings, measured, lacking))
    findings.pictures.append(_strip(measured[0]))


def different_pairs(points: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Choose up to `count` pairs of points (N, …) that differ; each is in one pair at most, with the next that differs.

    Raises AnalysisError for points that are not finite.
    """
    distances = pair_distances(points)
    typical = typical_distance(distances)
    if not np.isfinite(typical):
        raise AnalysisError("the latents of the images have NaN or infinity")
    free = list(range(len(points)))
    pairs: list[tuple[int, int]] = []
    while free and len(pairs) < count:
        first = free.pop(0)
        other = next((each for each in free if distances[first, each] > SAME * typical), None)
        if other is not None:
            free.remove(other)
            pairs.append((first, other))
    return pairs


def to_levels(study: Study) -> float:
    """Return what turns the norm of an image's difference into a root mean square of 8-bit levels."""
    return 127.5 / float(np.sqrt(study.pixels[0].size))


def _search(study: Study, pair: tuple[int, int], work: Work) -> Geodesic:
    """Search for the shortest path between two images; what is found is kept, as it takes long."""
    start, end = study.latents[list(pair)]

    def find() -> np.ndarray:
        most = affordable(work, study.scaled(24, 5), least=5)
        path = geodesic(study.subject.codec.decode, start, end, knots=KNOTS, steps=PIECES, most=most)
        return np.concatenate([path.knots.reshape(-1), [path.converged, path.evaluations]])

    *knots, converged, evaluations = study.kept(f"geometry geodesic {pair[0]} {pair[1]}", find)
    return Geodesic(np.array(knots).reshape(KNOTS + 2, *start.shape), bool(converged), int(evaluations))


def compare_ways(study: Study, pair: tuple[int, int], found: Geodesic | None) -> Ways:
    """Measure the ways between two images: the searched path stands as the shortest only where it is."""
    start, end = study.latents[list(pair)]
    steps, name = study.scaled(24, 8), f"geometry paths {pair[0]} {pair[1]}"
    ways = [straight(start, end, steps), spherical(start, end, steps)]
    if found is not None:
        ways.append(found.points(steps))
    images = np.split(study.kept(name, lambda: decoded(study.subject.pipe, np.concatenate(ways))), len(ways))
    images.append(straight(images[0][0], images[0][-1], steps))
    features = np.split(study.features_of(name, levels(np.concatenate(images))), len(images))
    names = (STRAIGHT, SPHERICAL, *([] if found is None else [SHORTEST]), FADE)
    scale = to_levels(study)
    *latent, fade = (
        Path(each, part, scale * path_length(part), path_length(feature))
        for each, part, feature in zip(names, images, features, strict=True)
    )
    best = min(latent, key=lambda path: path.pixels)
    shortest = Path(SHORTEST, best.images, best.pixels, best.features)
    return Ways((latent[0], latent[1], shortest, fade), found, best.name)


def _missing(name: str, note: str) -> Figure:
    return Figure(name, RATIOS[name][0], None, "times", "ways between two images", "", note=note)


def _ratio(name: str, measured: Sequence[Ways]) -> Figure:
    title, one, other, key = RATIOS[name]
    values = []
    for ways in measured:
        length, reference = (getattr(ways.paths[place], key) for place in (one, other))
        values.append(length / reference if reference != 0 else np.nan)
    known = np.array(values)
    if key == "features":  # features may stay the same where pixels do not
        known = known[[ways.paths[other].features != 0 for ways in measured]]
        if not len(known):
            return _missing(name, "Features do not change along the straight line.")
    interval = spread(known)
    searched = "geodesic" in name
    found = [ways.found for ways in measured if ways.found is not None]
    estimator = (
        f"the shortest of three: straight, spherical, and a cubic spline with {KNOTS} free points, energy by L-BFGS "
        f"from the straight line, up to {max((each.evaluations for each in found), default=0)} evaluations"
        if searched
        else f"{len(measured[0].paths[0].images) - 1} steps of each way, decoded"
    )
    limits = "An upper bound: shorter paths may exist." if searched else "Of a few pairs of images."
    note = _search_note(measured) if searched else ""
    if len(known) == 1:
        limits = f"{limits} Of one pair of images, so that its spread is not known."
        return Figure(name, title, interval.value, "times", estimator, limits, note=note)
    over = f"median and range of {len(known)} pairs"
    return Figure(name, title, interval.value, "times", estimator, limits, interval.low, interval.high, over, note)


def _search_note(measured: Sequence[Ways]) -> str:
    """Say where the search ended early, and where it found nothing shorter than what needs no search."""
    found = [ways.found for ways in measured if ways.found is not None]
    stopped = sum(not each.converged for each in found)
    said = [f"{stopped} of {len(found)} searches ended at their budget: shorter paths may exist."] if stopped else []
    for name in (STRAIGHT, SPHERICAL):
        count = sum(ways.shortest == name for ways in measured)
        if count:
            said.append(f"In {count} of {len(measured)} pairs the {name} way is the shortest, not the searched one.")
    return " ".join(said)


def _table(measured: Sequence[Ways], extractor: str) -> Table:
    def median(place: int, key: str, over: int | None = None) -> float:
        values = [getattr(ways.paths[place], key) for ways in measured]
        if over is not None:
            values = [each / ways.paths[over].pixels for each, ways in zip(values, measured, strict=True)]
        return float(np.median(values))

    rows = [
        (path.name, median(place, "pixels"), median(place, "pixels", 3), median(place, "features"))
        for place, path in enumerate(measured[0].paths)
        if path.name != SHORTEST or measured[0].found is not None
    ]
    return Table(
        "paths",
        "Lengths of the ways between two images",
        ("way", "pixels, levels", "over the cross-fade", "features"),
        tuple(rows),
        f"Medians over {len(measured)} pairs. Levels: root mean square of 8-bit values, summed along the way. The "
        "cross-fade of the two decoded images is the straight line of pixels: none is shorter in pixels. Features: "
        f"{extractor}, summed along the same steps.",
    )


def _sentence(findings: Findings, measured: Sequence[Ways], lacking: str) -> str:
    straight_over, spherical_over = (findings.value(name) for name in ("straight_length", "spherical_length"))
    said = (
        f"Between two images the straight line of latents is {straight_over:.2f} times as long in pixels as their "
        f"cross-fade, the spherical way {spherical_over:.2f} times"
    )
    if lacking:
        return f"{said}; a shorter path was not looked for. {lacking}"
    shortest = findings.value("geodesic_length")
    return f"{said}, and the shortest path found {shortest:.2f} times. {_nature(findings, measured)}"


def _nature(findings: Findings, measured: Sequence[Ways]) -> str:
    """Say what the search tells of straight lines."""
    gain = 1 - (findings.value("geodesic_gain") or 0.0)
    if all(ways.shortest == STRAIGHT for ways in measured):
        return (
            "The search found nothing shorter than the straight line, so its length stands for that of the shortest "
            "path, as a bound from above: straight lines are as good as geodesics here, as far as the search went."
        )
    said = (
        f"Straight lines are not geodesics: the shortest paths found save {gain:.0%} of their length."
        if gain >= NOTICEABLE
        else "Straight lines are as good as geodesics here, as far as the search went: the shortest paths found save "
        f"{gain:.1%} of their length."
    )
    features = findings.value("geodesic_features")
    if features is None:
        return said
    kind = "shorter than" if features < 1 - NOTICEABLE else "longer than" if features > 1 + NOTICEABLE else "as long as"
    return (
        f"{said} In features that path is {kind} the straight line ({features:.2f} times): the shortest way in pixels "
        "is near a cross-fade where the decoder allows it, and need not be the most sensible one."
    )


def _strip(ways: Ways) -> Picture:
    paths = [path for path in ways.paths if path.name != SHORTEST or ways.found is not None]
    picked = np.linspace(0, len(paths[0].images) - 1, COLUMNS).round().astype(int)
    strip = np.concatenate([each.images[picked] for each in paths])
    captions = [path.name if column == 0 else "" for path in paths for column in range(COLUMNS)]
    grid = image_grid(np.clip(strip, -1, 1), COLUMNS, captions)
    return Picture("paths", "Ways between two images, from the left to the right.", to_png(grid))
