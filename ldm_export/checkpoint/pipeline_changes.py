"""Changes that the constructors of diffusers' pipelines make to a scheduler's config, whatever the file says."""

from collections.abc import Mapping
from typing import Any

from ldm_export.checkpoint.scheduler import knows_steps_offset

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
