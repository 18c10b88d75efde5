"""What quantisation leaves of a graph: kept layers, names, the numbers of both engines; and which wishes it refuses."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ldm_export.errors import ExportError
from ldm_export.lossy.quantise import Scheme, quantise
from tests.lossy.graphs import (
    OPENVINO,
    ORT,
    TWO,
    TWO_WEIGHTS,
    image,
    parsed,
    range_of,
    ranges_of_two,
    relative_rms,
    two,
)
from tests.optimise.graphs import parse, run


@pytest.mark.parametrize("scheme", [ORT, OPENVINO, Scheme(activations=False)])
def test_every_layer_kept_leaves_the_graph_as_it_was(scheme: Scheme) -> None:
    x = image()
    model, data = quantise(two(), {}, scheme, keep={"first/Conv", "y/Conv"})
    assert data == {}
    assert ir.to_proto(model).SerializeToString() == ir.to_proto(two()).SerializeToString()
    np.testing.assert_array_equal(run(model, {"x": x})[0], run(two(), {"x": x})[0])


def test_a_kept_layer_computes_exactly() -> None:
    x = image()
    ranges = ranges_of_two(x)
    model, data = quantise(two(), ranges, OPENVINO, keep={"first/Conv"})
    assert all(name.startswith("v/") for name in data)
    bent = next(node.outputs[0] for node in model.graph if node.op_type == "Relu")
    bent.type, bent.shape = model.graph.outputs[0].type, model.graph.outputs[0].shape
    model.graph.outputs.append(bent)
    np.testing.assert_array_equal(
        run(model, {"x": x})[1], np.maximum(ranges["first"].sample.reshape(2, 6, 7, 8), 0).transpose(0, 3, 1, 2)
    )


def test_a_second_time_changes_nothing() -> None:
    ranges = ranges_of_two(image())
    model, _ = quantise(two(), ranges, ORT)
    before = ir.to_proto(model).SerializeToString()
    again, data = quantise(model, ranges, ORT)
    assert data == {} and ir.to_proto(again).SerializeToString() == before


def test_the_weights_of_quantised_layers_leave_the_graph() -> None:
    model, data = quantise(two(), ranges_of_two(image()), OPENVINO)
    assert set(model.graph.initializers) == set(data)


def test_both_engines_read_the_same_numbers() -> None:
    ranges = ranges_of_two(image())
    ours, theirs = quantise(two(), ranges, ORT)[1], quantise(two(), ranges, OPENVINO)[1]
    assert set(theirs) < set(ours)
    for name, array in theirs.items():
        np.testing.assert_array_equal(array, ours[name])


def test_two_layers_of_one_weight_have_numbers_of_their_own() -> None:
    text, weights, x = TWO.replace("(bent, v)", "(bent, u)"), {"u": TWO_WEIGHTS["u"]}, image()
    (exact,) = run(parse(text, weights), {"x": x})
    ranges = {"x": range_of(x), "bent": ranges_of_two(x)["bent"]}
    model, data = quantise(parsed(text, weights), ranges, OPENVINO)
    assert {"u/int8", "u of y/Conv/int8"} <= set(data)
    assert relative_rms(run(model, {"x": x})[0], exact) < 2e-2


def test_layers_of_one_name_are_refused() -> None:
    model = parse(TWO, TWO_WEIGHTS)
    for node in model.graph:
        node.name = "layer"
    with pytest.raises(ExportError, match="2 layers of the graph are called 'layer'"):
        quantise(model, ranges_of_two(image()), OPENVINO)


def test_the_names_of_the_graphs_outputs_stay() -> None:
    x = image()
    model, _ = quantise(two(), ranges_of_two(x), ORT)
    (output,) = model.graph.outputs
    assert output.name == "y" and [str(size) for size in output.shape] == ["B", "8", "H", "W"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_a_layer_to_keep_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        ExportError, match="there is no layer 'frist/Conv' to keep in float32; expected nodes such as 'first/Conv'"
    ):
        quantise(two(), {}, OPENVINO, keep={"frist/Conv"})


def test_schemes_that_nothing_computes_are_refused() -> None:
    with pytest.raises(ExportError, match="int4 with activations"):
        Scheme(weights="int4")
    with pytest.raises(ExportError, match="outputs are rounded only where activations are"):
        Scheme(activations=False, outputs=True)
    for alpha in (0, -0.5, 1.5, float("nan")):
        with pytest.raises(ExportError, match="expected a number above 0, at most 1, or None"):
            Scheme(alpha=alpha)
