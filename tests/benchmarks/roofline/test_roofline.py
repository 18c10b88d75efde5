"""The rates of a processor and their bounds: from made-up seconds, and of tiny layers in every way of this machine."""

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.roofline import run as roofline
from benchmarks.roofline.bounds import bounds, rates, render
from benchmarks.roofline.run import best_of, measure
from benchmarks.roofline.shapes import SHAPES, Shape
from benchmarks.roofline.ways import Refused, Way, ways
from ldm_runtime.engines.table import ENGINES

CONVOLUTION = Shape("a convolution", (2, 16, 8, 8), 24)
PRODUCT = Shape("a product", (64, 32), 48)
UNITS = ("avx512_bf16", "avx512_fp16")


def test_the_work_of_a_shape_is_that_of_both_layers():
    assert CONVOLUTION.macs == 2 * (2 * 8 * 8) * 9 * 16 * 24
    assert PRODUCT.macs == 2 * 64 * 32 * 48
    assert rates(PRODUCT, [1e-3, 2e-3]) == pytest.approx([2e-6 * PRODUCT.macs, 1e-6 * PRODUCT.macs])


def test_the_bound_is_the_work_at_the_best_rate():
    # 200 GFLOPS in convolutions, 400 in products: the UNet, half of each, has 1608 GFLOP.
    seconds = {shape.name: [2e-9 * shape.macs / rate] for shape, rate in ((CONVOLUTION, 200.0), (PRODUCT, 400.0))}
    found = bounds((CONVOLUTION, PRODUCT), seconds)
    assert found["UNet, batch 2"].least == pytest.approx(1608 / 400)
    assert found["UNet, batch 2"].expected == pytest.approx(804 / 200 + 804 / 400)
    assert found["decoder"].expected == pytest.approx(2514 * (0.97 / 200 + 0.03 / 400))


def test_the_median_of_the_rounds_counts():
    one = 2e-9 * PRODUCT.macs / 100.0
    found = bounds((PRODUCT,), {PRODUCT.name: [one, one, 10 * one]})
    assert (found["decoder"].least, found["decoder"].expected) == pytest.approx((25.14, 25.14))
    assert bounds((PRODUCT,), {}) == {}


def test_the_tables_have_rates_with_their_ends_bounds_and_reasons():
    one = 2e-9 * PRODUCT.macs / 100.0
    seconds = {"OpenVINO fp32": {PRODUCT.name: [one, one / 2, 2 * one]}, "ONNX Runtime bf16": {}}
    notes = {"OpenVINO fp32": "computed in f32", "ONNX Runtime bf16": "not run; no kernel"}
    text = render("2 x Abacus (AVX2)", 2, (PRODUCT,), seconds, notes)
    assert "2 x Abacus (AVX2); 2 threads" in text and "the median of 3 rounds" in text
    assert "| a product | 100 (50 to 200) |" in text
    assert "| OpenVINO fp32 | 16.08 | 16.08 | 25.14 | 25.14 |" in text
    assert "- ONNX Runtime bf16: not run; no kernel" in text


def test_every_way_has_its_turn_in_each_round_and_one_that_is_refused_none(monkeypatch):
    turns: list[str] = []

    def way(name: str) -> Way:
        def opened(model, x, threads):
            if name == "refused":
                raise Refused("no kernel")
            return lambda: turns.append(name), f"{threads} threads"

        return Way(name, "fp32", lambda shape: None, opened)

    monkeypatch.setattr(roofline, "best_of", lambda evaluate: evaluate() or 0.5)
    notes: dict[str, str] = {}
    asked = [way("first"), way("refused"), way("last")]
    found = measure(asked, (CONVOLUTION, PRODUCT), 2, 3, notes, lambda text: None)
    assert turns == ["first", "last", "last", "first"] * 2
    assert found["first fp32"] == {CONVOLUTION.name: [0.5, 0.5], PRODUCT.name: [0.5, 0.5]}
    assert found["refused fp32"] == {}
    assert notes == {
        "first fp32": "computed in 3 threads",
        "last fp32": "computed in 3 threads",
        "refused fp32": "not run; no kernel",
    }


def test_the_best_of_the_evaluations_counts_but_for_the_first():
    taken = iter([0.01, 5.0, 3.0, 4.0])  # the first warms up
    now = [0.0]

    def evaluate():
        now[0] += next(taken)

    assert best_of(evaluate, 7.9, lambda: now[0]) == pytest.approx(3.0)


@pytest.mark.parametrize("shape", [CONVOLUTION, PRODUCT], ids=lambda shape: shape.name)
@pytest.mark.parametrize("way", ways(UNITS), ids=lambda way: way.name)
def test_every_way_computes_in_what_it_is_named_after(way, shape):
    if way.engine == "ONNX Runtime" and way.precision == "bf16":
        with pytest.raises(Refused):  # it has kernels for ARM's CPUs alone
            way.open(way.graph(shape), shape.feed(), 1)
        return
    missing = ENGINES["openvino"].missing_for(way.precision) if way.precision in ("bf16", "fp16") else None
    if missing is not None:
        pytest.skip(missing)
    evaluate, kind = way.open(way.graph(shape), shape.feed(), 1)
    evaluate()
    expected = {
        "ONNX Runtime fp32": {"Conv", "MatMul"},
        "ONNX Runtime int8": {"QLinearConv", "MatMulIntegerToFloat", "QLinearMatMul"},
        "OpenVINO fp32": {"f32"},
        "OpenVINO int8": {"u8", "i8"},
        "OpenVINO bf16": {"bf16"},
        "OpenVINO fp16": {"f16"},
    }[way.name]
    assert set(kind.split(", ")) <= expected


def test_the_layers_are_of_stable_diffusion():
    assert all(shape.channels in (128, 256, 320, 512, 640, 1280) for shape in SHAPES)
    # A round of all of them is so little work that five rounds in five ways end within five minutes.
    assert sum(shape.macs for shape in SHAPES) < 400e9
    assert np.isclose(SHAPES[0].feed().std(), 1.0, atol=0.01)


def test_arguments_that_cannot_be_are_refused(tmp_path):
    outcome = CliRunner().invoke(roofline.main, ["--out", str(tmp_path), "--rounds", "0"])
    assert outcome.exit_code == 2 and "rounds" in outcome.output
