"""The five measured sections: settings to draw, measures of the images, and tables."""

import numpy as np

from benchmarks.quality.image_cache import Drawn, Setting
from benchmarks.quality.measures import (
    border_colours,
    close_pairs,
    colour_differences,
    distance_between,
    distances_within,
    unit,
)
from benchmarks.quality.study import Facts, Section, Study, percent, share_of
from ldm_export.analyze.frechet import frechet_distance
from ldm_export.tables import markdown_table
from ldm_export.train.image_folder import caption_on

SAMPLERS = ("ddim", "euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_karras", "unipc")  # that are compared
CLOSE = 0.01  # cosine distance below which two real images are hard to tell apart
BORDER = 4  # pixels
SEEDS = 8  # of one prompt, in the section on diversity
STEPS = (4, 8, 20)
MANY_STEPS = 50  # with the default sampler alone
GUIDANCES = (1.0, 1.5, 2.0, 3.0, 5.0, 7.5)


def numbered(study: Study, chosen: np.ndarray, first_seed: int) -> Setting:
    """Ask for one image of each caption, with the package's defaults and a seed that counts up."""
    return study.setting(study.real.captions[chosen], range(first_seed, first_seed + len(chosen)))


# --- 1. concept accuracy ---


def accuracy_captions(study: Study) -> dict[str, np.ndarray]:
    return {
        "trained": study.trained(200, seed=1),
        "held_out": study.held_out(len(study.real) - study.real.trained, seed=1),
    }


def accuracy_settings(study: Study) -> dict[str, Setting]:
    chosen = accuracy_captions(study)
    return {
        "trained": numbered(study, chosen["trained"], 10_000),
        "held_out": numbered(study, chosen["held_out"], 20_000),
    }


def measure_accuracy(study: Study, drawn: dict[str, Drawn]) -> Facts:
    rows: list[Facts] = []
    for kind, chosen in accuracy_captions(study).items():
        features = study.features_of(drawn[kind].images, f"{kind} images")
        rebuilt = study.features_of(study.reconstructed(chosen), f"{kind} reconstructions")
        sizes = np.array([(study.real.styles == style).sum() for style in study.real.styles[chosen]])
        rows += [
            {"row": "model", "captions": kind, **study.accuracy(features, chosen)},
            {"row": "ceiling", "captions": kind, **study.accuracy(rebuilt, chosen)},
            {"row": "floor", "captions": kind, **study.accuracy(features, chosen, other_concepts(study, chosen))},
            {"row": "chance", "captions": kind, "top1": float((1 / sizes).mean()), "top5": float((5 / sizes).mean())},
        ]
    gallery = unit(study.real_features)
    styles = np.unique(study.real.styles)
    pairs = {str(style): close_pairs(gallery[study.real.styles == style], CLOSE) for style in styles}
    sizes_by_style = {str(style): int((study.real.styles == style).sum()) for style in styles}
    return {"rows": rows, "gallery": sizes_by_style, "close_pairs": pairs, "close": CLOSE}


def other_concepts(study: Study, chosen: np.ndarray) -> np.ndarray:
    """Return for each chosen image the name of another concept that has its style."""
    random = np.random.default_rng(2)
    names = []
    for index in chosen:
        others = (study.real.styles == study.real.styles[index]) & (study.real.names != study.real.names[index])
        names.append(random.choice(study.real.names[others]))
    return np.array(names)


ROW_TITLES = {
    "model": "model",
    "ceiling": "ceiling: the real images through the package's autoencoder",
    "floor": "floor: the model's images, each scored against another caption's concept",
    "chance": "chance",
}


def render_accuracy(facts: Facts) -> str:
    rows = []
    for row in facts["rows"]:
        shares = [f"{row[top]:.2%}" if row["row"] == "chance" else percent(row[top]) for top in ("top1", "top5")]
        rows.append([row["captions"].replace("_", "-"), ROW_TITLES[row["row"]], str(row.get("count", "")), *shares])
    styles = [
        f"- {row['captions'].replace('_', '-')} captions: "
        + ", ".join(f"{style} {percent(share)}" for style, share in row["top1_by_style"].items())
        for row in facts["rows"]
        if row["row"] == "model"
    ]
    gallery = ", ".join(f"{size} in {style}" for style, size in facts["gallery"].items())
    pairs = ", ".join(f"{count} in {style}" for style, count in facts["close_pairs"].items())
    return "\n\n".join(
        [
            "An image is right if its nearest real image of the same style (cosine, on the plain background, trained"
            " and held-out ones together) has the caption's concept; top-5: if one of the five nearest has. In"
            " brackets: the binomial 95 % interval.",
            markdown_table(["captions", "row", "images", "top-1", "top-5"], rows),
            "The model's top-1 by style:\n\n" + "\n".join(styles),
            f"Real images to choose from: {gallery}. Pairs of them closer than {facts['close']} in cosine distance,"
            f" which nothing can tell apart safely: {pairs}.",
        ]
    )


# --- 2. Fréchet feature distance ---


def frechet_captions(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Return the captions to draw, and as many others."""
    half = min(study.scaled(1000), study.real.trained // 2)
    both = study.trained(2000, seed=3)[: 2 * half]
    return both[:half], both[half:]


def frechet_settings(study: Study) -> dict[str, Setting]:
    return {"drawn": numbered(study, frechet_captions(study)[0], 30_000)}


def measure_frechet(study: Study, drawn: dict[str, Drawn]) -> Facts:
    chosen, others = frechet_captions(study)
    real = study.real_features[chosen]
    rebuilt = study.features_of(study.reconstructed(chosen), "reconstructions")
    return {
        "count": len(chosen),
        "extractor": study.features.extractor.name,
        "model": frechet_distance(study.features_of(drawn["drawn"].images, "drawn images"), real),
        "reconstruction": frechet_distance(rebuilt, real),
        "real": frechet_distance(study.real_features[others], real),
    }


def render_frechet(facts: Facts) -> str:
    rows = [
        ["drawn images against the real images of the same captions", f"{facts['model']:.2f}"],
        [
            "the same real images through the package's autoencoder, against themselves",
            f"{facts['reconstruction']:.2f}",
        ],
        ["real images of other captions against the same real images", f"{facts['real']:.2f}"],
    ]
    return "\n\n".join(
        [
            markdown_table(
                [f"Fréchet feature distance ({facts['extractor']})", f"{facts['count']} against {facts['count']}"], rows
            ),
            "This is not FID: the features are another network's. It falls with the number of images, so compare only"
            " values of the same number. The last row is what an unseen sample of the real images gets; a model that"
            " repeats the real images of its captions gets 0.",
        ]
    )


# --- 3. diversity across seeds ---


def diversity_captions(study: Study) -> dict[str, np.ndarray]:
    return {"trained": study.trained(40, seed=4), "held_out": study.held_out(40, seed=4)}


def diversity_settings(study: Study) -> dict[str, Setting]:
    settings = {}
    for (kind, chosen), first in zip(diversity_captions(study).items(), (40_000, 41_000), strict=True):
        prompts = np.repeat(study.real.captions[chosen], SEEDS)
        settings[kind] = study.setting(prompts, range(first, first + len(prompts)))
    return settings


def measure_diversity(study: Study, drawn: dict[str, Drawn]) -> Facts:
    rows = []
    for kind, chosen in diversity_captions(study).items():
        images = drawn[kind].images
        features = unit(study.features_of(images, f"{kind} images")).reshape(len(chosen), SEEDS, -1)
        real = unit(study.real_features[chosen])[:, None]
        styles = study.real.styles[chosen]
        groups = images.reshape(len(chosen), SEEDS, *images.shape[1:]).astype(np.float32)
        rows.append(
            {
                "captions": kind,
                "prompts": len(chosen),
                "within": float(distances_within(features).mean()),
                "between": distance_between(features, styles),
                "real_between": distance_between(real, styles),
                "pixel_deviation": float(np.mean([group.std(axis=0).mean() for group in groups])),
            }
        )
    return {"seeds": SEEDS, "rows": rows}


def render_diversity(facts: Facts) -> str:
    rows = []
    for row in facts["rows"]:
        distances = ["" if row[key] is None else f"{row[key]:.4f}" for key in ("within", "between", "real_between")]
        kind = row["captions"].replace("_", "-")
        rows.append([kind, str(row["prompts"]), *distances, f"{row['pixel_deviation']:.1f}"])
    head = ["captions", "prompts", "one prompt", "different prompts", "different real images", "pixel deviation"]
    return "\n\n".join(
        [
            f"{facts['seeds']} seeds for each prompt. Mean cosine distance of the features of images of one prompt,"
            " of different prompts of one style, and of the real images of different prompts of one style; and the"
            " standard deviation of a pixel across the seeds, in levels of 0…255.",
            markdown_table(head, rows),
        ]
    )


# --- 4. background colour ---


def background_captions(study: Study) -> np.ndarray:
    return study.trained(100, seed=5)


def background_settings(study: Study) -> dict[str, Setting]:
    captions = study.real.captions[background_captions(study)]
    seeds = range(50_000, 50_000 + len(captions))  # the same for every colour
    return {
        background.name: study.setting([caption_on(str(caption), background) for caption in captions], seeds)
        for background in study.backgrounds
    }


def measure_backgrounds(study: Study, drawn: dict[str, Drawn]) -> Facts:
    palette = np.array([background.colour for background in study.backgrounds])
    rows, named = [], []
    for index, background in enumerate(study.backgrounds):
        away = colour_differences(border_colours(drawn[background.name].images, BORDER), palette)  # (N, P)
        nearest = away.argmin(axis=1)
        real = border_colours(study.real.composed(background_captions(study), background), BORDER)
        wrong = nearest[nearest != index]
        rows.append(
            {
                "name": background.name,
                "colour": list(background.colour),
                "right": share_of(nearest == index),
                "real_right": float((colour_differences(real, palette).argmin(axis=1) == index).mean()),
                "delta_e": float(away[:, index].mean()),
                "taken_for": study.backgrounds[int(np.bincount(wrong).argmax())].name if len(wrong) else None,
            }
        )
        if background.name != "":
            named.append(nearest == index)
    overall: Facts | None = None
    if named:
        overall = share_of(np.concatenate(named))
        overall["delta_e"] = float(np.mean([row["delta_e"] for row in rows if row["name"] != ""]))
    return {"captions": len(drawn[""].images), "border": BORDER, "named": overall, "rows": rows}


def render_backgrounds(facts: Facts) -> str:
    rows = []
    for row in facts["rows"]:
        name = row["name"] if row["name"] != "" else "(none named: the plain one)"
        taken = "" if row["taken_for"] is None else row["taken_for"] if row["taken_for"] != "" else "the plain one"
        colour = ", ".join(map(str, row["colour"]))
        rows.append([name, colour, percent(row["right"]), f"{row['delta_e']:.1f}", taken, f"{row['real_right']:.1%}"])
    if facts["named"] is not None:
        rows.append(["all named", "", percent(facts["named"]), f"{facts['named']['delta_e']:.1f}", "", ""])
    head = ["background", "RGB", "right", "mean Delta E", "most often taken for", "real images right"]
    return "\n\n".join(
        [
            f"{facts['captions']} captions with each background, and the same seeds. Right: the median colour of the"
            f" border of {facts['border']} pixels is nearest, in CIELAB, to the colour that was asked for. Delta E (CIE"
            " 1976) is its distance from that colour. Last column: the real images composed over that colour.",
            markdown_table(head, rows),
        ]
    )


# --- 5. samplers, steps, guidance ---


def table_captions(study: Study) -> dict[str, np.ndarray]:
    return {"trained": study.trained(100, seed=6), "held_out": study.held_out(100, seed=6)}


def table_settings(study: Study) -> dict[str, Setting]:
    """List all samplers at all steps with the default guidance; all guidances and many steps with the default one."""
    defaults = study.pipe.contract.defaults
    captions = study.real.captions[np.concatenate(list(table_captions(study).values()))]
    cells = [(sampler, steps, defaults.guidance) for sampler in SAMPLERS for steps in STEPS]
    cells.append((defaults.sampler, MANY_STEPS, defaults.guidance))
    cells += [(defaults.sampler, steps, guidance) for guidance in GUIDANCES for steps in STEPS]
    seeds = range(60_000, 60_000 + len(captions))  # the same in every cell
    return {
        f"{sampler} {steps} {guidance:g}": study.setting(
            captions, seeds, sampler=sampler, steps=steps, guidance=guidance
        )
        for sampler, steps, guidance in cells
    }


def measure_table(study: Study, drawn: dict[str, Drawn]) -> Facts:
    chosen = table_captions(study)
    trained = len(chosen["trained"])
    both = np.concatenate(list(chosen.values()))
    rows = []
    for name, setting in table_settings(study).items():
        features = study.features_of(drawn[name].images, f"the cell {name}")
        rows.append(
            {
                "sampler": setting.sampler,
                "steps": setting.steps,
                "guidance": setting.guidance,
                "trained": study.accuracy(features[:trained], both[:trained]),
                "held_out": study.accuracy(features[trained:], both[trained:]),
                "frechet": frechet_distance(features, study.real_features[both]),
                "seconds": float(np.median(drawn[name].seconds)),
            }
        )
    counts = {kind: len(indices) for kind, indices in chosen.items()}
    return {"counts": counts, "rows": rows, "batch": study.images.batch, "extractor": study.features.extractor.name}


def render_table(facts: Facts) -> str:
    rows = []
    for row in facts["rows"]:
        cell = [row["sampler"], str(row["steps"]), f"{row['guidance']:g}"]
        right = [f"{row[kind]['top1']['share']:.1%}" for kind in ("trained", "held_out")]
        rows.append([*cell, *right, f"{row['frechet']:.2f}", f"{row['seconds']:.2f}"])
    counts = facts["counts"]
    head = ["sampler", "steps", "guidance", "trained, top-1", "held-out, top-1", "Fréchet", "seconds"]
    return "\n\n".join(
        [
            f"The same {counts['trained']} training captions and {counts['held_out']} held-out ones, each with the same"
            f" seed in every row. Fréchet: the Fréchet feature distance ({facts['extractor']}) from the real"
            " images of these captions. Seconds: the median for one image, drawn"
            f" {facts['batch']} at a time on a machine that had other work too: no more than a hint.",
            markdown_table(head, rows),
        ]
    )


SECTIONS: dict[str, Section] = {
    "accuracy": Section("Concept accuracy", accuracy_settings, measure_accuracy, render_accuracy),
    "frechet": Section("Fréchet feature distance", frechet_settings, measure_frechet, render_frechet),
    "diversity": Section("Diversity across seeds", diversity_settings, measure_diversity, render_diversity),
    "backgrounds": Section("Background colour", background_settings, measure_backgrounds, render_backgrounds),
    "samplers": Section("Samplers, steps and guidance", table_settings, measure_table, render_table),
}
