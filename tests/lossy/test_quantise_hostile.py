"""Numbers at the edge do not pass: zeros, channels of nothing, ranges and weights that are not finite."""

from collections.abc import Callable

import numpy as np
import pytest

from ldm_export.errors import ExportError
from ldm_export.lossy.quantise import quantise
from tests.lossy.graphs import (
    OPENVINO,
    ORT,
    SMOOTH,
    WEIGHTS,
    convolution,
    image,
    on_openvino,
    on_ort,
    range_of,
    relative_rms,
)
from tests.optimise.graphs import run


@pytest.mark.parametrize("engine", [on_ort, on_openvino])
def test_outputs_and_inputs_without_weights_are_exact(engine: Callable[..., np.ndarray]) -> None:
    """An output channel of zeros is its bias, one that is almost nothing hardly more; an input channel may be empty."""
    weight, bias, x = WEIGHTS["w"].copy(), WEIGHTS["b"] * 100, image()
    weight[1] = 0
    weight[2] *= 1e-9
    weight[:, 5] = 0
    x[:, 6] = 0
    (exact,) = run(convolution(w=weight, b=bias), {"x": x})
    ranges = {"x": range_of(x), "y": range_of(exact)}
    for scheme in (OPENVINO, SMOOTH, ORT):
        model, data = quantise(convolution(w=weight, b=bias), ranges, scheme)
        assert all(np.isfinite(array).all() for array in data.values())
        got = engine(model, x)
        rounding = 0.51 * data["w/output_scale"] if scheme.outputs else 0
        assert np.abs(got[:, 1:3] - bias[1:3, None, None]).max() <= rounding + 1e-5 * np.abs(bias).max()
        assert relative_rms(got, exact) < 2e-2


@pytest.mark.parametrize("engine", [on_ort, on_openvino])
def test_weights_of_zeros_make_the_bias(engine: Callable[..., np.ndarray]) -> None:
    x = image()
    model, _ = quantise(convolution(w=np.zeros_like(WEIGHTS["w"])), {"x": range_of(x)}, OPENVINO)
    np.testing.assert_allclose(engine(model, x), np.broadcast_to(WEIGHTS["b"][:, None, None], (2, 5, 6, 7)), rtol=1e-6)


def test_a_value_that_was_always_zero_stays_zero() -> None:
    x = np.zeros_like(image())
    model, data = quantise(convolution(), {"x": range_of(x)}, OPENVINO)
    assert data["w/input_scale"] > 0
    np.testing.assert_allclose(
        run(model, {"x": x})[0], np.broadcast_to(WEIGHTS["b"][:, None, None], (2, 5, 6, 7)), rtol=1e-6
    )


def test_a_missing_range_names_the_value() -> None:
    with pytest.raises(ExportError, match="there is no range of 'x'; calibrate"):
        quantise(convolution(), {}, OPENVINO)
    with pytest.raises(ExportError, match="there is no range of 'y'; calibrate"):
        quantise(convolution(), {"x": range_of(image())}, ORT)


@pytest.mark.parametrize("end", ["low", "high", "sample"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_range_that_is_not_finite_names_the_channel(end: str, number: float) -> None:
    found = range_of(image())
    getattr(found, end)[..., 4] = number
    with pytest.raises(ExportError, match="the range of 'x' holds NaN or infinity in channel 4; "):
        quantise(convolution(), {"x": found}, OPENVINO)


def test_a_range_of_other_channels_or_in_the_wrong_order_is_refused() -> None:
    with pytest.raises(ExportError, match=r"the range of 'x' has shapes \(7,\), \(7,\), \(7,\), expected 8 channels"):
        quantise(convolution(), {"x": range_of(image(channels=7))}, OPENVINO)
    found = range_of(image())
    found.low[2], found.high[2] = 2.0, 1.0
    with pytest.raises(ExportError, match="goes from 2 to 1 in channel 2"):
        quantise(convolution(), {"x": found}, OPENVINO)


@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_a_weight_that_is_not_finite_is_named(number: float) -> None:
    weight = WEIGHTS["w"].copy()
    weight[0, 0, 0, 0] = number
    with pytest.raises(ExportError, match="'w' holds NaN or infinity"):
        quantise(convolution(w=weight), {"x": range_of(image())}, OPENVINO)
