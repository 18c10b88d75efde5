"""Noise schedules: the numbers, what is read from diffusers' configurations, and what is refused by name."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import diffusers.schedulers
import numpy as np
import pytest

from ldm_runtime.errors import ConfigError
from ldm_runtime.plan import compile_plan
from ldm_runtime.schedule import BETA_SCHEDULES, NoiseSchedule, default_sampler
from tests.runtime import diffusers_schedulers as oracle

# As published, older than the keys prediction_type and timestep_spacing.
SD15_FILE: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
SD21_FILE = {**SD15_FILE, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
TURBO_FILE = {
    **SD15_FILE,
    "_class_name": "EulerAncestralDiscreteScheduler",
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "timestep_spacing": "trailing",
    "use_karras_sigmas": False,
}
SD15 = NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon", None, 1, False, False)

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # numpy 2, inside diffusers

READABLE = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)


def saved_config(scheduler: Any, folder: Path) -> dict[str, Any]:
    """The file that diffusers writes, read as JSON."""
    scheduler.save_pretrained(folder)
    return json.loads((folder / "scheduler_config.json").read_text())


# --- the numbers ---


@pytest.mark.parametrize("zero_snr", (False, True))
@pytest.mark.parametrize("beta_schedule", BETA_SCHEDULES)
def test_alphas_are_those_of_diffusers(beta_schedule: str, zero_snr: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = dataclasses.replace(SD15, beta_schedule=beta_schedule, rescale_betas_zero_snr=zero_snr)
    ours = schedule.alphas_cumprod()
    shipped = oracle.open_scheduler(schedule, "ddim", 1).alphas_cumprod.numpy()
    np.testing.assert_allclose(ours, shipped, atol=1e-6, rtol=0)
    oracle.run_in_float64(monkeypatch)
    exact = oracle.open_scheduler(schedule, "ddim", 1).alphas_cumprod.numpy()
    np.testing.assert_allclose(ours, exact, rtol=1e-10, atol=1e-20)
    assert ours.dtype == np.float64 and ours.shape == (1000,) and (np.diff(ours) < 0).all()
    assert (ours[-1] == 0.0) == zero_snr


def test_a_schedule_of_another_length_is_read() -> None:
    assert dataclasses.replace(SD15, num_train_timesteps=37).alphas_cumprod().shape == (37,)


# --- diffusers' configurations ---


def test_stable_diffusion_1_5_is_read() -> None:
    assert NoiseSchedule.from_scheduler_config(SD15_FILE) == SD15


def test_stable_diffusion_2_1_is_read() -> None:
    expected = dataclasses.replace(SD15, prediction_type="v_prediction")
    assert NoiseSchedule.from_scheduler_config(SD21_FILE) == expected


def test_a_turbo_model_is_read() -> None:
    expected = dataclasses.replace(SD15, timestep_spacing="trailing")
    assert NoiseSchedule.from_scheduler_config(TURBO_FILE) == expected


@pytest.mark.parametrize("sampler", oracle.CLASSES)
@pytest.mark.parametrize("file", (SD15_FILE, SD21_FILE, TURBO_FILE), ids=("sd15", "sd21", "turbo"))
def test_a_file_gives_the_timesteps_that_diffusers_gives_it(file: dict[str, Any], sampler: str) -> None:
    """Also where the file names no spacing: DDIM then counts leading, the other schedulers linspace."""
    source = getattr(diffusers.schedulers, file["_class_name"]).from_config(file)
    cls, options = oracle.CLASSES[sampler]
    scheduler = cls.from_config(source.config, **options)
    for steps in (1, 2, 20):
        scheduler.set_timesteps(steps)
        plan = compile_plan(NoiseSchedule.from_scheduler_config(file), sampler, steps)
        assert [row.timestep for row in plan.rows] == scheduler.timesteps.tolist()


@pytest.mark.parametrize("class_name", READABLE)
def test_the_file_of_every_supported_class_is_read(class_name: str, tmp_path: Path) -> None:
    """What diffusers itself writes, with every key of the class in it."""
    cls = getattr(diffusers.schedulers, class_name)
    wanted = {
        "num_train_timesteps": 900,
        "beta_start": 0.001,
        "beta_end": 0.015,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
        "steps_offset": 3,
        "set_alpha_to_one": False,
        "rescale_betas_zero_snr": True,
    }
    known = set(saved_config(cls(), tmp_path / "probe"))
    options = {key: value for key, value in wanted.items() if key in known}
    if "clip_sample" in known:
        options["clip_sample"] = False
    config = saved_config(cls(**options), tmp_path / "saved")
    schedule = NoiseSchedule.from_scheduler_config(config).to_dict()
    silent = {
        "timestep_spacing": None,
        "steps_offset": 0,
        "set_alpha_to_one": True,
        "rescale_betas_zero_snr": False,
    }
    assert schedule == {**silent, **{key: options[key] for key in wanted if key in options}}


@pytest.mark.parametrize("class_name", ("DDIMScheduler", "DDPMScheduler"))
def test_clipping_by_default_is_refused(class_name: str) -> None:
    file = {**SD15_FILE, "_class_name": class_name}
    NoiseSchedule.from_scheduler_config(file)
    del file["clip_sample"]
    with pytest.raises(ConfigError, match=r"clip_sample = True, which is not supported; expected False"):
        NoiseSchedule.from_scheduler_config(file)


def test_no_clipping_where_the_class_has_none() -> None:
    file = {key: value for key, value in SD15_FILE.items() if key != "clip_sample"}
    assert NoiseSchedule.from_scheduler_config(file) == SD15


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trained_betas", [0.1, 0.2]),
        ("clip_sample", True),
        ("thresholding", True),
        ("use_karras_sigmas", True),
        ("use_exponential_sigmas", True),
        ("use_beta_sigmas", True),
        ("use_lu_lambdas", True),
        ("use_flow_sigmas", True),
        ("use_dynamic_shifting", True),
        ("interpolation_type", "log_linear"),
        ("timestep_type", "continuous"),
        ("final_sigmas_type", "sigma_min"),
        ("sigma_min", 0.03),
        ("sigma_max", 14.0),
        ("shift_terminal", 0.1),
        ("lambda_min_clipped", -5.1),
        ("variance_type", "learned_range"),
        ("a_key_of_the_future", 1.5),
        ("a_switch_of_the_future", True),
        ("a_count_of_the_future", 0),
        ("beta_schedule", "sigmoid"),
        ("beta_schedule", "laplace"),
        ("prediction_type", "flow_prediction"),
        ("timestep_spacing", "cosine"),
        ("rescale_betas_zero_snr", 1),
        ("set_alpha_to_one", "no"),
        ("num_train_timesteps", 1000.0),
        ("steps_offset", -1),
        ("steps_offset", True),
        ("beta_start", 0.0),
        ("beta_start", 1e-9),
        ("num_train_timesteps", 1),
        ("num_train_timesteps", 20_000),
        ("beta_end", 1.0),
        ("beta_end", "0.012"),
        ("beta_end", float("nan")),
        ("beta_start", 0.02),
    ],
)
def test_what_changes_the_image_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        NoiseSchedule.from_scheduler_config({**SD15_FILE, key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("thresholding", False),
        ("sample_max_value", 1.0),
        ("dynamic_thresholding_ratio", 0.9),
        ("solver_order", 3),
        ("algorithm_type", "sde-dpmsolver++"),
        ("lambda_min_clipped", -float("inf")),
        ("variance_type", "fixed_small"),
        ("a_switch_of_the_future", False),
        ("a_key_of_the_future", None),
        ("_use_default_values", ["prediction_type"]),
        ("timestep_spacing", None),
    ],
)
def test_what_leaves_the_schedule_alone_is_accepted(key: str, value: object) -> None:
    assert NoiseSchedule.from_scheduler_config({**SD15_FILE, key: value}) == SD15


@pytest.mark.parametrize(
    "class_name",
    ("FlowMatchEulerDiscreteScheduler", "LCMScheduler", "TCDScheduler", "EDMEulerScheduler", None, ["x"]),
)
def test_another_family_of_schedulers_is_refused(class_name: object) -> None:
    with pytest.raises(ConfigError, match="_class_name .* is not supported; expected one of DDIMScheduler"):
        NoiseSchedule.from_scheduler_config({**SD15_FILE, "_class_name": class_name})


@pytest.mark.parametrize("key", ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule"))
def test_betas_are_not_guessed(key: str) -> None:
    file = {name: value for name, value in SD15_FILE.items() if name != key}
    with pytest.raises(ConfigError, match=f"lacks {key}"):
        NoiseSchedule.from_scheduler_config(file)


# --- the default sampler ---


@pytest.mark.parametrize(
    ("changes", "sampler"),
    [
        ({"_class_name": "DDIMScheduler"}, "ddim"),
        ({"_class_name": "EulerDiscreteScheduler"}, "euler"),
        ({"_class_name": "EulerAncestralDiscreteScheduler"}, "euler_ancestral"),
        ({"_class_name": "DPMSolverMultistepScheduler"}, "dpmpp_2m"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": False}, "dpmpp_2m"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}, "dpmpp_2m_karras"),
        ({"_class_name": "PNDMScheduler"}, "dpmpp_2m"),
        ({"_class_name": "UniPCMultistepScheduler"}, "dpmpp_2m"),
    ],
)
def test_the_default_sampler_is_that_of_the_file_where_we_have_it(changes: dict[str, Any], sampler: str) -> None:
    file = {**SD15_FILE, **changes}
    assert default_sampler(file) == sampler
    compile_plan(NoiseSchedule.from_scheduler_config(file), sampler, 20)


# --- writing and reading back ---

VARIANTS = (
    SD15,
    dataclasses.replace(SD15, prediction_type="v_prediction", timestep_spacing="trailing", set_alpha_to_one=True),
    dataclasses.replace(SD15, rescale_betas_zero_snr=True, steps_offset=0, beta_schedule="linear"),
)


@pytest.mark.parametrize("schedule", VARIANTS)
def test_a_written_configuration_is_read_back(schedule: NoiseSchedule) -> None:
    through_json = json.loads(json.dumps(schedule.to_scheduler_config(), allow_nan=False))
    assert NoiseSchedule.from_scheduler_config(through_json) == schedule


@pytest.mark.parametrize("schedule", VARIANTS)
def test_diffusers_opens_a_written_configuration(schedule: NoiseSchedule, tmp_path: Path) -> None:
    (tmp_path / "scheduler_config.json").write_text(json.dumps(schedule.to_scheduler_config()))
    scheduler = diffusers.schedulers.DDIMScheduler.from_pretrained(tmp_path)
    assert scheduler.config.clip_sample is False
    assert (
        NoiseSchedule.from_scheduler_config({**scheduler.config, "timestep_spacing": schedule.timestep_spacing})
        == schedule
    )


@pytest.mark.parametrize("schedule", VARIANTS)
def test_a_manifest_entry_is_read_back(schedule: NoiseSchedule) -> None:
    assert NoiseSchedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule


def test_a_manifest_entry_with_a_missing_or_unknown_key_is_refused() -> None:
    values = SD15.to_dict()
    with pytest.raises(ConfigError, match="unknown beta_middle; expected beta_end, .*timestep_spacing"):
        NoiseSchedule.from_dict({**values, "beta_middle": 0.1})
    del values["steps_offset"], values["beta_end"]
    with pytest.raises(ConfigError, match="missing beta_end, steps_offset"):
        NoiseSchedule.from_dict(values)


def test_a_manifest_entry_with_a_wrong_value_is_refused() -> None:
    for name, value in {
        "num_train_timesteps": "1000",
        "beta_start": None,
        "prediction_type": "x",
        "steps_offset": 1e3,
    }.items():
        with pytest.raises(ConfigError, match=name):
            NoiseSchedule.from_dict({**SD15.to_dict(), name: value})
