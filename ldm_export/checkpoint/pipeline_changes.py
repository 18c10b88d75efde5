"""Changes that diffusers' pipelines make to a scheduler, whatever its file says: by their constructors and calls."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ldm_export.checkpoint.scheduler import knows_steps_offset
from ldm_runtime.sampling.solvers import Sampler
from ldm_runtime.sampling.solvers.options import Value

# Options that are set where the scheduler has them -> the classes that have them without the file's saying so.
_KNOWN_BY = {"clip_sample": ("DDIMScheduler", "DDPMScheduler"), "skip_prk_steps": ("PNDMScheduler",)}


def scheduler_as_run(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return scheduler_config.json as a pipeline runs it; `changes` are the options that its constructor sets."""
    name = config.get("_class_name")
    changed = dict(config)
    for option, value in changes.items():
        is_known = isinstance(name, str) and (
            knows_steps_offset(name) if option == "steps_offset" else name in _KNOWN_BY[option]
        )
        # A bool is inverted; what is no bool is left for the reader to refuse.
        was = changed.get(option, not value if type(value) is bool else None)
        if (option in changed or is_known) and (type(value) is not bool or was is (not value)):
            changed[option] = value
    return changed


def sampler_as_called(sampler: Sampler, options: Mapping[str, Value]) -> Sampler:
    """Return a sampler as a pipeline calls it; `options` are those that its calls set where the solver has them."""
    known = {name: value for name, value in options.items() if name in vars(sampler.options)}
    if not known:
        return sampler
    return dataclasses.replace(sampler, options=type(sampler.options)(**{**vars(sampler.options), **known}))
