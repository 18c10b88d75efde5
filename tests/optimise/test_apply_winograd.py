"""Wide 3x3 convolutions of pictures that come in pairs of rows are computed by Winograd's sums; all others stay."""

import numpy as np
import onnx_ir as ir
import pytest

from ldm_export.optimise.apply_winograd import MIN_CHANNELS, is_even, winograd_for
from tests.optimise.graphs import applied, normal, operators, run

OUT, IN = MIN_CHANNELS + 8, MIN_CHANNELS
WEIGHTS = {"w": normal(OUT, IN, 3, 3, seed=1) / np.float32(12 * IN**0.5), "b": normal(OUT, seed=2)}
CONV = "Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w, b)"
TEXT = f"""g (float[B, {IN}, "2*height", W] x) => (float[B, {OUT}, H, W] y) {{
    y = {CONV}
}}"""
EACH = winograd_for({"image_height": 8})


@pytest.mark.parametrize("size", [(2, 1), (2, 4), (6, 5), (8, 8)])
def test_the_result_is_the_same_at_every_even_height(size):
    model = applied(EACH, TEXT, {"x": normal(2, IN, *size)}, modified=1, weights=WEIGHTS)
    assert operators(model).count("Conv") == 8 and operators(model)[-1] == "Reshape"


def test_a_height_that_was_said_to_be_even_and_is_odd_fails_instead_of_giving_other_numbers():
    model = applied(EACH, TEXT, {"x": normal(1, IN, 4, 4)}, modified=1, weights=WEIGHTS)
    with pytest.raises(Exception, match="cannot be reshaped"):
        run(model, {"x": normal(1, IN, 5, 4)})


def test_without_a_bias_too():
    weights = {"w": WEIGHTS["w"]}
    applied(EACH, TEXT.replace("(x, w, b)", "(x, w)"), {"x": normal(1, IN, 4, 5)}, modified=1, weights=weights)


def test_a_weight_of_another_precision_is_cast_first():
    text = TEXT.replace("    y = Conv", "    w = Cast<to = 1>(h)\n    y = Conv")
    weights = {"h": WEIGHTS["w"].astype(np.float16), "b": WEIGHTS["b"]}
    applied(EACH, text, {"x": normal(1, IN, 4, 5)}, modified=1, weights=weights)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2*height", "height"),
        ("2*height", "3*height"),
        ("pads = [1, 1, 1, 1]", "pads = [1, 1, 1, 1], strides = [2, 2]"),
        ("pads = [1, 1, 1, 1]", "pads = [2, 2, 2, 2], dilations = [2, 2]"),
        ("pads = [1, 1, 1, 1]", "pads = [0, 1, 0, 1]"),
        ("pads = [1, 1, 1, 1]", 'auto_pad = "SAME_UPPER"'),
    ],
)
def test_what_is_not_exactly_that_stays(old, new):
    assert old in TEXT
    applied(EACH, TEXT.replace(old, new), {"x": normal(1, IN, 6, 5)}, modified=0, weights=WEIGHTS)


@pytest.mark.parametrize(("out_channels", "in_channels"), [(OUT, MIN_CHANNELS - 8), (MIN_CHANNELS - 8, IN)])
def test_narrow_convolutions_stay_in_either_direction(out_channels, in_channels):
    text = TEXT.replace(f"B, {IN},", f"B, {in_channels},").replace(f"B, {OUT},", f"B, {out_channels},")
    weights = {"w": WEIGHTS["w"][:out_channels, :in_channels].copy(), "b": WEIGHTS["b"][:out_channels].copy()}
    applied(EACH, text, {"x": normal(1, in_channels, 4, 5)}, modified=0, weights=weights)


def test_a_kernel_of_another_size_stays():
    text = TEXT.replace("[3, 3]", "[1, 3]").replace("[1, 1, 1, 1]", "[0, 1, 0, 1]")
    weights = {"w": WEIGHTS["w"][:, :, :1].copy(), "b": WEIGHTS["b"]}
    applied(EACH, text, {"x": normal(1, IN, 4, 5)}, modified=0, weights=weights)


def test_a_convolution_in_groups_stays():
    text = TEXT.replace("[1, 1, 1, 1]", "[1, 1, 1, 1], group = 2").replace(f"B, {IN},", f"B, {2 * IN},")
    applied(EACH, text, {"x": normal(1, 2 * IN, 4, 5)}, modified=0, weights=WEIGHTS)


def test_a_kernel_that_is_no_weight_stays():
    text = TEXT.replace("W] x)", f"W] x, float[{OUT}, {IN}, 3, 3] w)")
    feeds = {"x": normal(1, IN, 4, 5), "w": WEIGHTS["w"]}
    applied(EACH, text, feeds, modified=0, weights={"b": WEIGHTS["b"]})


@pytest.mark.parametrize(
    "size",
    [
        2,
        64,
        "2*height",
        "height*2",
        "height + height",
        "8*height",
        "image_height",
        "(image_height//2)",
        "floor(image_height/4)",
        "(image_height//4)",
        "(((image_height - 1)//2)) + 1",
    ],
)
def test_sizes_that_are_even_whatever_their_names_stand_for(size):
    assert is_even(ir.SymbolicDim(size) if isinstance(size, str) else size, {"image_height": 8})


@pytest.mark.parametrize(
    "size",
    [
        3,
        "height",
        "3*height",
        "(height//2)",
        "(image_height//8)",
        "(image_height//3)",
        "(image_width//2)",
        "image_height + 1",
        "(((image_height - 1)//4)) + 1 + image_height//8",
        "2*height + 1",
        "height + width",
        "(2*height//0)",
        None,
    ],
)
def test_sizes_that_are_not_known_to_be_even(size):
    assert not is_even(size if isinstance(size, int) else ir.SymbolicDim(size), {"image_height": 8})


@pytest.mark.parametrize("size", ["twice height", "2 height", ""])
def test_a_size_that_cannot_be_read_is_no_reason_to_leave_a_convolution_in_silence(size):
    with pytest.raises(ValueError, match="Unexpected"):
        is_even(ir.SymbolicDim(size), {"image_height": 8})
