"""The graphs of both engines read one data file beside the component's weights, and contradictions do not pass."""

from pathlib import Path

import numpy as np
import pytest

from ldm_export.errors import ExportError
from ldm_export.lossy.quantise import Scheme, quantise
from ldm_export.lossy.store import store
from ldm_runtime.package import safetensors
from tests.lossy.graphs import convolution, image, range_of, session
from tests.optimise.graphs import run


def test_two_graphs_share_one_file(tmp_path: Path) -> None:
    x = image()
    (y,) = run(convolution(), {"x": x})
    ranges = {"x": range_of(x), "y": range_of(y)}
    graphs = {
        tmp_path / f"model.{name}.onnx": quantise(convolution(), ranges, Scheme(outputs=outputs))
        for name, outputs in (("ort", True), ("openvino", False))
    }
    expected = {path: run(model, {"x": x})[0] for path, (model, _) in graphs.items()}
    store(graphs, tmp_path / "model.int8.safetensors")
    stored = safetensors.read(tmp_path / "model.int8.safetensors")
    assert stored["w/int8"].dtype == np.int8
    for path, (_, data) in graphs.items():
        assert path.stat().st_size < 4000  # no numbers inside
        for name, array in data.items():
            np.testing.assert_array_equal(stored[name], array)
        np.testing.assert_array_equal(session(path, optimised=False).run(None, {"x": x})[0], expected[path])


def test_graphs_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    first, second = ({"x": range_of(image(seed=seed))} for seed in (1, 2))
    graphs = {
        tmp_path / f"{index}.onnx": quantise(convolution(), each, Scheme())
        for index, each in enumerate((first, second))
    }
    with pytest.raises(ExportError, match="other numbers in 'w/"):
        store(graphs, tmp_path / "model.int8.safetensors")
    assert list(tmp_path.iterdir()) == []
