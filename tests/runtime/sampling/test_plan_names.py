"""A sampler has one canonical name, a plan an identity and a table."""

import dataclasses
import hashlib
from typing import Any

import pytest

from ldm_runtime.errors import InputError
from ldm_runtime.sampling.plan import compile_plan
from ldm_runtime.sampling.solvers import PRESETS, SAMPLERS, SOLVERS, Sampler, read_sampler
from ldm_runtime.sampling.solvers.diffusion import DdimOptions, TcdOptions
from tests.runtime.sampling.compiled import compiled
from tests.runtime.sampling.plan_cases import CHANGES, SD15, variants


@pytest.mark.parametrize(("preset", "meaning"), PRESETS.items())
def test_a_short_name_is_a_solver_with_options(preset: str, meaning: str) -> None:
    assert read_sampler(preset) == read_sampler(meaning) and preset not in SOLVERS
    assert read_sampler(meaning).canonical == meaning


def test_a_sampler_has_one_canonical_name() -> None:
    assert read_sampler("dpmpp_2m").canonical == "dpmsolver"
    assert read_sampler("dpmpp_2m_karras:order=3").canonical == "dpmsolver:order=3,sigmas=karras"
    assert read_sampler("dpmsolver:sigmas=karras,order=3").canonical == "dpmsolver:order=3,sigmas=karras"
    assert read_sampler("ddim:eta=0").canonical == "ddim"
    assert read_sampler("ddim:eta=5e-1").canonical == "ddim:eta=0.5"
    for text in (*SAMPLERS, *variants()):
        assert read_sampler(read_sampler(text).canonical) == read_sampler(text)


def test_options_are_values_that_check_themselves() -> None:
    options = DdimOptions(eta=1)
    assert options == DdimOptions(eta=1.0) and hash(options) == hash(DdimOptions(eta=1.0)) and options.clip == 0.0
    assert options != DdimOptions() and options != TcdOptions(eta=1.0)
    assert Sampler("ddim", options) == read_sampler("ddim:eta=1") != read_sampler("ddim")
    assert "eta=1.0" in repr(options)
    for change in (lambda: setattr(options, "eta", 0.5), lambda: delattr(options, "eta")):
        with pytest.raises(AttributeError, match="make another"):
            change()
    for eta in (1.5, float("nan"), "0.5", True, None, 10**400):
        with pytest.raises(InputError, match="^eta is .*, expected a number from 0 to 1$"):
            DdimOptions(eta=eta)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="DdimOptions has no option beta"):
        DdimOptions(beta=1)  # type: ignore[call-arg]


def test_the_identity_is_of_the_inputs_and_fixed() -> None:
    assert compiled(SD15, "ddim", 20).identity == compiled(SD15, "ddim", 20).identity
    assert compiled(SD15, "dpmpp_2m", 20).identity == compiled(SD15, "dpmsolver", 20).identity
    plans = [compiled(SD15, "ddim", 20), compiled(SD15, "ddim", 21), compiled(SD15, "euler", 20)]
    plans += [compiled(SD15, "ddim", 20, 1), compiled(SD15, "ddim:eta=1", 20)]
    plans += [compiled(dataclasses.replace(SD15, **{name: CHANGES[name]}), "ddim", 20) for name in CHANGES]
    assert len({plan.identity for plan in plans}) == len(plans)
    # any implementation must find it
    lines = (
        "beta_end=0.012\nbeta_schedule=scaled_linear\nbeta_start=0.00084999999999999995\nnum_train_timesteps=1000\n"
        "prediction_type=epsilon\nrescale_betas_zero_snr=false\nsampler=ddim\nset_alpha_to_one=false\nstart=0\n"
        "steps=20\nsteps_offset=1\ntimestep_spacing=none\n"
    )
    assert plans[0].identity == hashlib.sha256(lines.encode()).hexdigest()


def test_caching_is_in_a_plan_only_where_it_is_asked_for() -> None:
    plan, cached = (compile_plan(SD15, read_sampler("ddim"), 20, caching=caching) for caching in (None, 2))
    assert plan.to_dict() == compiled(SD15, "ddim", 20).to_dict() and "caching" not in plan.to_dict()
    assert cached.to_dict() == {**plan.to_dict(), "caching": 2, "identity": cached.identity}
    lines = (
        "beta_end=0.012\nbeta_schedule=scaled_linear\nbeta_start=0.00084999999999999995\ncaching=2\n"
        "num_train_timesteps=1000\nprediction_type=epsilon\nrescale_betas_zero_snr=false\nsampler=ddim\n"
        "set_alpha_to_one=false\nstart=0\nsteps=20\nsteps_offset=1\ntimestep_spacing=none\n"
    )
    assert cached.identity == hashlib.sha256(lines.encode()).hexdigest()
    assert [cached.is_whole(row) for row in range(5)] == [True, False, True, False, True]
    assert all(plan.is_whole(row) for row in range(5))
    assert "every row that 2 divides" in cached.describe() and "divides" not in plan.describe()


@pytest.mark.parametrize("caching", [0, 101, 2.0, True])
def test_an_interval_that_no_plan_has_is_refused(caching: Any) -> None:
    with pytest.raises(InputError, match=r"caching is .*; expected an integer from 1 to 100"):
        compile_plan(SD15, read_sampler("ddim"), 20, caching=caching)


def test_the_table_shows_every_row() -> None:
    plan = compiled(SD15, "euler_ancestral", 3)
    lines = plan.describe().splitlines()
    assert len(lines) == 2 + 3
    assert "euler_ancestral, 3 steps" in lines[0] and plan.identity[:16] in lines[0]
    assert "499.5" in lines[3] and "noise of row 1" in lines[3] and "noise" not in lines[4]


def test_a_new_sampler_is_one_line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    again = dataclasses.replace(SOLVERS["ddim"], spacing="trailing")
    monkeypatch.setitem(SOLVERS, "ddim_trailing", again)
    monkeypatch.setitem(SAMPLERS, "ddim_trailing", again.summary)
    rows = compiled(SD15, "ddim_trailing", 4).rows
    assert [row.timestep for row in rows] == [999, 749, 499, 249]
