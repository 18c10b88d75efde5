"""The table of precisions has a row for every precision of a manifest, and its names are those of the libraries."""

from itertools import pairwise
from typing import get_args

import numpy as np
import onnx_ir as ir
import pytest
import torch

from ldm_export.precision.table import PRECISIONS, REDUCED
from ldm_export.targets import TARGETS
from ldm_runtime.package import safetensors
from ldm_runtime.package.artefacts import Precision


def test_the_rows_are_the_precisions_of_a_manifest():
    assert tuple(PRECISIONS) == get_args(Precision)
    assert REDUCED == ("fp16", "bf16")


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_library_knows_the_type_and_gives_it_the_same_size(name):
    row = PRECISIONS[name]
    assert ir.DataType[row.onnx].itemsize == getattr(torch, row.torch).itemsize == row.bytes
    assert safetensors.DTYPES[row.stored].itemsize == row.bytes
    assert row.numpy is None or np.dtype(row.numpy).itemsize == row.bytes


def test_a_tolerance_grows_with_the_epsilon_and_a_floor_falls():
    rows = sorted(PRECISIONS.values(), key=lambda row: torch.finfo(getattr(torch, row.torch)).eps)
    for exact, reduced in pairwise(rows):
        assert exact.tolerance.relative_rms < reduced.tolerance.relative_rms
        assert exact.tolerance.latents_floor > reduced.tolerance.latents_floor
        assert exact.tolerance.image_floor > reduced.tolerance.image_floor


def test_the_targets_are_made_in_the_precisions_that_the_rows_allow():
    made = {name: target.precisions for name, target in TARGETS.items()}
    assert made == {"onnx": ("fp32",), "openvino": ("fp32", "fp16"), "tensorrt": ("fp32", "fp16", "bf16")}
