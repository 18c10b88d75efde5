"""The part of section compression about a whole image: text encoders, steps of the UNet, encoder and decoder."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from ldm_export.analyze.findings import Cell, Figure, Findings, Table
from ldm_export.analyze.graph_cost import Cost
from ldm_export.analyze.subject import Subject
from ldm_export.analyze.timing import Seconds
from ldm_export.analyze.wording import counted
from ldm_runtime.package.manifest import Contract
from ldm_runtime.sampling.plan import compile_plan

BACKWARD = 2  # forward passes that a backward pass is worth

Evaluations = Mapping[str, int]  # by component


@dataclass(frozen=True)
class Recipe:
    """How often each component is evaluated for an image: from a text, from an image, and in a step of training.

    both: evaluations of the UNet at a row of the plan, 2 with guidance. rows: of the plan.
    """

    text: Evaluations
    image: Evaluations
    training: Evaluations
    both: int
    rows: int


def recipe_of(contract: Contract) -> Recipe:
    """Return how often each component is evaluated, with the model's own sampler, steps and guidance."""
    defaults, codec, unet = contract.defaults, contract.codec, contract.denoiser.component
    rows = len(compile_plan(contract.schedule, defaults.parsed_sampler, defaults.steps).rows)
    both = 2 if contract.evaluates_negative(defaults.guidance) else 1
    prompts = 1 if both == 1 or defaults.zero_negative else 2
    texts = {role.component: prompts for role in contract.text}
    encodings = 2 if contract.inpaints else 1  # of the image and, for inpainting, of what its mask leaves
    drawing = {**texts, unet: both * rows}
    encoded, decoded = {codec.encoder.component: encodings}, {codec.decoder.component: 1}
    return Recipe(
        text={**drawing, **(encoded if contract.inpaints else {codec.encoder.component: 0}), **decoded},
        image={**drawing, **encoded, **decoded},
        training={**dict.fromkeys(texts, 1), unet: 1 + BACKWARD, **encoded, codec.decoder.component: 0},
        both=both,
        rows=rows,
    )


def add_total(
    findings: Findings, subject: Subject, costs: Mapping[str, Cost], seconds: Mapping[str, Seconds], pixel: Cost
) -> None:
    """Say what an image costs, and from how many steps on a model on pixels costs more. pixel: the UNet's twin."""
    contract, recipe = subject.contract, recipe_of(subject.contract)
    macs = {name: cost.total for name, cost in costs.items()}
    total = work(macs, recipe.text)
    findings.tables.append(_table(macs, recipe))
    guided = " with guidance" if recipe.both == 2 else ""
    steps = f"{counted(contract.defaults.steps, 'step')}{guided}"
    source = "an image and its mask, with the encoder" if contract.inpaints else "a text"
    decoder = macs[contract.codec.decoder.component] / total
    findings.figures += [
        _counted("total", f"Work of one image from {source}: text encoding, {steps}, decoder", total / 1e9, "GMAC"),
        _counted("total_image", "The same from an image, which is encoded", work(macs, recipe.image) / 1e9, "GMAC"),
        Figure(
            "total_training",
            "Work of one training step of the UNet on one image: encoder, text encoding, forward and backward pass",
            work(macs, recipe.training) / 1e9,
            "GMAC",
            "counted from the shapes; a backward pass is taken as two forward passes",
            "What checkpointing computes again and the optimiser are not in it; kept latents and embeddings save all "
            "but the UNet.",
            note="The backward pass is a rule of thumb, so there is no interval.",
        ),
        _counted("codec_share", f"Share of the decoder in the work of one image from {source}", decoder, ""),
    ]
    time = _time_figure(recipe, seconds)
    findings.figures.append(time)
    findings.figures += _break_even(contract, macs, recipe, pixel.total)
    findings.sentences.append(total_sentence(contract, macs, recipe, pixel.total))


def work(each: Mapping[str, float], evaluations: Evaluations) -> float:
    """Return what so many evaluations of components take together."""
    return sum(count * each[name] for name, count in evaluations.items())


def saved_per_step(contract: Contract, macs: Mapping[str, float], recipe: Recipe, pixel: float) -> float:
    """Return the work that a step on latents saves, on average over the plan's rows; negative: it costs more."""
    each_step = recipe.both * recipe.rows / contract.defaults.steps
    return each_step * (pixel - macs[contract.denoiser.component])


def total_sentence(contract: Contract, macs: Mapping[str, float], recipe: Recipe, pixel: float) -> str:
    """Say what makes up the work of an image, and when latents pay."""
    unet, decoder = contract.denoiser.component, contract.codec.decoder.component
    total = work(macs, recipe.text)
    shares = {name: count * macs[name] / total for name, count in recipe.text.items() if count > 0}
    others = [f"{name} {share:.1%}" for name, share in shares.items() if name != unet]
    text = (
        f"Of the {total / 1e9:,.3g} GMAC of an image, {counted(recipe.text[unet], 'evaluation')} of the UNet are "
        f"{shares[unet]:.1%}; the rest is {', '.join(others)}. "
    )
    saved = saved_per_step(contract, macs, recipe, pixel)
    if saved <= 0:
        return text + "A UNet on pixels does no more work at this size: latents never pay by their cost."
    codec = macs[contract.codec.encoder.component] * recipe.image[contract.codec.encoder.component] + macs[decoder]
    steps = codec / saved
    when = f"step {max(1, math.ceil(steps)):,}"
    return text + (
        f"Encoder and decoder are work that pixels do not need, {steps:.2g} of what a step on latents saves: from "
        f"{when} on latents cost less."
    )


# --- Figures and tables ---


def _counted(name: str, title: str, value: float, unit: str) -> Figure:
    limits = "Of work; in time the shares are others: see the table of components."
    return Figure(name, title, value, unit, "counted from the shapes", limits, interval="exact")


def _time_figure(recipe: Recipe, seconds: Mapping[str, Seconds]) -> Figure:
    title, estimator = "Time of one image, by its evaluations", "evaluations of each component times their median"
    limits = "Of this machine. What the loop does between evaluations, and how one warms the other, is not in it."
    needed = [name for name, count in recipe.text.items() if count > 0]
    missing = [name for name in needed if not seconds[name]]
    if missing:
        note = f"Not all components were timed: {', '.join(missing)}."
        return Figure("total_time", title, None, "s", estimator, limits, note=note)
    middle, low, high = (
        work({name: pick(seconds[name]) for name in needed}, {name: recipe.text[name] for name in needed})
        for pick in (statistics.median, min, max)
    )
    interval = "with all the fastest and all the slowest"
    return Figure("total_time", title, middle, "s", estimator, limits, low, high, interval)


def _break_even(contract: Contract, macs: Mapping[str, float], recipe: Recipe, pixel: float) -> list[Figure]:
    saved = saved_per_step(contract, macs, recipe, pixel)
    encoder = macs[contract.codec.encoder.component] * recipe.image[contract.codec.encoder.component]
    decoder = macs[contract.codec.decoder.component]
    unet = macs[contract.denoiser.component]
    found = []
    for name, title, extra, each, formula, unit in (
        (
            "break_even",
            "Steps from which on latents cost less, from an image: with encoder and decoder",
            encoder + decoder,
            saved,
            "(encoder + decoder) / what a step saves",
            "steps",
        ),
        (
            "break_even_text",
            "Steps from which on latents cost less, from a text: with the decoder alone",
            decoder,
            saved,
            "decoder / what a step saves",
            "steps",
        ),
        (
            "break_even_training",
            "Training steps on an image after which its encoding has paid",
            encoder,
            (1 + BACKWARD) * (pixel - unet),
            f"encoder / {1 + BACKWARD} x (UNet on pixels - UNet on latents)",
            "training steps",
        ),
    ):
        estimator = f"{formula}, counted at the model's size"
        limits = "Of work, with the twin on pixels; text encoders cost both the same. Time has another one."
        if each > 0:
            found.append(Figure(name, title, extra / each, unit, estimator, limits, interval="exact"))
        else:
            note = "Latents never cost less at this size."
            found.append(Figure(name, title, None, unit, estimator, limits, note=note))
    return found


def _table(macs: Mapping[str, float], recipe: Recipe) -> Table:
    uses = (recipe.text, recipe.image, recipe.training)
    totals = [work(macs, use) for use in uses]

    def row(name: str) -> tuple[Cell, ...]:
        counts = [use.get(name, 0) for use in uses]
        return (
            name,
            macs[name] / 1e9,
            *counts,
            *(count * macs[name] / of for count, of in zip(counts, totals, strict=True)),
        )

    return Table(
        "total",
        "Evaluations for one image, and their shares of its work",
        (
            "component",
            "GMAC",
            "from a text",
            "from an image",
            "training step",
            "share, text",
            "share, image",
            "share, training",
        ),
        tuple(row(name) for name in macs),
        "With the model's own sampler, steps and guidance; from an image at full strength. An inpainting model draws "
        f"from an image alone, and encodes it twice. In training a backward pass counts as {BACKWARD} evaluations.",
    )
