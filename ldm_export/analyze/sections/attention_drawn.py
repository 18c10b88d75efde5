"""Attention to the text while images are drawn: maps of words, and how they change over the steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ldm_export.analyze.attention_maps import Maps, Size, recorded
from ldm_export.analyze.caption_tokens import CONCEPT, Word, words_of
from ldm_export.analyze.denoiser import Denoiser
from ldm_export.analyze.findings import Findings, Picture
from ldm_export.analyze.overlap import enlarged
from ldm_export.analyze.sections.work_budget import WorkBudget
from ldm_export.analyze.study import Study
from ldm_export.analyze.subject import TorchEngine
from ldm_export.plots import EMPTY, draw_lines, image_grid, to_png
from ldm_runtime.noise import Noise
from ldm_runtime.sampling.loop import guide, run_plan
from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.text.tokenizer import Tokenizer

SHOWN_WORDS, SHOWN_STEPS = 8, 6
FEWEST_STEPS = 8
SHARE = 0.3  # of the budget
TILE = 128  # pixels along the longer side of an image that is shown


@dataclass(frozen=True)
class Drawn:
    """An image that was drawn. maps: of each evaluation, of the caption. predicted: clean latents there (C, h, w)."""

    caption: str
    words: list[Word]
    maps: list[dict[Size, Maps]]
    predicted: np.ndarray
    latents: np.ndarray


def add_drawn(study: Study, findings: Findings, numbers: Sequence[int], budget: WorkBudget) -> None:
    """Draw captions of some of these images as the model draws by itself, and show where their words attend."""
    captions = list(dict.fromkeys(study.pictures.captions[number] for number in numbers))
    contract = study.subject.contract
    step = budget.denoiser * (2 if contract.evaluates_negative(contract.defaults.guidance) else 1)
    steps = budget.runs("steps of images drawn", contract.defaults.steps, step, SHARE, FEWEST_STEPS)
    wanted = min(len(captions), study.scaled(3, 2))
    count = budget.runs("images drawn", wanted, step * steps, SHARE, 1)
    chosen = [captions[place * len(captions) // count] for place in range(count)]
    progress = study.progress("attention: images drawn", count)
    drawn = []
    for seed, caption in enumerate(chosen):
        drawn.append(draw(study, caption, study.seed + seed, steps))
        progress.advance()
    findings.pictures += [_words_picture(study, drawn), _steps_picture(study, drawn[0]), _plot(drawn)]


def draw(study: Study, caption: str, seed: int, steps: int) -> Drawn:
    """Draw a caption in so many steps by the model's own sampler and guidance, evaluated by torch."""
    subject, contract = study.subject, study.subject.contract
    defaults, space, role = contract.defaults, contract.latent, contract.denoiser
    denoiser = Denoiser(subject, TorchEngine(subject, role.component))
    both = contract.evaluates_negative(defaults.guidance)
    condition = denoiser.condition(["", caption] if both else [caption])
    (width, height), cell = subject.size, space.downsample
    noise = Noise("philox", [seed % 2**32], (space.channels, height // cell, width // cell))
    plan = compile_plan(contract.schedule, defaults.parsed_sampler, steps)
    maps: list[dict[Size, Maps]] = []

    with recorded(subject.model(subject.checkpoint.specs[role.component].part)) as recorder:

        def denoise(x: np.ndarray, timestep: float) -> np.ndarray:
            output = denoiser.output(np.concatenate([x, x]) if both else x, timestep, condition)
            maps.append({size: each.of(-1) for size, each in recorder.take().items()})
            return guide(output[:1], output[1:], defaults.guidance) if both else output

        found = list(run_plan(plan, denoise, noise.initial(), noise.row))
    tokenizer = Tokenizer(subject.pipe.package, contract.text[0].tokenizer)
    predicted = np.concatenate([step.predicted() for step in found])
    return Drawn(caption, words_of(caption, tokenizer), maps, predicted, found[-1].latents[0])


def tile(image: np.ndarray, heat: np.ndarray | None) -> np.ndarray:
    """Return an image (3, H, W) in [-1, 1], scaled down to be shown, under a map (h, w): grey, red where it is most."""
    scale = TILE / max(image.shape[1:])
    shape = tuple(max(1, round(side * scale)) for side in image.shape[1:])
    small = np.stack([_scaled(channel, shape) for channel in np.clip(image, -1, 1)])
    if heat is None:
        return small
    span = np.ptp(heat)
    amount = enlarged((heat - heat.min()) / span if span > 0 else np.zeros_like(heat), shape)
    grey = 0.35 + 0.35 * small.mean(axis=0, keepdims=True)
    red = np.array([1.0, -1.0, -1.0])[:, None, None]
    return np.asarray(np.clip(grey + amount * 0.8 * (red - grey), -1, 1), np.float32)


def _scaled(channel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    image = Image.fromarray(np.asarray(channel, np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BOX))


def _mean(drawn: Drawn, size: Size, places: Sequence[int]) -> np.ndarray:
    """Return the map of these tokens, the mean over evaluations."""
    return np.mean([each[size].shares[0][..., list(places)].sum(axis=-1) for each in drawn.maps], axis=0)


def _words_picture(study: Study, images: Sequence[Drawn]) -> Picture:
    sizes, columns = list(images[0].maps[0]), min(SHOWN_WORDS, max(len(drawn.words) for drawn in images))
    tiles, names = [], []
    for drawn in images:
        image = study.subject.pipe.decode_array(drawn.latents[None])[0]
        words = drawn.words[:columns]
        empty = [np.full_like(tile(image, None), EMPTY)] * (columns - len(words))
        for size in sizes:
            tiles += [tile(image, None), *(tile(image, _mean(drawn, size, word.places)) for word in words), *empty]
            names += [f"{size[0]}x{size[1]}", *(word.text for word in words), *[""] * len(empty)]
    captions = "; ".join(drawn.caption for drawn in images)
    return Picture(
        "words",
        f"Images drawn of: {captions}. In each row, where the words attend at one resolution, the mean over all steps: "
        "red is most of each word.",
        to_png(image_grid(np.stack(tiles), 1 + columns, names)),
    )


def _steps_picture(study: Study, drawn: Drawn) -> Picture:
    count = len(drawn.maps)
    steps = sorted({round(each) for each in np.linspace(0, count - 1, SHOWN_STEPS)})
    first = next((number for number, word in enumerate(drawn.words) if word.ends_part), len(drawn.words) - 1)
    places = [place for word in drawn.words[: first + 1] for place in word.places]
    images = [study.subject.pipe.decode_array(drawn.predicted[step : step + 1])[0] for step in steps]
    tiles, names = [tile(image, None) for image in images], [f"evaluation {step + 1}" for step in steps]
    for size in drawn.maps[0]:
        for step, image in zip(steps, images, strict=True):
            tiles.append(tile(image, drawn.maps[step][size].shares[0][..., places].sum(axis=-1)))
            names.append(f"{size[0]}x{size[1]}")
    return Picture(
        "steps",
        f'What is predicted while "{drawn.caption}" is drawn, and where the caption\'s {CONCEPT} attends.',
        to_png(image_grid(np.stack(tiles), len(steps), names)),
    )


def _plot(images: Sequence[Drawn]) -> Picture:
    lines = {
        f"{size[0]}x{size[1]}": [
            (float(step + 1), float(np.exp(np.mean([drawn.maps[step][size].entropy.mean() for drawn in images]))))
            for step in range(len(images[0].maps))
        ]
        for size in images[0].maps[0]
    }
    plot = draw_lines(lines, "evaluation", "tokens attended to, in effect")
    caption = (
        f"Tokens in effect, e to the entropy, while {len(images)} images are drawn. Captions differ, so it is not the "
        "table's figure, which is over more images."
    )
    return Picture("entropy", caption, to_png(plot))
