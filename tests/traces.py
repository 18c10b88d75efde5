"""Graphs that were traced before: of all that an export does, tracing takes nearly all the time."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import onnx_ir as ir
import pytest
from torch import nn

from ldm_export import build as builds
from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.export import to_onnx
from ldm_export.families.spec import ComponentSpec
from ldm_export.process.isolate import Outcome
from tests.stages import here

UNTRACED = {"sample_size", "scaling_factor"}  # what no model reads of its config: it is outside of the graphs
NO_DATA = "none"  # the weights' file of a kept graph: a trace has no data


@contextmanager
def remembered(folder: Path, checkpoint: Checkpoint) -> Iterator[None]:
    """Let `export_component` trace what is not yet in `folder`, and load the rest from there.

    A trace depends on the spec, the model's class and its config alone: it sees no weight, nor a weight's precision.
    """
    trace = to_onnx.trace

    def trace_once(spec: ComponentSpec, model: nn.Module) -> ir.Model:
        about = about_trace(spec, type(model), traced_part(checkpoint.configs[spec.part]))
        file = folder / f"{hashlib.sha256(repr(about).encode()).hexdigest()}.onnx"
        if file.exists():
            return _without_data(ir.load(file))
        return _keep(trace(spec, model), file)

    folder.mkdir(exist_ok=True)
    with mock.patch.object(to_onnx, "trace", trace_once):
        yield


def about_trace(spec: ComponentSpec, model: type[nn.Module], config: object) -> tuple[object, ...]:
    """Return all that a trace depends on, in a form whose text tells one trace from another."""
    code = [(each.__module__, each.__qualname__) for each in (spec.wrapper, model)]
    return (spec.name, code, spec.inputs, spec.outputs, spec.axes, spec.multiples, config)


def traced_part(config: Any) -> dict[str, object]:
    """Return the values of a config that a trace depends on."""
    names = {field.name for field in dataclasses.fields(config)} - UNTRACED
    return {name: getattr(config, name) for name in sorted(names)}


PROOF = (builds.write_reference, builds.prove_package, builds.prove_variants)  # the stages that prove what was exported


def remember_in_builds(folder: Path, monkeypatch: pytest.MonkeyPatch, also: tuple[Any, ...] = PROOF) -> None:
    """Let builds export in this process, with remembered traces; of the other stages those of `also` run here too."""
    isolated = builds.run_isolated

    def run(function: Any, *args: Any, **kwargs: Any) -> Outcome:
        if function is builds.export_components:
            with remembered(folder, args[0]):
                return here(function, *args, **kwargs)
        if function in also:
            return here(function, *args, **kwargs)
        return isolated(function, *args, **kwargs)

    monkeypatch.setattr(builds, "run_isolated", run)


def _keep(model: ir.Model, file: Path) -> ir.Model:
    for name, weight in model.graph.initializers.items():
        assert weight.dtype is not None and isinstance(weight.shape, ir.Shape)
        weight.const_value = ir.ExternalTensor(NO_DATA, 0, 0, weight.dtype, shape=weight.shape, name=name)
    partial = file.with_suffix(f".{os.getpid()}")
    ir.save(model, partial, format="protobuf")
    partial.replace(file)
    return _without_data(model)


def _without_data(model: ir.Model) -> ir.Model:
    for weight in model.graph.initializers.values():
        weight.const_value = None
    return model
