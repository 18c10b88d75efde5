"""The model card of a trained checkpoint."""

from ldm_export.recipes.train import TrainRecipe
from ldm_export.tables import markdown_table


def model_card(recipe: TrainRecipe, sizes: dict[str, int], metrics: dict[str, dict[str, float]], origin: str) -> str:
    """Write the model's README: its size, metrics, and the origin and licences of its data."""
    samples, data = recipe.samples, recipe.data
    total = sum(sizes.values())
    parts = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in sizes.items())
    sources = origin if origin else "Not recorded."
    chosen = "; ".join(f"{key}: {', '.join(values)}" for key, values in data.where.items())
    figures = [
        [stage, name, f"{value:.4g}"]
        for stage, row in metrics.items()
        for name, value in row.items()
        if name not in ("gradient_norm", "learning_rate")
    ]
    return f"""# {recipe.name}

A latent diffusion model trained from random weights with `ldm-export train` ({total / 1e6:.2f} M parameters: {parts}).
It draws {data.size}x{data.size} images of what its captions name, and little else: a demonstration, not a general
model. Prompts look like "{samples.prompts[0] if samples.prompts else ""}". Settings of the samples seen in training:
{samples.sampler}, {samples.steps} steps, guidance {samples.guidance:g}.

## How well it learnt

{markdown_table(["stage", "measure", "at the last step"], figures)}

Held-out images and their captions were never trained on. A diffusion loss far above the trained one means that the
model repeats what it has seen: expect the known captions, in the known wording, and little variation between seeds.

## Origin and licences of the data

Trained on {chosen if chosen else "all images"} from a data folder that was made of these packages; the full recipe is
`recipe.toml`.

{sources}

The images are not part of this checkpoint. The weights are under the licence of ldm-export (Apache-2.0).
"""
