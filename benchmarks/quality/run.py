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
from benchmarks.quality.study import Facts, Study, load_real_images
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
@click.option("--quick", is_flag=True, help="A tenth of everything, for trying out.")
def main(package: Path | None, recipe: Path, out: Path, chosen: tuple[str, ...], quick: bool) -> None:
    """Measure how well PACKAGE (default: the built-in model) draws the images of its recipe.

    Run it again after an interruption: images that were drawn are not drawn again.

    \b
    Examples:
      python benchmarks/picture_quality.py --recipe export_configs/emoji-128.toml --out runs/quality
      python benchmarks/picture_quality.py ./package --recipe export_configs/emoji-128.toml --out runs/quality --quick
    """
    started = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"[{time.monotonic() - started:7.1f} s] {text}", err=True)

    try:
        results = measure(package, recipe, out, efficientnet_lite0, chosen=chosen, quick=quick, say=say)
    except LdmError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{results} after {duration(time.monotonic() - started)}")


def measure(
    package: Path | None,
    recipe: Path,
    out: Path,
    make_extractor: Callable[[], Extractor],
    *,
    chosen: Sequence[str] = (),
    quick: bool = False,
    say: Say = lambda text: None,
) -> Path:
    """Measure the chosen sections, or all; returns the path of results.md.

    Raises:
        InputError: the package draws another size than the recipe's, or the recipe holds out no images.
        LdmError: the package, the recipe or its images are not usable.
    """
    trained_by = load_train_recipe(recipe)
    data = trained_by.data
    with ldm_runtime.load(package) as pipe:
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


if __name__ == "__main__":
    main()
