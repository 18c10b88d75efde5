"""The inputs of a component for one image, at the model's size or another, and what an evaluation on them costs."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from ldm_export.analyze.graph_cost import Cost, count_cost
from ldm_export.analyze.subject import Subject
from ldm_export.families.spec import ComponentSpec
from ldm_runtime.package.tensor_spec import TensorSpec

IMAGE_AXES = frozenset({"height", "width", "image_height", "image_width"})


def axis_sizes(subject: Subject, cells: tuple[int, int] | None = None) -> dict[str, int]:
    """Return the size of every axis for one image and one window of text.

    cells: height and width of the denoiser's sample; None: those of an image of the model's size.
    """
    width, height = subject.size
    cell, window = subject.contract.latent.downsample, subject.contract.window
    rows, columns = (height // cell, width // cell) if cells is None else cells
    return {
        "batch": 1,
        "height": rows,
        "width": columns,
        "image_height": rows * cell,
        "image_width": columns * cell,
        "tokens": window,
        "context_tokens": window,
    }


def input_shape(tensor: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(each if isinstance(each, int) else sizes[each] for each in tensor.dims)


def zeros(spec: ComponentSpec, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Return inputs by name, with numbers that do not matter."""
    return {each.name: np.zeros(input_shape(each, sizes), each.dtype) for each in spec.inputs}


def count_component(spec: ComponentSpec, model: nn.Module, sizes: Mapping[str, int]) -> Cost:
    """Count one evaluation of a component. model: its part, on the meta device."""
    inputs = [torch.from_numpy(each) for each in zeros(spec, sizes).values()]
    fixed = [place for place, each in enumerate(spec.inputs) if not IMAGE_AXES & set(each.dims)]
    return count_cost(spec.wrap(model), *inputs, fixed=fixed)


def component_costs(subject: Subject) -> dict[str, Cost]:
    """Count one evaluation of each component for one image of the model's size, by component."""
    sizes = axis_sizes(subject)
    return {
        name: count_component(spec, subject.checkpoint.empty(spec.part), sizes)
        for name, spec in subject.checkpoint.specs.items()
    }
