"""Convolutions of images of known sizes are computed with fewer products, and everything else stays as it is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ldm_runtime.engines.openvino.library import import_openvino, shared_core
from ldm_runtime.engines.openvino.products import (
    METHODS,
    MIN_CHANNELS,
    UPSAMPLING,
    WINOGRAD,
    find_savings,
    save_products,
)

op = import_openvino().opset13
WIDE = MIN_CHANNELS
NEAREST = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def convolved(image: Any, out: int = 5, inside: int = 4, bias: bool = True, **changes: Any) -> Any:
    """A convolution 3x3 with one pixel of zeros around it, as OpenVINO reads it from ONNX."""
    kernel = changes.pop("kernel", normal(out, inside, 3, 3, seed=1) / np.float32(3 * inside**0.5))
    kernel = op.constant(kernel) if isinstance(kernel, np.ndarray) else kernel
    values = {"strides": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1], "dilations": [1, 1]} | changes
    made = op.convolution(image, kernel, **values)
    return op.add(made, op.constant(normal(1, out, 1, 1, seed=2))) if bias else made


def doubled(image: Any, mode: str = "nearest", sizes: tuple[int, int] = (8, 12), **changes: str) -> Any:
    return op.interpolate(
        image, op.constant(list(sizes)), mode, "sizes", axes=op.constant([2, 3]), **{**NEAREST, **changes}
    )


def rewritten(make: Callable[[Any], Any], shape: tuple[int, ...], count: int, batch: int = 2) -> list[str]:
    """Rewrite a graph and compare what it computes; return the methods that were used."""
    image = op.parameter([-1, *shape], np.float32)
    model = import_openvino().Model([make(image)], [image], "graph")
    model.outputs[0].get_tensor().set_names({"out"})
    feed = normal(batch, *shape, seed=3)
    expected = shared_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(feed)["out"]
    savings = find_savings(model, METHODS)
    assert len(savings) == count
    save_products(savings)
    model.validate_nodes_and_infer_types()
    got = shared_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(feed)["out"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=3e-5)
    assert find_savings(model, METHODS) == []
    return [saving.method for saving in savings]


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_a_doubled_image_is_four_of_the_image(bias: bool) -> None:
    make = lambda image: convolved(doubled(image), bias=bias)  # noqa: E731
    assert rewritten(make, (4, 4, 6), 1) == [UPSAMPLING]
    assert rewritten(lambda image: op.relu(make(image)), (4, 4, 6), 1, batch=1) == [UPSAMPLING]


def test_sizes_that_follow_from_another_value_count_as_well() -> None:
    """So they are noted in a denoiser, whose image may have an odd side."""

    def make(image: Any) -> Any:
        skip = op.concat([image, image], 3)
        skip = op.concat([skip, skip], 2)
        sides = op.gather(op.shape_of(skip), op.constant([2, 3]), op.constant(0))
        return convolved(op.interpolate(image, sides, "nearest", "sizes", axes=op.constant([2, 3]), **NEAREST))

    assert rewritten(make, (4, 4, 6), 1) == [UPSAMPLING]


def test_weights_in_half_precision_are_widened_first() -> None:
    kernel = op.convert(op.constant(normal(5, 4, 3, 3).astype(np.float16)), "f32")
    rewritten(lambda image: convolved(doubled(image), kernel=kernel), (4, 4, 6), 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda image: convolved(doubled(image, sizes=(7, 12))),
        lambda image: convolved(doubled(image, mode="linear_onnx")),
        lambda image: convolved(doubled(image, nearest_mode="ceil")),
        lambda image: convolved(doubled(image, coordinate_transformation_mode="align_corners")),
        lambda image: convolved(doubled(image), strides=[2, 2]),
        lambda image: convolved(doubled(image), dilations=[2, 2], pads_begin=[2, 2], pads_end=[2, 2]),
        lambda image: convolved(doubled(image), pads_begin=[0, 1]),
        lambda image: convolved(doubled(image), auto_pad="same_upper"),
        lambda image: convolved(doubled(image), kernel=normal(5, 4, 1, 1)),
        lambda image: convolved(doubled(image), kernel=op.relu(op.constant(normal(5, 4, 3, 3)))),
        lambda image: (lambda large: op.concat([convolved(large), large], 1))(doubled(image)),
    ],
)
def test_what_is_not_exactly_that_stays(make: Callable[[Any], Any]) -> None:
    rewritten(make, (4, 4, 6), 0)


def test_without_fixed_sizes_all_stays() -> None:
    image = op.parameter([-1, WIDE, -1, -1], np.float32)
    large = op.interpolate(image, op.constant(np.float32([2, 2])), "nearest", "scales", axes=op.constant([2, 3]))
    model = import_openvino().Model([convolved(convolved(image, WIDE, WIDE), WIDE, WIDE)], [image], "graph")
    assert find_savings(model, METHODS) == []
    model = import_openvino().Model([convolved(large, 5, WIDE)], [image], "graph")
    assert find_savings(model, METHODS) == []


@pytest.mark.parametrize("bias", [True, False])
def test_a_wide_convolution_takes_two_thirds_of_its_products(bias: bool) -> None:
    make = lambda image: convolved(image, WIDE + 8, WIDE, bias=bias)  # noqa: E731
    assert rewritten(make, (WIDE, 16, 17), 1) == [WINOGRAD]


@pytest.mark.parametrize(
    ("out", "inside", "sides", "changes"),
    [
        (WIDE, WIDE, (17, 16), {}),
        (WIDE, WIDE, (8, 8), {}),
        (WIDE - 8, WIDE, (16, 16), {}),
        (WIDE, WIDE - 8, (16, 16), {}),
        (WIDE, WIDE, (16, 16), {"strides": [2, 2]}),
    ],
)
def test_narrow_convolutions_odd_heights_and_few_pixels_stay(out, inside, sides, changes) -> None:
    rewritten(lambda image: convolved(image, out, inside, **changes), (inside, *sides), 0)


def test_a_wrong_sum_of_weights_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldm_runtime.engines.openvino.products._TAPS", (((0,), (1, 2)), ((0,), (1, 2))))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        rewritten(lambda image: convolved(doubled(image)), (4, 4, 6), 1)
