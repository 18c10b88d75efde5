"""What a run of SDXL is told, its tasks and its schedules, against diffusers' pipelines: torch in place of engines."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_runtime.errors import InputError
from ldm_runtime.interpolate import interpolate
from ldm_runtime.pipeline import Pipeline
from tests.families.sdxl_oracle import SIZE, compare, last, levels, opened
from tests.torch_pipeline import torch_pipeline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def pipe(sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with torch_pipeline(sdxl, tmp_path_factory.mktemp("work")) as drawing:
        yield drawing


@pytest.fixture(scope="module")
def theirs(sdxl: Path) -> Any:
    return opened(sdxl)


@pytest.mark.parametrize(
    "sizes",
    [
        {"original_size": (1024, 768)},
        {"crop_top_left": (64, 0)},
        {"target_size": (512, 640)},
        {"original_size": (300, 200), "crop_top_left": (3, 17), "target_size": (768, 1024)},
    ],
)
def test_the_sizes_that_are_told_are_diffusers(pipe: Pipeline, theirs: Any, sizes: dict[str, Any]) -> None:
    """The same numbers as theirs, in their order: heights come first."""
    told = {
        {"crop_top_left": "crops_coords_top_left"}.get(name, name): value if name == "crop_top_left" else value[::-1]
        for name, value in sizes.items()
    }
    expected = levels(theirs, "a red apple", "blue", generator=torch.Generator().manual_seed(7), **told)
    options: dict[str, Any] = {"negative": "blue", "steps": 4, "guidance": 5.0, "size": SIZE, "seed": 7}
    found = pipe("a red apple", **options, **sizes, noise="torch")[0]
    compare(found, expected)
    written = {"original_size": "original size", "crop_top_left": "crop top left", "target_size": "target size"}
    assert {written[name] for name in sizes} <= found.info.keys()
    assert not written.keys() & pipe("a red apple", **options)[0].info.keys()


TASKS: dict[str, dict[str, Any]] = {
    "image to image": {"strength": 0.6},
    "inpainting": {"strength": 1.0},
    "inpainting in part": {"strength": 0.7},
}


@pytest.mark.parametrize("negative", [None, "blue"])
@pytest.mark.parametrize("task", TASKS)
def test_tasks_are_diffusers(pipe: Pipeline, theirs: Any, task: str, negative: str | None) -> None:
    import diffusers

    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8))
    options: dict[str, Any] = {"image": image, **TASKS[task]}
    kind: Any = diffusers.StableDiffusionXLImg2ImgPipeline
    sizes = {}
    if task != "image to image":
        mask = np.zeros(SIZE[::-1], np.uint8)
        mask[8:24, 8:28] = 255
        options["mask"] = Image.fromarray(mask)
        kind = diffusers.StableDiffusionXLInpaintPipeline
        sizes = {"width": SIZE[0], "height": SIZE[1], "mask_image": options["mask"]}
    other = kind(**theirs.components, add_watermarker=False)
    other.set_progress_bar_config(disable=True)
    made = other(
        "a red apple",
        negative_prompt=negative,
        image=image,
        strength=options["strength"],
        num_inference_steps=5,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
        **sizes,
    )
    drawn = pipe("a red apple", negative=negative, steps=5, guidance=5.0, seed=7, noise="torch", **options)[0]
    compare(drawn, np.asarray(255.0 * made.images[0], np.float64))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"original_size": (0, 8)}, "the width of original_size is 0; expected an integer from 1 to 1048576"),
        ({"target_size": (8, 2**21)}, "the height of target_size"),
        ({"crop_top_left": (-1, 0)}, "the top of crop_top_left is -1"),
        ({"crop_top_left": "0:0"}, r"expected \(top, left\) in pixels"),
        ({"original_size": 8}, r"original_size is 8; expected \(width, height\) in pixels"),
    ],
)
def test_sizes_that_are_none_are_refused(pipe: Pipeline, sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe.sample("red", **sizes)


def test_embeddings_are_given_with_their_pooled_text(pipe: Pipeline) -> None:
    context, pooled = pipe.embed_pooled("red apple")
    assert pooled.shape == (1, 20)
    for negative in (None, "blue"):
        given = last(pipe, prompt=None, prompt_embeds=context, pooled_prompt_embeds=pooled, negative=negative)
        np.testing.assert_array_equal(given, last(pipe, negative=negative))
    with pytest.raises(InputError, match="reads pooled text too, which prompt_embeds does not hold"):
        pipe.sample(prompt_embeds=context)
    with pytest.raises(InputError, match=r"pooled_prompt_embeds has shape \(1, 20\); expected \(2, 20\)"):
        pipe.sample(prompt_embeds=np.concatenate([context] * 2), pooled_prompt_embeds=pooled)
    with pytest.raises(InputError, match="given, without prompt_embeds; leave it out"):
        pipe.sample("red", pooled_prompt_embeds=pooled)


def test_interpolation_ends_at_its_prompts(pipe: Pipeline) -> None:
    first, *_, final = interpolate(pipe, ("red apple", "blue cat"), (3, 4), 3, steps=2, size=SIZE)
    for image, prompt, seed in ((first, "red apple", 3), (final, "blue cat", 4)):
        alone = pipe(prompt, seed=seed, steps=2, size=SIZE)[0]
        assert np.abs(np.asarray(image, int) - np.asarray(alone, int)).max() <= 1


def test_long_prompts_join_the_windows_of_both_encoders(pipe: Pipeline) -> None:
    joined, pooled = pipe.embed_pooled("red apple BREAK blue cat", syntax="weighted")
    alone = [pipe.embed_pooled(text) for text in ("red apple", "blue cat")]
    np.testing.assert_array_equal(joined, np.concatenate([context for context, _ in alone], axis=1))
    np.testing.assert_array_equal(pooled, alone[0][1])  # the first window's
    heavy, _ = pipe.embed_pooled("red (apple:1.5)", syntax="weighted")
    for first, last_column in ((0, 24), (24, 56)):  # each encoder's part has the weight
        assert np.abs(heavy - alone[0][0])[..., first:last_column].max() > 1e-3


def test_a_batch_is_drawn_as_diffusers_draws_it(pipe: Pipeline, theirs: Any) -> None:
    prompts, negatives = ["a red apple", "a blue cat"], ["blue", "dog"]
    made = theirs(
        prompts,
        negative_prompt=negatives,
        num_images_per_prompt=2,
        width=SIZE[0],
        height=SIZE[1],
        num_inference_steps=4,
        generator=[torch.Generator().manual_seed(seed) for seed in range(4)],
        output_type="np",
    ).images
    found = pipe(prompts, negative=negatives, count=2, steps=4, guidance=5.0, size=SIZE, seed=0, noise="torch")
    for one, other in zip(found, made, strict=True):
        compare(one, np.asarray(255.0 * other, np.float64))


def test_a_preview_is_near_the_image_it_becomes(pipe: Pipeline) -> None:
    *_, before, final = pipe.sample("a red apple", steps=6, size=SIZE, seed=1)
    image = np.asarray(final.images()[0], np.float64)
    assert np.abs(np.asarray(before.preview()[0], np.float64) - image).mean() < image.std()
