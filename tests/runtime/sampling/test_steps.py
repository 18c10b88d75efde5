"""A plan says which of its rows end a sampling step: as many as `--steps` asks for, whatever a step evaluates."""

import itertools

import numpy as np
import pytest

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.loop import run_plan
from ldm_runtime.sampling.plan import Plan
from ldm_runtime.sampling.schedule import FlowSchedule, NoiseSchedule
from ldm_runtime.sampling.solvers import SOLVERS
from tests.runtime.noise.philox import initial_noise
from tests.runtime.sampling.compiled import compiled
from tests.runtime.sampling.test_loop import SD15, SHAPE, denoise, noise_of

FLOW = FlowSchedule(1000, 3.0, None)
V_PREDICTION = NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "v_prediction", None, 1, False, False)


def plan_of(sampler: str, steps: int, start: int = 0) -> Plan:
    schedule = {"flow_euler": FLOW, "ipndm": V_PREDICTION}.get(sampler.partition(":")[0], SD15)
    return compiled(schedule, sampler, steps, start)


def evaluations(plan: Plan) -> list[int]:
    """The number of evaluations of each step."""
    counts, inside = [], 0
    for row in plan.rows:
        inside += 1
        if row.ends_step:
            counts.append(inside)
            inside = 0
    assert inside == 0, "the last row ends a step"
    return counts


@pytest.mark.parametrize("sampler", [*SOLVERS, "pndm:skip_prk_steps=true", "heun:sigmas=karras", "dpmsolver:order=3"])
def test_a_plan_has_as_many_steps_as_were_asked_for(sampler: str) -> None:
    number = 0
    for steps, start in itertools.product((1, 2, 3, 4, 5, 20), (0, 1, 3)):
        if start >= steps:
            continue
        try:
            plan = plan_of(sampler, steps, start)
        except InputError:
            continue  # some solvers do not take few steps, or a late start
        number += 1
        assert len(evaluations(plan)) == plan.taken == steps - start
    assert number > 0


EVALUATIONS = {
    "heun": [2, 2, 2, 2, 1],
    "dpm2": [2, 2, 2, 2, 1],
    "dpm2_ancestral": [2, 2, 2, 2, 1],
    "dpmpp_sde": [2, 2, 2, 2, 1],
    "dpmsolver_singlestep": [1, 1, 1, 1, 1],
    "dpmsolver_singlestep:order=3,lower_order_final=true": [1, 1, 1, 1, 1],
    "pndm": [4, 4, 4, 1, 1],
    "plms": [2, 1, 1, 1, 1],
}


@pytest.mark.parametrize("sampler", EVALUATIONS)
def test_steps_of_several_evaluations_are_known(sampler: str) -> None:
    plan = plan_of(sampler, 5)
    assert evaluations(plan) == EVALUATIONS[sampler]
    # A step ends at the noise level where the next one begins.
    for row, following in itertools.pairwise(plan.rows):
        if row.ends_step:
            assert (row.alpha_next, row.sigma_next) == pytest.approx((following.alpha, following.sigma))


@pytest.mark.parametrize("sampler", EVALUATIONS)
def test_the_loop_counts_steps_and_evaluations_apart(sampler: str) -> None:
    plan = plan_of(sampler, 5)
    states = list(run_plan(plan, denoise, initial_noise(0, 1, SHAPE), noise_of(0)))
    steps = [step for step, count in enumerate(EVALUATIONS[sampler]) for _ in range(count)]
    assert [state.index for state in states] == steps and {state.total for state in states} == {5}
    assert [state.evaluations for state in states] == list(range(1, len(plan.rows) + 1))
    assert [state.ends_step for state in states] == [row.ends_step for row in plan.rows]
    assert np.isfinite(states[-1].latents).all()
