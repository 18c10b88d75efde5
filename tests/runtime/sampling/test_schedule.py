"""Noise schedules: their numbers, and how a manifest keeps them."""

import dataclasses
import json
from typing import Any, cast

import numpy as np
import pytest

from ldm_runtime.errors import LdmError
from ldm_runtime.files import strict_json
from ldm_runtime.sampling.schedule import BETA_SCHEDULES, FlowSchedule, NoiseSchedule, Schedule
from tests.runtime.sampling import diffusers_schedulers as oracle

SD15 = NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon", None, 1, False, False)

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # numpy 2, inside diffusers


# --- the numbers ---


@pytest.mark.parametrize("zero_snr", (False, True))
@pytest.mark.parametrize("beta_schedule", BETA_SCHEDULES)
def test_alphas_are_those_of_diffusers(beta_schedule: str, zero_snr: bool) -> None:
    schedule = dataclasses.replace(SD15, beta_schedule=beta_schedule, rescale_betas_zero_snr=zero_snr)
    ours = schedule.alphas_cumprod()
    shipped = oracle.open_scheduler(schedule, "ddim", 1).alphas_cumprod.numpy()
    np.testing.assert_allclose(ours, shipped, atol=1e-6, rtol=0)
    with oracle.float64():
        exact = oracle.open_scheduler(schedule, "ddim", 1).alphas_cumprod.numpy()
    np.testing.assert_allclose(ours, exact, rtol=1e-10, atol=1e-20)
    assert ours.dtype == np.float64 and ours.shape == (1000,) and (np.diff(ours) < 0).all()
    assert (ours[-1] == 0.0) == zero_snr


def test_a_schedule_of_another_length_is_read() -> None:
    assert dataclasses.replace(SD15, num_train_timesteps=37).alphas_cumprod().shape == (37,)


# --- in a manifest ---


def read(values: dict[str, Any]) -> Schedule:
    """The schedule of a manifest."""
    schedule: Schedule = strict_json.read(cast("type[Schedule]", Schedule), values, "schedule")
    return schedule


VARIANTS: tuple[Schedule, ...] = (
    SD15,
    FlowSchedule(1000, 3.0, None),
    FlowSchedule(500, 1.0, 0.1),
    dataclasses.replace(SD15, prediction_type="v_prediction", timestep_spacing="trailing", set_alpha_to_one=True),
    dataclasses.replace(SD15, rescale_betas_zero_snr=True, steps_offset=0, beta_schedule="linear"),
)


@pytest.mark.parametrize("schedule", VARIANTS)
def test_a_manifest_entry_is_read_back(schedule: Schedule) -> None:
    assert read(json.loads(json.dumps(schedule.to_dict()))) == schedule


def test_a_manifest_entry_with_a_missing_or_unknown_key_is_refused() -> None:
    values = SD15.to_dict()
    with pytest.raises(LdmError, match="unknown key 'beta_middle'"):
        read({**values, "beta_middle": 0.1})
    del values["beta_end"]
    with pytest.raises(LdmError, match="lacks the key 'beta_end'"):
        read(values)


def test_a_manifest_entry_with_a_wrong_value_is_refused() -> None:
    for name, value in {
        "num_train_timesteps": "1000",
        "beta_start": None,
        "prediction_type": "x",
        "steps_offset": 1e3,
    }.items():
        with pytest.raises(LdmError, match=name):
            read({**SD15.to_dict(), name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shift": 0.0}, "shift is 0.0, expected a number"),
        ({"shift": "3"}, "shift must be a number"),
        ({"shift": True}, "shift must be a number"),
        ({"shift_terminal": 1.0}, "shift_terminal is 1.0"),
        ({"num_train_timesteps": 1}, "num_train_timesteps is 1"),
        ({"beta_start": 0.1}, "unknown key 'beta_start'"),
    ],
)
def test_a_flow_with_a_wrong_value_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(LdmError, match=message):
        read({**FlowSchedule(1000, 3.0, None).to_dict(), **changes})
