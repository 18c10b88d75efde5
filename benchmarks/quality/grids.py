"""Sheets of unpicked images: listed prompts with listed seeds, whatever comes out."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.quality.image_cache import Drawn, Setting
from benchmarks.quality.sections import MANY_STEPS, STEPS, accuracy_captions, accuracy_settings
from benchmarks.quality.study import Facts, Section, Study
from ldm_export.train.image_folder import caption_on
from ldm_runtime.image import save_png
from ldm_runtime.interpolate import interpolate
from ldm_runtime.pipeline import Pipeline

PROMPTS = (
    "red apple, 3d style",
    "cat face, gradient style",
    "rocket, flat style",
    "pizza, noto style",
    "automobile, 3d style",
    "sunflower, gradient style",
    "grinning face, flat style",
    "octopus, noto style",
    "house, 3d style",
    "guitar, gradient style",
)
SEEDS = 6
HELD_OUT = 40
SHOWN_STEPS = (*STEPS, MANY_STEPS)
ACROSS = 8  # pairs in a row of the held-out sheet
BETWEEN = ("cat face, 3d style", "dog face, 3d style")
FRAMES = 9
GAP, LINE = 4, 16  # pixels between images, and for a line of text


def grid_settings(study: Study) -> dict[str, Setting]:
    settings = {"grid": study.setting(np.repeat(PROMPTS, SEEDS), [*range(SEEDS)] * len(PROMPTS))}
    settings["held_out"] = accuracy_settings(study)["held_out"]
    few = range(len(PROMPTS[:8]))
    settings |= {f"{steps} steps": study.setting(PROMPTS[:8], few, steps=steps) for steps in SHOWN_STEPS}
    for background in study.backgrounds:
        settings[f"on {background.name}"] = study.setting([caption_on(one, background) for one in PROMPTS[:8]], few)
    return settings


def draw_grids(study: Study, drawn: dict[str, Drawn]) -> Facts:
    """Write the sheets; the facts name each and say what it shows."""
    grid = drawn["grid"].images
    rows = grid.reshape(len(PROMPTS), SEEDS, *grid.shape[1:])
    write(study, "grid.png", rows, PROMPTS, [f"seed {seed}" for seed in range(SEEDS)])

    held_out = accuracy_captions(study)["held_out"][:HELD_OUT]
    pairs = np.stack(
        [drawn["held_out"].images[: len(held_out)], study.real.composed(held_out, study.backgrounds[0])], 1
    )
    short = [str(caption).removesuffix(" style") for caption in study.real.captions[held_out]]
    write_pairs(study, "held_out.png", pairs, short)

    columns = {f"{steps} steps": drawn[f"{steps} steps"].images for steps in SHOWN_STEPS}
    write(study, "steps.png", np.stack([*columns.values()], axis=1), PROMPTS[:8], list(columns))
    columns = {background.name: drawn[f"on {background.name}"].images for background in study.backgrounds}
    titles = [name if name != "" else "none named" for name in columns]
    write(study, "backgrounds.png", np.stack([*columns.values()], axis=1), PROMPTS[:8], titles)

    study.say("interpolation")
    frames = interpolation(study.pipe)
    write(study, "interpolation.png", frames[None], [" to ".join(BETWEEN)], [f"{share:.0%}" for share in shares()])
    return {
        "files": {
            "grid.png": f"{len(PROMPTS)} prompts, seeds 0 to {SEEDS - 1}",
            "held_out.png": f"{len(held_out)} held-out captions: drawn on the left, the real image on the right",
            "steps.png": "the same prompts and seeds with more steps",
            "backgrounds.png": "the same prompts and seeds with each background",
            "interpolation.png": "from one prompt and seed 0 to another prompt and seed 1",
        }
    }


def shares() -> list[float]:
    return [index / (FRAMES - 1) for index in range(FRAMES)]


def interpolation(pipe: Pipeline) -> np.ndarray:
    """Draw uint8 (FRAMES, H, W, 3) between two prompts: noise along the arc, embeddings along the line."""
    return np.stack([np.asarray(frame) for frame in interpolate(pipe, BETWEEN, (0, 1), FRAMES)])


def render_grids(facts: Facts) -> str:
    return "\n\n".join(f"{what}:\n\n![{what}]({name})" for name, what in facts["files"].items())


def write(study: Study, name: str, rows: np.ndarray, row_titles: Sequence[str], column_titles: Sequence[str]) -> None:
    """Write uint8 (R, C, H, W, 3) as a sheet with a title over each column and each row."""
    count, across, height, width, _ = rows.shape
    sheet = Image.new("RGB", (across * (width + GAP) + GAP, count * (height + LINE + GAP) + LINE), "white")
    for column, title in enumerate(column_titles):
        label(sheet, (GAP + column * (width + GAP), 1), title, width)
    for row, title in enumerate(row_titles):
        top = LINE + row * (height + LINE + GAP)
        label(sheet, (GAP, top), title, sheet.width)
        for column in range(across):
            sheet.paste(Image.fromarray(rows[row, column]), (GAP + column * (width + GAP), top + LINE))
    save_png(sheet, study.folder / name, {})


def write_pairs(study: Study, name: str, pairs: np.ndarray, titles: Sequence[str]) -> None:
    """Write uint8 (N, 2, H, W, 3) as a sheet of pairs, each with its title."""
    count, _, height, width, _ = pairs.shape
    cell = 2 * width + 3 * GAP, height + LINE + GAP
    sheet = Image.new("RGB", (min(count, ACROSS) * cell[0], -(-count // ACROSS) * cell[1]), "white")
    for index, title in enumerate(titles):
        left, top = (index % ACROSS) * cell[0] + GAP, (index // ACROSS) * cell[1]
        label(sheet, (left, top), title, 2 * width)
        for side in range(2):
            sheet.paste(Image.fromarray(pairs[index, side]), (left + side * width, top + LINE))
    save_png(sheet, study.folder / name, {})


def label(sheet: Image.Image, place: tuple[int, int], text: str, width: int) -> None:
    """Write text that ends with … where it would be wider than `width`."""
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    shown = text
    while pen.textlength(shown, font=font) > width and len(shown) > 1:
        shown = shown[:-2] + "…"
    pen.text(place, shown, fill="black", font=font)


GRIDS = Section("Unpicked images", grid_settings, draw_grids, render_grids)
