"""Quality: how like the reconstructions are to their images, and how like the real images the drawn ones are."""

from collections.abc import Callable

import numpy as np

from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.perceptual_pairs import WEIGHTS, perceptual_distances
from ldm_export.analyze.rate_distortion import psnr
from ldm_export.analyze.sections.quality_drawn import Drawn, count_drawn, draw_captions, no_images
from ldm_export.analyze.sections.quality_sets import FEWEST, SHARES, add_sets
from ldm_export.analyze.sections.work_budget import WorkBudget, budget_of
from ldm_export.analyze.similarity import ms_ssim, scales_that_fit, squared_errors, ssim
from ldm_export.analyze.statistics import bootstrap, over_images, over_resampled
from ldm_export.analyze.study import Study, levels
from ldm_export.errors import AnalysisError
from ldm_export.plots import image_grid, to_png

SHOWN = 6  # images
BLOCK = 16  # images at once
QUANTILES = {"the worst": 0.0, "a tenth is below": 0.1, "half are below": 0.5, "a tenth is above": 0.9, "the best": 1.0}
LEAST_PER_LABEL, MOST_LABELS = 8, 16


def measure(study: Study) -> Findings:
    """Compare reconstructions with their images one by one, and with drawn images as sets."""
    if not all(np.isfinite(each).all() for each in study.reconstructions):
        raise AnalysisError("the autoencoder makes NaN or infinity of some images; look at its weights")
    findings = Findings()
    _add_similarity(findings, study)
    _add_perceptual(findings, study)
    budget = budget_of(study)
    drawn = _drawn(study, budget)
    add_sets(findings, study, drawn)
    if len(drawn.places):
        _add_drawn_images(findings, study, drawn)
    budget.add_cuts(findings)
    return findings


# --- One by one ---


def _add_similarity(findings: Findings, study: Study) -> None:
    random = study.random("quality")
    errors = _of_pairs(study, squared_errors)
    found, over = over_images(errors, random, lambda part: psnr(float(part.mean())))
    findings.figures.append(
        Figure.measured(
            "psnr",
            "PSNR of reconstructions",
            found,
            "dB",
            "10 log10(255² / mean squared error over all images), of 8 bits",
            "Blind to what people see: blur and a slight shift cost as much as visible damage. Where image and "
            "reconstruction are equal it is given as 138.",
            over,
        )
    )
    values = {"PSNR, dB": np.array([psnr(float(error)) for error in errors])}
    values["SSIM"] = study.kept("quality ssim", lambda: _of_pairs(study, ssim))
    found, over = over_images(values["SSIM"], random)
    findings.figures.append(
        Figure.measured(
            "ssim",
            "SSIM of reconstructions",
            found,
            "",
            "structural similarity (Wang et al. 2004), Gaussian window of 11 pixels, mean over channels",
            "High where both are flat: plain backgrounds raise it.",
            over,
        )
    )
    scales = scales_that_fit(*study.pictures.size)
    findings.figures.append(_ms_ssim(study, scales, values, random))
    findings.tables.append(_pairs_table(values, study.random("quality quantiles")))
    _add_labels(findings, study, errors, values)
    worst = np.argsort(-errors)[:SHOWN]
    grey = float(np.sqrt(errors.mean()))
    findings.sentences.append(
        "Reconstructions are equal to their images, in 8 bits."
        if grey == 0
        else f"A reconstruction is {grey:.1f} of 255 grey levels off its image (root mean square), which is a PSNR of "
        f"{findings.value('psnr'):.1f} dB; the worst tenth of the images is below "
        f"{np.quantile(values['PSNR, dB'], 0.1):.1f} dB. Their SSIM is {findings.value('ssim'):.3f} on average."
    )
    tiles = np.concatenate([study.pictures.pixels[worst], levels(study.reconstructions[worst])])
    captions = [f"{values['PSNR, dB'][place]:.1f} dB" for place in worst]
    shown = image_grid(_pixels(tiles), len(worst), [*captions, *[""] * len(worst)])
    findings.pictures.append(
        Picture("worst", "The images that are worst reconstructed, and below what becomes of them.", to_png(shown))
    )


def _pairs_table(values: dict[str, np.ndarray], random: np.random.Generator) -> Table:
    """values: of each image, by the name of the measure."""
    rows: list[tuple[Cell, ...]] = []
    for name, share in QUANTILES.items():
        row: list[Cell] = [name]
        for each in values.values():
            found, over = over_images(each, random, lambda part, share=share: float(np.quantile(part, share)))  # type: ignore[misc]
            row += [found.value, found.low, found.high] if 0 < share < 1 else [found.value, None, None]
        rows.append(tuple(row))
    head = ("images", *(column for name in values for column in (name, f"{name}: low", f"{name}: high")))
    note = f"Each measure by itself; low and high: {over}. The ends are single images, and have none."
    return Table("pairs", f"Reconstructions of {len(each)} images", head, tuple(rows), note)


def _of_pairs(study: Study, measure: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Return a measure of each image and its reconstruction, both uint8 (N, H, W, 3), of few at once."""
    parts = [slice(start, start + BLOCK) for start in range(0, len(study.pictures), BLOCK)]
    return np.concatenate([measure(study.pictures.pixels[part], levels(study.reconstructions[part])) for part in parts])


def _ms_ssim(
    study: Study,
    scales: int,
    values: dict[str, np.ndarray],
    random: np.random.Generator,
) -> Figure:
    title, estimator = (
        "MS-SSIM of reconstructions",
        f"multi-scale structural similarity by torchmetrics, {scales} scales",
    )
    limits = "Compare only values of as many scales: five is the usual number, and needs sides of 176 pixels."
    if scales < 2:
        note = f"The images are too small: two scales need 22 pixels, and they have {min(study.pictures.size)}."
        return Figure("ms_ssim", title, None, "", "multi-scale structural similarity", limits, note=note)
    values["MS-SSIM"] = study.kept(
        "quality ms-ssim", lambda: _of_pairs(study, lambda images, others: ms_ssim(images, others, scales))
    )
    found, over = over_images(values["MS-SSIM"], random)
    return Figure.measured("ms_ssim", title, found, "", estimator, limits, over)


def _add_labels(findings: Findings, study: Study, errors: np.ndarray, values: dict[str, np.ndarray]) -> None:
    """Say which kinds of image are reconstructed worst."""
    random = study.random("quality kinds")
    rows: list[tuple[Cell, ...]] = []
    for level, labels in study.pictures.parts().items():
        names, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
        if not 2 <= len(names) <= MOST_LABELS:
            continue
        for number in np.flatnonzero(counts >= LEAST_PER_LABEL):
            chosen = index == number
            own, _ = over_images(errors[chosen], random, lambda part: psnr(float(part.mean())))
            others = (float(each[chosen].mean()) for name, each in values.items() if name != "PSNR, dB")
            row = (level, str(names[number]), int(counts[number]), own.value, own.low, own.high)
            rows.append((*row, *others))
    if rows:
        first, *rest = values
        head = ("part of the caption", "label", "images", first, "low", "high", *rest)
        note = f"low and high: of the PSNR, {over_resampled('that many')}."
        findings.tables.append(Table("kinds", "Reconstructions by kind of image", head, tuple(rows), note))


def _add_perceptual(findings: Findings, study: Study) -> None:
    count = min(len(study.pixels), study.scaled_by_size(96, 16, least=8))
    weights = study.pictures.folder / WEIGHTS
    title = "Squared perceptual distance of reconstructions, as a share of that of different images"
    estimator = "mean squared difference of unit-length VGG16 features, two blocks (after LPIPS, without its weights)"
    limits = "It is not LPIPS. The autoencoder may have been trained to lower this very distance."
    if not weights.is_file():
        note = f"The folder of images has no {WEIGHTS}; `ldm-export data` writes it."
        findings.figures.append(Figure("perceptual", title, None, "%", estimator, limits, note=note))
    else:
        chosen = study.random("quality perceptual").permutation(len(study.pixels))[:count]
        images, others = study.pixels[chosen], np.clip(study.reconstructions[chosen], -1, 1)
        pairs = study.kept("quality perceptual", lambda: perceptual_distances(weights, images, others))
        findings.figures.append(_share("perceptual", title, pairs, study, estimator, limits))
    features, others = study.features, study.reconstructed_features
    order = study.random("quality features").permutation(len(features))
    different = ((features[order] - features[np.roll(order, 1)]) ** 2).sum(axis=1)
    pairs = np.stack([((features - others) ** 2).sum(axis=1)[order], different], axis=1).astype(np.float64)
    name = study.extractor.name
    title = f"Squared distance of reconstructions in features of {name}, as a share of that of different images"
    limits = (
        f"What looks alike is what {name} finds alike; it is not a person. Each image is compared with one other, so "
        "the interval is a little narrow."
    )
    findings.figures.append(_share("features", title, pairs, study, "mean squared distance of features", limits))
    shares = {
        "VGG16's early features, which see edges and texture,": findings.value("perceptual"),
        f"features of {name}, which tell what is shown": findings.value("features"),
    }
    known = [f"{share:.1f} % in {what}" for what, share in shares.items() if share is not None]
    if known:
        findings.sentences.append(
            f"Of the squared distance between two different images, a reconstruction is off by {' and '.join(known)}."
        )


def _share(name: str, title: str, pairs: np.ndarray, study: Study, estimator: str, limits: str) -> Figure:
    """Return the sum of the first column over that of the second, in %. pairs: (N, 2)."""
    if not (pairs[:, 1].sum() > 0 and len(pairs) >= 8):
        note = "All images are the same to the network." if len(pairs) >= 8 else "It needs 8 images."
        return Figure(name, title, None, "%", estimator, limits, note=note)
    found = bootstrap(pairs, study.random(f"quality {name}"), lambda part: 100 * part[:, 0].sum() / part[:, 1].sum())
    return Figure.measured(name, title, found, "%", estimator, limits, over_resampled(len(pairs)))


# --- Drawn ---


def _drawn(study: Study, budget: WorkBudget) -> Drawn:
    """Draw the captions of as many images as fit the budget; of none where there is no text to draw."""
    if study.subject.contract.inpaints:
        return no_images(study, "the model draws only from an image")
    if not study.pictures.captions:
        return no_images(study, "the images have no captions")
    count, lacking = count_drawn(study, budget, len(study.pictures) // SHARES, FEWEST, SHOWN)
    places = study.random("quality drawn").permutation(len(study.pictures))[:count]
    return Drawn(places, draw_captions(study, [int(place) for place in places]), lacking)


def _add_drawn_images(findings: Findings, study: Study, drawn: Drawn) -> None:
    places = drawn.places[:SHOWN]
    tiles = np.concatenate([study.pictures.pixels[places], drawn.images[:SHOWN]])
    captions = [study.pictures.captions[place] for place in places]
    shown = image_grid(_pixels(tiles), len(places), [*captions, *[""] * len(places)])
    caption = "Images, and below what the model draws of their captions with its defaults."
    findings.pictures.append(Picture("drawn", caption, to_png(shown)))


def _pixels(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - np.float32(1)
