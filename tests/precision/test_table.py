"""The table of precisions has a row for every precision of a manifest, and its names are those of the libraries."""

from itertools import pairwise
from typing import get_args

import numpy as np
import onnx_ir as ir
import pytest
import torch

from ldm_export.cli.build import build
from ldm_export.export.to_onnx import ONNX_TYPES
from ldm_export.precision.reduce import TYPES
from ldm_export.precision.table import FLOATING, PRECISIONS, REDUCED
from ldm_export.targets import TARGETS
from ldm_runtime.package import safetensors
from ldm_runtime.package.artefacts import INTEGERS, Floating, Precision


def test_the_rows_are_the_precisions_of_a_manifest():
    assert tuple(PRECISIONS) == get_args(Precision) == (*FLOATING, *INTEGERS)
    assert get_args(Floating) == FLOATING
    assert REDUCED == ("fp16", "bf16")


def test_nothing_is_exported_or_built_in_integers():
    assert tuple(TYPES) == REDUCED and set(ONNX_TYPES) == {"F32", "F16", "BF16"}
    (option,) = [each for each in build.params if each.name == "precision"]
    assert tuple(option.type.choices) == FLOATING


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_are_held_in_bytes(name):
    row = PRECISIONS[name]
    assert ir.DataType[row.onnx].itemsize == row.bytes
    assert safetensors.DTYPES[row.stored] == np.dtype(row.numpy)
    assert getattr(torch, row.torch).itemsize == np.dtype(row.numpy).itemsize == 1
    assert row.tolerance is None  # a variant has the error


@pytest.mark.parametrize("name", FLOATING)
def test_every_library_knows_the_type_and_gives_it_the_same_size(name):
    row = PRECISIONS[name]
    assert ir.DataType[row.onnx].itemsize == getattr(torch, row.torch).itemsize == row.bytes
    assert safetensors.DTYPES[row.stored].itemsize == row.bytes
    assert row.numpy is None or np.dtype(row.numpy).itemsize == row.bytes


def test_a_tolerance_grows_with_the_epsilon_and_a_floor_falls():
    rows = sorted((PRECISIONS[name] for name in FLOATING), key=lambda row: torch.finfo(getattr(torch, row.torch)).eps)
    for exact, reduced in pairwise(rows):
        assert exact.tolerance.relative_rms < reduced.tolerance.relative_rms
        assert exact.tolerance.latents_floor > reduced.tolerance.latents_floor
        assert exact.tolerance.image_floor > reduced.tolerance.image_floor


def test_the_targets_are_made_in_the_precisions_that_the_rows_allow():
    made = {name: target.precisions for name, target in TARGETS.items()}
    assert made == {"onnx": ("fp32",), "openvino": ("fp32", "fp16"), "tensorrt": ("fp32", "fp16", "bf16")}
