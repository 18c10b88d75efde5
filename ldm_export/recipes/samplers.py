"""Rules about the samplers that recipes name."""

from ldm_export.recipes.toml import Rule, hint
from ldm_runtime.sampling.solvers import SAMPLERS, Sampler, read_sampler

MAX_SAMPLE_STEPS = 1000  # a plan is compiled only to see that it can be; a longer one takes seconds


def sampler_name(field: str) -> Rule:
    """Make the rule that a sampler, if one is set, has a known name; its options are for `try_sampler`."""

    def sentence(sampler: str) -> str:
        return f"{field} must be one of {', '.join(SAMPLERS)}{hint(sampler.partition(':')[0], SAMPLERS)}"

    return Rule((field,), lambda sampler: sampler is None or has_known_name(sampler), sentence)


def has_known_name(sampler: str) -> bool:
    return sampler.partition(":")[0] in SAMPLERS


def try_sampler(sampler: str | None) -> Sampler | None:
    """Read a sampler of a known name. Raises InputError for its options."""
    return read_sampler(sampler) if sampler is not None and has_known_name(sampler) else None
