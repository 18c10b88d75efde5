"""From what a user asks of a profile to the sizes of every axis, consistent at every corner."""

import dataclasses
from typing import Any

import pytest

from ldm_export.targets.tensorrt.profiles import Profile, axis_ranges, input_shapes, read_profile
from ldm_runtime.errors import InputError
from ldm_runtime.package.artefacts import Range
from ldm_runtime.package.manifest import Axis, Contract
from ldm_runtime.package.tensor_spec import TensorSpec
from tests.runtime.tiny_package import CONTRACT, WINDOW


def contract(**changes: Any) -> Contract:
    return dataclasses.replace(CONTRACT, **changes)


def test_texts_are_read() -> None:
    assert read_profile(()) == Profile()
    asked = read_profile(("batch=1:2:4", "size=64", "windows=1:2:3"))
    assert asked == Profile(Range(1, 2, 4), Range(64, 64, 64), Range(64, 64, 64), Range(1, 2, 3))
    assert read_profile(("width=8:16:24", "height=32")) == Profile(None, Range(8, 16, 24), Range(32, 32, 32), None)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("batch",), "got 'batch'; expected batch=, size="),
        (("depth=2",), "got 'depth=2'; expected batch=, size="),
        (("batch=2", "batch=3"), "gives batch twice"),
        (("size=64", "width=32"), "gives width twice"),
        (("batch=1:2",), "expected a number or MIN:OPT:MAX"),
        (("batch=1:2:3:4",), "expected a number or MIN:OPT:MAX"),
        (("batch=",), "expected a number or MIN:OPT:MAX"),
        (("batch=a:b:c",), "expected a number or MIN:OPT:MAX"),
        (("batch=-1",), "expected a number or MIN:OPT:MAX"),
        (("batch=1.5",), "expected a number or MIN:OPT:MAX"),
        (("batch=\u0663",), "expected a number or MIN:OPT:MAX"),
        (("batch=123456789",), "expected a number or MIN:OPT:MAX"),
        (("batch=0:1:2",), "expected MIN <= OPT <= MAX, from 1 up"),
        (("batch=2:1:4",), "expected MIN <= OPT <= MAX"),
        (("size=64:96:80",), "expected MIN <= OPT <= MAX"),
    ],
)
def test_texts_that_are_no_profile_are_refused(texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_profile(texts)


def test_defaults_cover_guidance_every_window_and_half_again_the_native_size() -> None:
    ranges = axis_ranges(CONTRACT, Profile())  # 64x48 pixels, 8 to a latent's; 2 to 32 latent pixels
    single, latent = Range(1, 1, 4), {"height": Range(2, 6, 9), "width": Range(2, 8, 12)}
    image = {"image_height": Range(16, 48, 72), "image_width": Range(16, 64, 96)}
    assert ranges == {
        "text_encoder": {"batch": single, "tokens": Range(1, WINDOW, WINDOW)},
        "unet": {"batch": Range(1, 2, 8), **latent, "tokens": Range(1, WINDOW, 4 * WINDOW)},
        "vae_encoder": {"batch": single, **image, **latent},
        "vae_decoder": {"batch": single, **latent, **image},
    }


def test_what_is_asked_for_reaches_every_component() -> None:
    asked = read_profile(("batch=2:3:5", "width=32:64:128", "height=48", "windows=2"))
    ranges = axis_ranges(CONTRACT, asked)
    assert ranges["unet"] == {
        "batch": Range(2, 6, 10),
        "height": Range(6, 6, 6),
        "width": Range(4, 8, 16),
        "tokens": Range(24, 24, 24),
    }
    assert ranges["vae_decoder"]["image_width"] == ranges["vae_encoder"]["image_width"] == Range(32, 64, 128)
    assert ranges["text_encoder"]["batch"] == Range(1, 1, 5)  # texts and pictures are run one by one


def test_without_guidance_the_preferred_batch_is_not_doubled_but_covered() -> None:
    plain = contract(defaults=dataclasses.replace(CONTRACT.defaults, guidance=1.0))
    assert axis_ranges(plain, read_profile(("batch=1:2:4",)))["unet"]["batch"] == Range(1, 2, 8)
    assert axis_ranges(plain, read_profile(("batch=1:2:16",)))["unet"]["batch"] == Range(1, 2, 16)


def test_defaults_stay_within_a_narrow_contract() -> None:
    axes = {
        **CONTRACT.axes,
        "batch": Axis(1, 2, (), None),
        "height": Axis(2, 6, (), None),
        "width": Axis(2, 8, (), None),
    }
    narrow = axis_ranges(contract(axes=axes), Profile())["unet"]
    assert narrow["batch"] == Range(1, 2, 2) and narrow["height"] == Range(2, 6, 6) and narrow["width"].max == 8


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("batch=9",), "has 9 images at once, with guidance a batch of 18; the package takes 16 at most"),
        (("width=60",), "has a width of 60; the package takes multiples of 8 from 16 to 256"),
        (("width=8:64:64",), "has a width of 8; the package takes multiples of 8 from 16"),
        (("height=16:48:264",), "has a height of 264; .* to 256"),
        (("size=64",), "has a height of 64 to 64, which leaves out 48, what the package draws"),
        (("width=16:24:32",), "which leaves out 64"),
        (("windows=1:2:5",), "has 5 windows of text; the package joins 4 at most"),
    ],
)
def test_what_the_package_cannot_do_is_refused(texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        axis_ranges(CONTRACT, read_profile(texts))


def test_shapes_of_inputs_at_every_corner() -> None:
    ranges = axis_ranges(CONTRACT, Profile())
    assert input_shapes(CONTRACT, "unet", ranges["unet"]) == {
        "sample": ((1, 4, 2, 2), (2, 4, 6, 8), (8, 4, 9, 12)),
        "timestep": ((), (), ()),
        "encoder_hidden_states": ((1, 1, 6), (2, 12, 6), (8, 48, 6)),
    }
    assert input_shapes(CONTRACT, "vae_encoder", ranges["vae_encoder"]) == {
        "sample": ((1, 3, 16, 16), (1, 3, 48, 64), (4, 3, 72, 96))
    }


@pytest.mark.parametrize("corner", ["min", "opt", "max"])
def test_the_sides_of_images_are_those_of_latents_at_every_corner(corner: str) -> None:
    ranges = axis_ranges(CONTRACT, read_profile(("width=32:64:128", "batch=1:2:3")))
    for component in ("vae_encoder", "vae_decoder"):
        at = {axis: getattr(size, corner) for axis, size in ranges[component].items()}
        for side in ("height", "width"):
            multiple = CONTRACT.axes[f"image_{side}"].multiple_of
            assert multiple is not None and at[f"image_{side}"] == multiple.factor * at[side]


def test_a_size_beyond_one_component_s_own_axis_is_refused() -> None:
    text = CONTRACT.components["text_encoder"]
    rows = dataclasses.replace(text, inputs=(TensorSpec("input_ids", "int64", ("rows", "tokens")),))
    axes = {**CONTRACT.axes, "rows": Axis(1, 2, (), None)}
    narrow = contract(components={**CONTRACT.components, "text_encoder": rows}, axes=axes)
    with pytest.raises(InputError, match="has rows of 4 in text_encoder; the package takes 1 to 2"):
        axis_ranges(narrow, Profile())
    assert axis_ranges(narrow, read_profile(("batch=2",)))["text_encoder"]["rows"] == Range(1, 1, 2)


def test_images_beyond_what_the_runtime_makes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldm_export.targets.tensorrt.profiles.MAX_PIXELS", 96 * 72 - 1)
    with pytest.raises(InputError, match="images of 96x72 pixels; the runtime makes 6911 at most"):
        axis_ranges(CONTRACT, Profile())


def test_axes_are_found_by_place_not_by_name() -> None:
    """A contract may name its axes as it likes, and fix some."""
    text = CONTRACT.components["text_encoder"]
    fixed = dataclasses.replace(text, inputs=(TensorSpec("input_ids", "int64", (1, "length")),))
    axes = {**CONTRACT.axes, "length": Axis(1, WINDOW, (), None)}
    renamed = contract(components={**CONTRACT.components, "text_encoder": fixed}, axes=axes)
    assert axis_ranges(renamed, Profile())["text_encoder"] == {"length": Range(1, WINDOW, WINDOW)}
