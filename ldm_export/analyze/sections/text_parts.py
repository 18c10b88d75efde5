"""Parts and words of captions: what the denoiser loses without each, and what a part alone tells it."""

from collections.abc import Mapping, Sequence

import numpy as np

from ldm_export.analyze.caption_errors import NONE, OTHER, CaptionErrors, text_errors
from ldm_export.analyze.caption_parts import Part, count_words, without_words
from ldm_export.analyze.coloured_text import Coloured, draw_coloured
from ldm_export.analyze.denoiser import Denoiser, log_snr
from ldm_export.analyze.denoising_information import integrated, integrated_deviation
from ldm_export.analyze.findings import Cell, Figure, Findings, Picture, Table
from ldm_export.analyze.sections.work_budget import WorkBudget
from ldm_export.analyze.statistics import Interval, over_images
from ldm_export.analyze.study import Study
from ldm_export.analyze.units import BIT
from ldm_export.plots import draw_lines, to_png
from ldm_runtime.sampling.solvers.rows import Level

WORD_PAIRS = 2  # of draws of noise
MOST_WORDS, SEVERAL_WORDS = 12, 6  # of a caption
WORDS_SHARE = 0.4  # of the budget
FEWEST_PART = 4  # images that have a part


def add_parts(study: Study, findings: Findings, measured: CaptionErrors, parts: Mapping[str, Part]) -> None:
    """Add what is lost without each part of the captions, and what each tells alone."""
    if not parts:
        findings.sentences.append(
            "What parts of captions tell was not measured: it needs captions of several parts, all of as many, such as "
            '"red apple, 3d style".'
        )
        return
    random, at, captions = study.random("text parts"), measured.log_snr, study.pictures.captions
    lines: dict[str, list[tuple[float, float]]] = {}
    told: dict[tuple[str, str], Interval] = {}
    harmful = []
    for place, (name, part) in enumerate(parts.items()):
        less = OTHER + 1 + 2 * place
        having = [row for row, number in enumerate(measured.numbers) if part.without[number] != captions[number]]
        titles = (f"What is lost without a part of the caption: {name}", f"What that part alone tells: {name}")
        densities = measured.gain[having, less], measured.gain[having, NONE] - measured.gain[having, less + 1]
        estimators = (
            "squared error with the caption less that part, above that with all of it, integrated as above",
            "squared error without text less that with the part alone, integrated as above",
        )
        limits = "Captions cut short may be unlike all that the model was trained on, and name another image."
        for key, title, estimator, density in zip(("without", "alone"), titles, estimators, densities, strict=True):
            if len(having) < FEWEST_PART:
                note = f"{len(having)} of the images have such a part; it takes {FEWEST_PART}."
                findings.figures.append(Figure(f"{name}_{key}", title, None, "bits", estimator, limits, note=note))
                continue
            found, over = over_images(integrated(at, density), random)
            findings.figures.append(Figure.measured(f"{name}_{key}", title, found, "bits", estimator, limits, over))
            mean = density.mean(axis=0) / 2
            lines[f"{name} {'missing' if key == 'without' else 'alone'}"] = list(
                zip(at.tolist(), mean.tolist(), strict=True)
            )
            told[name, key] = found
        if (name, "without") in told:
            beside_none, _ = over_images(integrated(at, densities[0] - measured.gain[having, NONE]), random)
            harmful += [name] if min(beside_none.low, told[name, "without"].low) > 0 else []
    if told:
        plot = draw_lines(lines, "log-SNR: noise on the left, the image on the right", "bits for a unit of log-SNR")
        caption = "Parts of captions by noise level: what is lost without one, and what one tells alone."
        findings.pictures.append(Picture("parts", caption, to_png(plot)))
        findings.sentences.append(_parts_sentence(told, harmful))


def _parts_sentence(told: Mapping[tuple[str, str], Interval], harmful: Sequence[str]) -> str:
    names = sorted({name for name, _ in told}, key=lambda name: -told[name, "without"].value)
    listed = "; ".join(
        f"{name} {told[name, 'without'].value:,.0f} bits, {told[name, 'alone'].value:+,.0f}" for name in names
    )
    text = f"What is lost without a part of the caption, and what the part alone tells: {listed}."
    if harmful:
        text += (
            f" Without its {' or its '.join(harmful)} a caption does harm beside no text at all, as another image's "
            "would: these bits are the harm of a wrong text, more than what the part tells."
        )
    misread = [name for name in names if told[name, "alone"].high < 0]
    if misread:
        text += f" Alone, the {' or the '.join(misread)} misleads it: it does better without any text."
    return text


# --- Words ---


def add_words(study: Study, findings: Findings, levels: Sequence[Level], budget: WorkBudget) -> None:
    """Add some captions with what is lost without each of their words."""
    captions = study.pictures.captions
    each = len(levels) * 2 * WORD_PAIRS * budget.denoiser  # of a text
    most = budget.runs("words of a caption", MOST_WORDS, each, WORDS_SHARE, SEVERAL_WORDS)
    count = budget.runs("captions word by word", study.scaled(6, 2), (1 + most) * each, WORDS_SHARE, 1)
    numbers = chosen_captions(captions, count, study.random("text words"))
    denoiser = Denoiser(study.subject)
    progress = study.progress("text: captions less a word", len(numbers))
    rows: list[tuple[Cell, ...]] = []
    drawn = []
    for number in numbers:
        words = _words(study, denoiser, number, most, levels)
        rows += [(captions[number], *each) for each in words]
        drawn.append(Coloured(study.pixels[number], [(word, bits) for word, bits, _ in words]))
        progress.advance()
    findings.tables.append(
        Table(
            "words",
            "What is lost without single words of a caption",
            ("caption", "word", "bits", "standard error"),
            tuple(rows),
            f"The squared error with the caption less that word, above that with all of it, integrated as above; "
            f"{2 * WORD_PAIRS} draws of noise at each level. Below 0: the image is found better without the word. "
            "What two words both say is in neither; where a caption without the word names another image, the harm of "
            f"that is in it. At most {most} words of a caption.",
        )
    )
    findings.pictures.append(
        Picture(
            "words",
            "Words by the bits that are lost without them: green where a word helps to find the image, red where it "
            "misleads. More than the whole caption tells are the words without which it names another image: that does "
            "harm beside no text, and the harm is in the number.",
            to_png(draw_coloured(drawn)),
        )
    )


def _words(
    study: Study, denoiser: Denoiser, number: int, most: int, levels: Sequence[Level]
) -> list[tuple[str, float, float]]:
    """Return each word of an image's caption, the bits that are lost without it, and their standard error."""
    caption, at = study.pictures.captions[number], log_snr(levels)
    less = without_words(caption, most)
    texts, name = [caption, *(text for _, text in less)], f"text words {number}"
    latents, file = study.latents[number], study.pictures.files[number]
    errors = study.kept(
        name, lambda: text_errors(denoiser, latents, texts, levels, WORD_PAIRS, study.random(name), file)
    )
    bits = integrated(at, errors[0, 1:] - errors[0, :1]) / BIT
    deviation = integrated_deviation(at, errors[2, 1:]) / BIT
    return [(word, float(lost), float(error)) for (word, _), lost, error in zip(less, bits, deviation, strict=True)]


def chosen_captions(captions: Sequence[str], count: int, random: np.random.Generator) -> list[int]:
    """Choose captions of several words at random, none of them twice, or those with most words."""
    first = {captions[place]: int(place) for place in random.permutation(len(captions))}
    ranked = sorted(first.values(), key=lambda place: -min(count_words(captions[place]), SEVERAL_WORDS))
    return sorted(ranked[:count])
