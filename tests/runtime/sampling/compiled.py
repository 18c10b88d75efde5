"""Plans of samplers that tests name by their texts."""

from ldm_runtime.sampling.plan import Plan, compile_plan
from ldm_runtime.sampling.schedule import Schedule
from ldm_runtime.sampling.solvers import read_sampler


def compiled(schedule: Schedule, sampler: str, steps: int, start: int = 0) -> Plan:
    """Compile the plan of the sampler that a text names."""
    return compile_plan(schedule, read_sampler(sampler), steps, start)
