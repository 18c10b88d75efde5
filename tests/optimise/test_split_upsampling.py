"""A convolution after nearest 2x becomes four small ones; every other convolution and resize stays."""

import numpy as np
import pytest

from ldm_export.optimise.split_upsampling import split_upsampling
from tests.optimise.graphs import applied, normal, operators

WEIGHT = ", ".join(f"{value:.6f}" for value in normal(5, 3, 3, 3, seed=1).ravel())
TEXT = """g (float[B, 3, H, W] x) => (float[B, 5, U, V] y)
    <float[5, 3, 3, 3] w = {WEIGHT}, float[5] b = {1., 2., 3., 4., 5.}> {
    s = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>()
    u = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , s)
    y = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(u, w, b)
}""".replace("WEIGHT", WEIGHT)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 2), (6, 7)])
def test_the_result_is_the_same_at_every_size(size):
    model = applied(split_upsampling, TEXT, {"x": normal(2, 3, *size)}, modified=1)
    assert operators(model).count("Conv") == 4 and "Resize" not in operators(model)
    assert operators(model)[-1] == "DepthToSpace"


def test_without_a_bias_too():
    text = TEXT.replace("(u, w, b)", "(u, w)").replace(", float[5] b = {1., 2., 3., 4., 5.}", "")
    applied(split_upsampling, text, {"x": normal(1, 3, 4, 5)}, modified=1)


def test_a_weight_of_another_precision_is_cast_first():
    half = TEXT.replace("float[5, 3, 3, 3] w =", "double[5, 3, 3, 3] h =").replace(
        "    y = Conv", "    w = Cast<to = 1>(h)\n    y = Conv"
    )
    applied(split_upsampling, half, {"x": normal(1, 3, 4, 5)}, modified=1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[1.0, 1.0, 2.0, 2.0]", "[1.0, 1.0, 3.0, 2.0]"),
        ('"floor"', '"ceil"'),
        ('"asymmetric"', '"half_pixel"'),
        ('"nearest",', '"linear",'),
        ("pads = [1, 1, 1, 1]", "pads = [1, 1, 1, 1], strides = [2, 2]"),
        ("pads = [1, 1, 1, 1]", "pads = [2, 2, 2, 2], dilations = [2, 2]"),
        ("pads = [1, 1, 1, 1]", "pads = [0, 0, 0, 0]"),
        (
            "y = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(u, w, b)",
            "c = Conv<pads = [1, 1, 1, 1]>(u, w, b)\n y = Exp(u)",
        ),
    ],
)
def test_what_is_not_exactly_that_stays(old, new):
    assert old in TEXT
    text = TEXT.replace(old, new)
    if "Exp" in new:
        text = text.replace("float[B, 5, U, V] y", "float[B, 3, U, V] y, float[B, 5, U, V] c")
    applied(split_upsampling, text, {"x": normal(1, 3, 4, 5)}, modified=0)


def test_a_kernel_that_is_no_weight_stays():
    text = TEXT.replace("(float[B, 3, H, W] x)", "(float[B, 3, H, W] x, float[5, 3, 3, 3] k)").replace(
        "(u, w, b)", "(u, k, b)"
    )
    feeds = {"x": normal(1, 3, 4, 5), "k": normal(5, 3, 3, 3)}
    applied(split_upsampling, text, feeds, modified=0)


def test_every_weight_is_used_as_often_as_before():
    """Each of the nine weights goes into each of the four kernels exactly once."""
    from ldm_export.optimise.split_upsampling import _sums

    np.testing.assert_array_equal(_sums().reshape(9, 4, 4).sum(axis=2), np.ones((9, 4)))
