"""Measures how well a text-to-image package draws the images of its training recipe; results for its model card.

Needs the extra `evaluate`:  pip install '.[evaluate]'
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

import ldm_runtime
from benchmarks.quality.features import FeatureCache
from benchmarks.quality.grids import GRIDS
from benchmarks.quality.image_cache import ImageCache, Progress, Say, duration
from benchmarks.quality.sections import SECTIONS
from benchmarks.quality.study import Facts, Study, load_real_images, percent
from ldm_export.analyze.features import Extractor, efficientnet_lite0
from ldm_export.recipes.train import TrainRecipe, load_train_recipe
from ldm_runtime.errors import InputError, LdmError
from ldm_runtime.files.atomic import atomic_file

ALL = {**SECTIONS, "grids": GRIDS}
QUICK = 0.1


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("package", required=False, type=click.Path(path_type=Path))
@click.option(
    "--recipe", required=True, type=click.Path(path_type=Path), help="The recipe that the model was trained by."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the results; images stay there.")
@click.option("--section", "chosen", multiple=True, type=click.Choice(list(ALL)), help="Only this one (repeatable).")
@click.option("--budget", default="exact", show_default=True, help="What may draw, as of `ldm-export run`.")
@click.option(
    "--exact",
    type=click.Path(path_type=Path),
    help="An --out of the exact package, to judge the accuracy by.",
)
@click.option("--quick", is_flag=True, help="A tenth of everything, for trying out.")
def main(
    package: Path | None,
    recipe: Path,
    out: Path,
    chosen: tuple[str, ...],
    budget: str,
    exact: Path | None,
    quick: bool,
) -> None:
    """Measure how well PACKAGE (default: the built-in model) draws the images of its recipe.

    Run it again after an interruption: images that were drawn are not drawn again.

    \b
    Examples:
      python benchmarks/picture_quality.py --recipe export_configs/emoji-128.toml --out runs/quality
      python benchmarks/picture_quality.py ./package --recipe export_configs/emoji-128.toml --out runs/quality --quick
      python benchmarks/picture_quality.py ./package --recipe export_configs/emoji-128.toml --out fast --budget psnr=30
    """
    started = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"[{time.monotonic() - started:7.1f} s] {text}", err=True)

    try:
        if exact is not None and chosen and "accuracy" not in chosen:
            raise InputError(
                f"--exact judges the section accuracy, but --section names {', '.join(chosen)}; add --section accuracy"
            )
        before = None if exact is None else read_accuracy(exact)
        results = measure(package, recipe, out, efficientnet_lite0, chosen=chosen, budget=budget, quick=quick, say=say)
        lines = [] if before is None else judge_accuracy(read_accuracy(out), before)
    except LdmError as error:
        raise click.ClickException(str(error)) from None
    click.echo("\n".join([*lines, f"{results} after {duration(time.monotonic() - started)}"]))


def measure(
    package: Path | None,
    recipe: Path,
    out: Path,
    make_extractor: Callable[[], Extractor],
    *,
    chosen: Sequence[str] = (),
    budget: str = "exact",
    quick: bool = False,
    say: Say = lambda text: None,
) -> Path:
    """Measure the chosen sections, or all; returns the path of results.md.

    budget: as `ldm_runtime.load` has it; where no variant is within it, nothing is measured.

    Raises:
        InputError: the package draws another size than the recipe's, or the recipe holds out no images, or nothing of
        the package is within the budget here.
        LdmError: the package, the recipe or its images are not usable.
    """
    trained_by = load_train_recipe(recipe)
    data = trained_by.data
    with ldm_runtime.load(package, budget=budget) as pipe:
        if budget != "exact" and pipe.variant is None:
            raise InputError(
                f"no variant of {pipe.package.manifest.name} is within {budget} here; build the package with --budget, "
                "or measure it without"
            )
        image = pipe.contract.image
        if (image.width, image.height) != (data.size, data.size):
            raise InputError(
                f"the package {pipe.package.manifest.name} draws {image.width}x{image.height} images, but those of"
                f" {recipe} are {data.size}x{data.size}; give the package that was trained by this recipe"
            )
        extractor = make_extractor()
        say(f"loading the images in {data.folder}")
        real = load_real_images(data)
        if real.trained == len(real):
            raise InputError(f"{recipe} holds out no images; there is nothing to tell learning from repeating by")
        out.mkdir(parents=True, exist_ok=True)
        study = Study(
            pipe=pipe,
            images=ImageCache(pipe, out / "images"),
            features=FeatureCache(extractor, out / "features"),
            real=real,
            backgrounds=data.all_backgrounds,
            share=QUICK if quick else 1,
            folder=out,
            say=say,
        )
        return run_sections(study, trained_by, chosen)


def run_sections(study: Study, recipe: TrainRecipe, chosen: Sequence[str]) -> Path:
    """Draw and measure one section after the other; the results are written after each."""
    names = [name for name in ALL if not chosen or name in chosen]
    settings = {name: ALL[name].settings(study) for name in names}
    unique = {setting: None for name in names for setting in settings[name].values()}
    work = sum(study.images.remaining(setting) * setting.work for setting in unique)
    progress = Progress("drawing", work, study.say)
    facts: dict[str, Facts] = {}
    for name in names:
        study.say(ALL[name].title)
        progress.resume()
        drawn = {key: study.images.draw(setting, progress.advance) for key, setting in settings[name].items()}
        facts[name] = ALL[name].measure(study, drawn)
        write_results(study, recipe, facts)
    return study.folder / "results.md"


def write_results(study: Study, recipe: TrainRecipe, facts: dict[str, Facts]) -> None:
    """Write results.json with every figure, and results.md for people."""
    info = study.pipe.info
    head = {
        "package": info["name"],
        "identity": info["package"],
        "recipe": {"name": recipe.name, "identity": recipe.identity},
        "defaults": {key: info[key] for key in ("sampler", "steps", "guidance", "size")},
        "variant": info["variant"],
        "extractor": study.features.extractor.name,
        "images": {"trained": study.real.trained, "held_out": len(study.real) - study.real.trained},
        "share": study.share,
        "cores": os.cpu_count(),
        "notices": list(study.images.notices),
    }
    lines = [
        f"# Image quality of {info['name']}",
        f"Package {info['package'][:16]}, recipe {recipe.name}: {study.real.trained} images to train on and"
        f" {len(study.real) - study.real.trained} held out. Where nothing else is said, drawn with {info['sampler']},"
        f" {info['steps']} steps, guidance {info['guidance']:g}. Features: {study.features.extractor.name}. Captions"
        " and seeds of all images are in `images/*.json`.",
    ]
    if info["variant"] is not None:
        lines.append(f"Drawn by the variant {info['variant']}, whose own steps and sampler count as the defaults.")
    if study.share != 1:
        lines.append(f"**Only {study.share:.0%} of everything, for trying out: the figures are rough.**")
    lines += [f"Note: {notice}" for notice in study.images.notices]
    for name, fact in facts.items():
        lines += [f"## {ALL[name].title}", ALL[name].render(fact)]
    with atomic_file(study.folder / "results.json") as temporary:
        temporary.write_text(
            json.dumps({**head, "sections": facts}, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
    with atomic_file(study.folder / "results.md") as temporary:
        temporary.write_text("\n\n".join(lines) + "\n", encoding="utf-8")


def read_accuracy(folder: Path) -> dict[str, Facts]:
    """Read from a folder of results how often the model's images have the right concept, by kind of captions.

    Raises InputError where it has no such figures.
    """
    try:
        facts = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        rows = facts["sections"]["accuracy"]["rows"]
        return {row["captions"]: row["top1"] for row in rows if row["row"] == "model"}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder} has no results of the section accuracy; measure the exact package first") from None


def judge_accuracy(found: dict[str, Facts], exact: dict[str, Facts]) -> list[str]:
    """Say of each kind of captions whether the share is within the interval of the exact run or above it."""
    lines = []
    for captions, fact in found.items():
        low = exact[captions]["low"]
        verdict = "met" if fact["share"] >= low else "missed"
        lines.append(
            f"accuracy of {captions} captions: {percent(fact)}, beside {percent(exact[captions])} exactly: {verdict}"
        )
    return lines


if __name__ == "__main__":
    main()
