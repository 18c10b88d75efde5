"""What the section on quality says of images as sets: the Fréchet distance, and the score of a classifier."""

from dataclasses import dataclass

import numpy as np

from ldm_export.analyze.class_score import class_score_interval, is_at_ceiling
from ldm_export.analyze.findings import Figure, Findings
from ldm_export.analyze.frechet import frechet_distance, main_directions
from ldm_export.analyze.sections.quality_drawn import Drawn
from ldm_export.analyze.statistics import Interval, over_left_out, spread
from ldm_export.analyze.study import Study

FEWEST = 32  # images of a set
SHARES = 3  # of the images: a set, and others to compare with
SPLITS, FEW_SPLITS = 40, 3  # random sets of real images
OTHERS = 4  # sets of other images that each is compared with
IMAGES_PER_DIRECTION = 8
IMAGES_PER_FEATURE = 2  # with fewer, a set of less variance may be nearer than a real one
CHANCE = 0.05  # that a set of real images is as far from the others
REAL, REBUILT, DRAWN = "real images", "reconstructions", "drawn images"
KEYS = {REAL: "images", REBUILT: "reconstructions", DRAWN: "drawn"}


@dataclass(frozen=True)
class Sets:
    """Features (N, D) of all real images and their reconstructions; of sets of n, the images' places.

    drawn: features (n, D) of the drawn images, if enough were drawn. places: of the images whose captions were drawn.
    splits: places (1 + OTHERS, n) of a random set of real images, then of sets of other ones. apart: places (OTHERS, n)
    of sets without the images whose captions were drawn.
    """

    real: np.ndarray
    rebuilt: np.ndarray
    drawn: np.ndarray | None
    places: np.ndarray
    splits: list[np.ndarray]
    apart: list[np.ndarray]

    @property
    def count(self) -> int:
        return len(self.places)


def add_sets(findings: Findings, study: Study, drawn: Drawn) -> None:
    """Compare real, reconstructed and drawn images as sets."""
    sets = _sets(study, drawn)
    if sets is None:
        note = f"Too few images: it needs {SHARES * FEWEST}, and there are {len(study.pictures)}."
        for what in (REBUILT, DRAWN) if len(drawn.places) else (REBUILT,):
            for name, title in (("frechet", "Fréchet distance of {}"), ("score", f"{study.extractor.score} of {{}}")):
                findings.figures.append(
                    Figure(f"{name}_{KEYS[what]}", title.format(what), None, "", study.extractor.name, "", note=note)
                )
        return
    _add_distances(findings, study, sets)
    _add_scores(findings, study, sets)
    if sets.drawn is None:
        findings.sentences.append(f"Drawn images were not compared with real ones: {drawn.lacking}.")


def _sets(study: Study, drawn: Drawn) -> Sets | None:
    total, places = len(study.pictures), drawn.places
    is_drawn = len(places) >= FEWEST
    count = len(places) if is_drawn else total // SHARES
    if count < FEWEST:
        return None
    random = study.random("quality sets")
    chosen = places if is_drawn else random.permutation(total)[:count]
    everything = np.arange(total)

    def others(places: np.ndarray) -> np.ndarray:
        rest = np.setdiff1d(everything, places)
        return np.stack([random.permutation(rest)[:count] for _ in range(OTHERS)])

    sets = [random.permutation(total)[:count] for _ in range(SPLITS)]
    splits = [np.concatenate([each[None], others(each)]) for each in sets]
    features = study.features_of("drawn images", drawn.images) if is_drawn else None
    apart = [others(chosen) for _ in range(SPLITS)]
    return Sets(study.features, study.reconstructed_features, features, chosen, splits, apart)


# --- Fréchet distance ---


def _add_distances(findings: Findings, study: Study, sets: Sets) -> None:
    """Add the distance in few directions; and in all features, as it is known in the field, of many images."""
    network, count, width = study.extractor.name, sets.count, sets.real.shape[1]
    few = min(width, count // IMAGES_PER_DIRECTION)
    in_few = _distances(sets, main_directions(sets.real, few), SPLITS, OTHERS)
    over = f"95 % of {SPLITS} random choices of the images"
    whole = SHARES * IMAGES_PER_FEATURE * width
    for what, values in in_few.items():
        low, high = np.quantile(values, [0.025, 0.975])
        findings.figures.append(
            Figure(
                f"frechet_{KEYS[what]}",
                f"Fréchet distance of {what} from other real images, in {few} directions",
                float(np.median(values)),
                "",
                f"Gaussians fitted to features of {network} in the {few} directions of most variance, {count} images "
                f"against {count}, mean over {OTHERS} sets of other images",
                "It is above 0 for real images too: compare only distances of as many images and directions. What the "
                f"other directions show is not seen: all {width} features take {whole:,} images. Choices share images"
                + (", and the drawn ones stay the same." if what == DRAWN else "."),
                float(low),
                float(high),
                over,
            )
        )
    for what in list(in_few)[1:]:
        findings.sentences.append(told_sentence(what, in_few[what], in_few[REAL], count, few))
    title, estimator = (
        f"{study.extractor.distance}, {{}} from other real images",
        f"Gaussians fitted to {width} features",
    )
    limits = "It falls with the number of images: compare only distances of as many."
    if count < IMAGES_PER_FEATURE * width:
        note = (
            f"Sets of {count} images are too few for {width} features: their fewness would be most of it, and blurred "
            f"images would be nearer than real ones. It takes {whole:,} images."
        )
        sets_named = " and ".join(list(in_few)[1:])
        findings.figures.append(Figure("frechet_all", title.format(sets_named), None, "", estimator, limits, note=note))
        return
    for what, values in _distances(sets, np.eye(width), FEW_SPLITS, 1).items():
        findings.figures.append(
            Figure.measured(
                f"frechet_all_{KEYS[what]}",
                title.format(what),
                spread(values),
                "",
                f"{estimator} of {network}, {count} images against {count}",
                limits,
                f"range of {FEW_SPLITS} random choices of the real images",
            )
        )


def _distances(sets: Sets, directions: np.ndarray, splits: int, others: int) -> dict[str, np.ndarray]:
    """Return the distance of each kind of set from other real images, mean over `others` sets of them, (splits,)."""
    real, rebuilt = sets.real @ directions, sets.rebuilt @ directions

    def mean(one: np.ndarray, against: list[np.ndarray]) -> float:
        return float(np.mean([frechet_distance(one, real[each]) for each in against[:others]]))

    chosen = sets.splits[:splits]
    found = {
        REAL: np.array([mean(real[one], against) for one, *against in chosen]),
        REBUILT: np.array([mean(rebuilt[one], against) for one, *against in chosen]),
    }
    if sets.drawn is not None:
        drawn = sets.drawn @ directions
        found[DRAWN] = np.array([mean(drawn, list(against)) for against in sets.apart[:splits]])
    return found


def told_sentence(what: str, found: np.ndarray, reference: np.ndarray, count: int, directions: int) -> str:
    """Say whether sets can be told from real images.

    found: their distances from other images, of which the median is judged. reference: those of as many sets of real
    images: where the median lies among them is what chance alone would give.
    """
    median = float(np.median(found))
    low, high = np.quantile(reference, [CHANCE, 1 - CHANCE])
    values = (
        f"their Fréchet distance from other images is {median:.3g}, where {1 - 2 * CHANCE:.0%} of sets of as many real "
        f"ones have {low:.3g} to {high:.3g}"
    )
    if _rank(reference >= median) <= CHANCE:
        return f"As a set, {what} are told from real images: {values}."
    if _rank(reference <= median) <= CHANCE:
        return f"As a set, {what} are nearer to real images than those are to one another, so they vary less: {values}."
    return f"Sets of {count} {what} are not told from real images in {directions} directions: {values}."


def _rank(as_extreme: np.ndarray) -> float:
    """Return the chance of what is as extreme as these of a reference are, itself counted (Phipson and Smyth 2010)."""
    return float((1 + as_extreme.sum()) / (1 + len(as_extreme)))


# --- Score ---


def _add_scores(findings: Findings, study: Study, sets: Sets) -> None:
    classify = study.extractor.classify
    estimator = f"exp E KL(p(class | image) || p(class)) by {study.extractor.name}, {sets.count} images, one split"
    limits = (
        "Of its own classes, not of the captions; it rises with the number of images. Repeats of one image lower it."
    )
    found: dict[str, Interval] = {}
    compared = {REAL: sets.real[sets.places], REBUILT: sets.rebuilt[sets.places]}
    if sets.drawn is not None:
        compared[DRAWN] = sets.drawn
    for what, features in compared.items():
        name, title = f"score_{KEYS[what]}", f"{study.extractor.score} of {what}"
        if classify is None:
            note = f"{study.extractor.name} has no classes."
            findings.figures.append(Figure(name, title, None, "", estimator, limits, note=note))
            continue
        interval = class_score_interval(classify(features))
        if is_at_ceiling(interval.value, sets.count):
            note = f"At its ceiling: {sets.count} images score at most {sets.count}."
            findings.figures.append(Figure(name, title, None, "", estimator, limits, note=note))
            continue
        found[what] = interval
        over = over_left_out(sets.count)
        findings.figures.append(Figure.measured(name, title, interval, "", estimator, limits, over))
    if REAL in found:
        for what in (what for what in found if what != REAL):
            findings.sentences.append(_score_sentence(study, what, found[what], found[REAL]))


def _score_sentence(study: Study, what: str, score: Interval, real: Interval) -> str:
    values = f"({study.extractor.score}: {score.value:.3g}, real images {real.value:.3g})"
    if score.high < real.low:
        return f"{what.capitalize()} are less clear or less varied to {study.extractor.name} than real images {values}."
    if score.low > real.high:
        return f"{what.capitalize()} are clearer or more varied to {study.extractor.name} than real images {values}."
    return f"{what.capitalize()} are not told from real images by how clear and varied they are {values}."
