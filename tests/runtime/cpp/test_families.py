"""Every family's tiny package and the built-in one: the library feeds the graphs as Python does, and draws the same."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ldm_runtime
from ldm_runtime.components import Components
from ldm_runtime.errors import InputError
from ldm_runtime.noise.philox import philox_normal
from ldm_runtime.pipeline import Pipeline, builtin_package
from tests.families.test_latent_consistency import SCHEDULER
from tests.once import make_once
from tests.oracles import build_tiny_sd, with_tiny_autoencoder
from tests.runtime.cpp.context import Refusal
from tests.runtime.cpp.library import Evaluation, Library
from tests.runtime.cpp.library import Run as LibraryRun
from tests.runtime.notices import said
from tests.tiny_build import packaged

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]

TINY_BUILDS = ("sd15", "sd21", "sdxl", "inpaint", "sdxl_inpaint")
OTHERS: dict[str, Callable[[Path], Path]] = {
    "guidance embedding": lambda folder: build_tiny_sd(folder, unet={"time_cond_proj_dim": 32}, scheduler=SCHEDULER),
    "tiny autoencoder": lambda folder: with_tiny_autoencoder(build_tiny_sd(folder)),
    "cut UNet": lambda folder: build_tiny_sd(folder, unet={"mid_block_type": None}),
}
FAMILIES = (*TINY_BUILDS, *OTHERS, "built-in")
SIZE = (40, 32)
PROMPT = "a red apple, 3d style"


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (50, 60, 3), np.uint8))


def mask() -> Image.Image:
    levels = np.zeros((50, 60), np.uint8)
    levels[10:40, 20:55] = 255
    return Image.fromarray(levels)


IMAGE, MASK = picture(2), mask()
TASKS: dict[str, dict[str, Any]] = {
    "text to image": {"negative": "blue", "sampler": "ddim"},
    "no negative": {"sampler": "dpmpp_2m_karras", "steps": 4},
    "no guidance": {"guidance": 1.0, "noise": "torch", "sampler": "ddpm"},
    "several prompts": {
        "prompt": [PROMPT, "the smile of a blue cat! " * 30],
        "negative": ["x", "y"],
        "sampler": "euler",
    },
    "weighted prompts": {"prompt": "a (red:1.4) [apple] BREAK a cat", "negative": "(ugly)", "syntax": "weighted"},
    "guidance in part": {"guidance_rescale": 0.5, "guidance_interval": (0.2, 0.9), "sampler": "unipc", "steps": 4},
    "torch noise": {"noise": "torch", "sampler": "euler_ancestral", "seed": [2**64 - 1, 3], "count": 2},
    "cuda noise": {"noise": "cuda", "sampler": "tcd"},
    "variation": {"variation": (9, 0.3), "sampler": "heun", "stop_after": 2},
    "image to image": {"image": IMAGE, "strength": 0.7, "sampler": "dpmpp_sde", "steps": 4},
    "image to image with torch noise": {"image": [IMAGE, picture(3)], "count": 2, "noise": "torch", "negative": "blue"},
    "inpainting": {"image": IMAGE, "mask": MASK, "sampler": "ddim"},
    "inpainting in part": {"image": IMAGE, "mask": MASK, "strength": 0.8, "noise": "torch", "steps": 4},
}
SIZES = {"original_size": (300, 200), "crop_top_left": (3, 17), "target_size": (768, 1024)}


@pytest.fixture(scope="module", params=FAMILIES)
def package(request: pytest.FixtureRequest, tiny_build: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The family's package; those of other tests are shared with them."""
    name = request.param
    if name in TINY_BUILDS:
        return Path(tiny_build(name).package)
    if name == "built-in":
        return builtin_package()
    made = make_once(tmp_path_factory, name, lambda folder: packaged(folder, OTHERS[name](folder / "source")))
    return made.package


@pytest.fixture(scope="module")
def pipe(package: Path) -> Iterator[Pipeline]:
    with ldm_runtime.load(package, engine="ort") as opened:
        yield opened


@pytest.fixture(scope="module")
def library(package: Path, library_file: Path, onnxruntime_library: Path) -> Iterator[Library]:
    with Library(library_file, onnxruntime_library, package) as opened:
        yield opened


def options_of(pipe: Pipeline, task: str) -> dict[str, Any]:
    """A task's options, with what the family needs besides."""
    size = (64, 96) if pipe.contract.latent.downsample == 8 else SIZE
    needed: dict[str, Any] = {"image": IMAGE, "mask": MASK} if pipe.contract.inpaints else {}
    told = SIZES if pipe.contract.reads_sizes and task == "no negative" else {}
    return {"prompt": PROMPT, "seed": 7, "steps": 3, "size": size, **needed, **told, **TASKS[task]}


def drawn_by_python(
    pipe: Pipeline, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Any, np.ndarray, list[Evaluation]]:
    """The run, its last step, the images and what the components were fed."""
    fed: list[Evaluation] = []
    evaluate = Components.evaluate

    def recording(
        its: Components, component: str, feeds: dict[str, np.ndarray], artefact: str | None = None
    ) -> dict[str, np.ndarray]:
        fed.append(Evaluation(component, {name: np.array(value) for name, value in feeds.items()}))
        return evaluate(its, component, feeds, artefact)

    monkeypatch.setattr(Components, "evaluate", recording)
    run = pipe.sample(**options)
    *_, last = run
    return run, last, np.stack([np.asarray(image, int) for image in last.images()]), fed


def relative_rms(found: np.ndarray, expected: np.ndarray) -> float:
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    assert found.shape == expected.shape
    return float(np.sqrt(np.square(found - expected).mean() / max(np.square(expected).mean(), 1e-30)))


def assert_fed_alike(found: list[Evaluation], expected: list[Evaluation], encoders: set[str]) -> None:
    """Token ids are equal, whatever the order of the windows; the other components come in order.

    Python encodes one picture for several images as often, the library once.
    """
    windows = [
        {(one.component, *token_ids(one)) for one in fed if one.component in encoders} for fed in (found, expected)
    ]
    assert windows[0] == windows[1]
    others = [without_repeated([one for one in fed if one.component not in encoders]) for fed in (found, expected)]
    assert [one.component for one in others[0]] == [one.component for one in others[1]]
    for one, other in zip(*others, strict=True):
        assert one.feeds.keys() == other.feeds.keys()
        for name, value in other.feeds.items():
            assert relative_rms(one.feeds[name], value) <= 1e-5, (one.component, name)


def token_ids(evaluation: Evaluation) -> list[int]:
    (ids,) = evaluation.feeds.values()
    return [int(token) for token in ids.ravel()]


def without_repeated(fed: list[Evaluation]) -> list[Evaluation]:
    def is_same(one: Evaluation, other: Evaluation) -> bool:
        return one.component == other.component and all(
            np.array_equal(value, other.feeds[name]) for name, value in one.feeds.items()
        )

    return [one for index, one in enumerate(fed) if index == 0 or not is_same(one, fed[index - 1])]


def assert_same_run(
    drawn: LibraryRun, python: tuple[Any, Any, np.ndarray, list[Evaluation]], encoders: set[str]
) -> None:
    run, last, images, fed = python
    assert_fed_alike(drawn.evaluations, fed, encoders)
    assert relative_rms(drawn.latents, last.latents) <= 1e-5
    assert np.abs(drawn.images - images).max() <= 1
    assert drawn.seeds == run.request.seeds and drawn.notices == said(run)
    for image in range(run.request.batch):
        assert list(drawn.metadata(image).items()) == list(last.metadata(image).items())


@pytest.mark.parametrize("task", TASKS)
def test_the_library_draws_what_python_draws(
    pipe: Pipeline, library: Library, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    options = options_of(pipe, task)
    encoders = {role.component for role in pipe.contract.text}
    drawn = library.sample(**options).draw()
    assert_same_run(drawn, drawn_by_python(pipe, options, monkeypatch), encoders)
    if task == "text to image" and not pipe.contract.inpaints:  # DDIM starts from the noise as it is
        channels = pipe.contract.latent.channels
        sample = next(one for one in drawn.evaluations if one.component == pipe.contract.denoiser.component)
        noise = philox_normal(7, 0, drawn.latents.shape[1:])
        np.testing.assert_array_equal(sample.feeds[pipe.contract.denoiser.sample][-1, :channels], noise)


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("sdxl", {"original_size": (-1, 8)}),
    ("sdxl", {"original_size": (8, 2**21)}),
    ("sdxl", {"crop_top_left": (-1, 0)}),
    ("sdxl", {"target_size": (8, -8), "crop_top_left": (0, 2**20 + 1)}),
    ("sdxl", {"pooled_prompt_embeds": np.zeros((1, 20), np.float32)}),
    ("sdxl", {"pooled_prompt_embeds": np.zeros((1, 20), np.float32), "guidance": -1.0}),
    ("sd21", {"sampler": "flow_euler"}),
    ("inpaint", {}),
    ("inpaint", {"image": IMAGE}),
    ("inpaint", {"mask": MASK}),
    ("inpaint", {"image": IMAGE, "mask": Image.new("L", (60, 50))}),
    ("guidance embedding", {"guidance": 1000.5}),
    ("guidance embedding", {"image": IMAGE, "strength": 0.01}),
]


@pytest.mark.parametrize(("package", "options"), REFUSED, indirect=["package"])
def test_what_a_family_does_not_take_is_refused_alike(
    pipe: Pipeline, library: Library, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError) as expected:
        pipe.sample(**{"prompt": PROMPT, "seed": 7, **options})
    with pytest.raises(Refusal) as found:
        library.sample(**{"prompt": PROMPT, "seed": 7, **options})
    assert (found.value.code, found.value.text) == (expected.value.code, str(expected.value))


CHANGES: dict[str, dict[str, Any]] = {
    "a seed": {"seed": 8},
    "guidance": {"guidance": 3.001},
    "a word of the prompt": {"prompt": "a red apple, 3d styles"},
    "the negative prompt": {"negative": "blues"},
    "a step": {"steps": 4},
}


@pytest.mark.parametrize("package", ["sd15"], indirect=True)
@pytest.mark.parametrize("change", CHANGES)
def test_another_run_is_noticed(pipe: Pipeline, library: Library, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    options = {**options_of(pipe, "text to image"), "guidance": 3.0}
    drawn = library.sample(**{**options, **CHANGES[change]}).draw()
    python = drawn_by_python(pipe, options, monkeypatch)
    with pytest.raises(AssertionError):
        assert_fed_alike(drawn.evaluations, python[3], {role.component for role in pipe.contract.text})
    if change != "a step":
        assert relative_rms(drawn.latents, python[1].latents) > 1e-5
