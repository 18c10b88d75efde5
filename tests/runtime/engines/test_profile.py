"""Profiles: that of this package on this machine is followed; others, stale and damaged ones are not, and are said."""

import dataclasses
import json
import math
import os
import tomllib
from pathlib import Path

import pytest

from ldm_runtime.engines import profile as profiles
from ldm_runtime.engines import units
from ldm_runtime.engines.ort import session
from ldm_runtime.engines.ort.providers import PROVIDERS
from ldm_runtime.engines.profile import Best, Machine, Measured, Profile, place_of, read_profile, this_machine
from ldm_runtime.files import strict_json

ROOT = Path(__file__).parents[3]
PACKAGE, OTHER = "ab" * 32, "cd" * 32
HERE = Machine("Xeon", ("avx2", "avx512f"), 2, (), {"ldm-runtime": "0.1.0", "openvino": "2026.4.1"})
COMPONENTS = ("text_encoder", "unet", "vae_encoder", "vae_decoder")
AGAIN = "run `ldm-export tune ./sd15` again"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, on the machine HERE."""
    monkeypatch.setattr(profiles, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(profiles, "this_machine", lambda: HERE)
    return tmp_path


def made(package: str = PACKAGE, machine: Machine = HERE, **changes: object) -> Profile:
    exact = Best("", {"unet": "openvino", "vae_decoder": "ort"}, 2, 0.4)
    profile = Profile(
        schema_version=1,
        package=package,
        machine=machine,
        date="2026-11-30",
        size=(512, 512),
        steps=20,
        default_seconds=0.5,
        chosen=(exact, Best("int8", {}, None, 0.2)),
        measured=(
            Measured("exact, auto", "", (0.5, 0.51), 0.4, 10**8, None),
            Measured("int8", "int8", (0.2, 0.2), 0.4, 10**8, None),
            Measured("bf16", "bf16", (0.9,), 0.4, 10**8, None),
        ),
    )
    return dataclasses.replace(profile, **changes)


def keep(profile: Profile, place: Path | None = None) -> Path:
    """Write a profile where it belongs, or in another place."""
    own = place_of(profile.package, profile.machine)
    assert own is not None
    file = own if place is None else place
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(strict_json.plain(profile)), encoding="utf-8")
    return file


def read(package: str = PACKAGE) -> tuple[Profile | None, tuple[str, ...]]:
    return read_profile(package, COMPONENTS, "ldm-export tune ./sd15")


def test_a_profile_is_read_as_it_was_written():
    keep(made())
    assert read() == (made(), ())


def test_without_a_profile_there_is_nothing_to_say_and_the_machine_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(profiles, "this_machine", lambda: pytest.fail("looked at"))
    assert read() == (None, ())


def test_two_packages_have_a_profile_each():
    keep(made())
    keep(made(OTHER, size=(64, 64)))
    assert read(PACKAGE)[0] == made() and read(OTHER)[0] == made(OTHER, size=(64, 64))


def test_a_user_without_a_cache_folder_has_none(monkeypatch):
    monkeypatch.setattr(profiles, "cache_folder", lambda: None)
    assert place_of(PACKAGE, HERE) is None and read() == (None, ())


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ({"cpu": "EPYC"}, "on EPYC, and this is Xeon"),
        ({"gpus": ("NVIDIA L4",)}, "on Xeon, NVIDIA L4, and this is Xeon"),
        ({"cores": 8}, "with 8 cores, and this process may use 2"),
        (
            {"versions": {"ldm-runtime": "0.1.0", "openvino": "2026.3.0"}},
            "with openvino 2026.3.0, and this machine has 2026.4.1",
        ),
        ({"versions": {"ldm-runtime": "0.1.0"}}, "with openvino no version, and this machine has 2026.4.1"),
        ({"units": ("avx2",)}, "where the CPU had other units than here"),
    ],
)
def test_a_profile_of_another_machine_or_other_versions_is_not_followed_and_said(then, said):
    keep(made(machine=dataclasses.replace(HERE, **then)))
    assert read() == (None, (f"the profile of this package was measured {said}; {AGAIN}",))


def test_beside_the_profile_of_this_machine_others_are_of_no_interest():
    keep(made(machine=dataclasses.replace(HERE, cores=8)))
    keep(made())
    assert read() == (made(), ())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("{}", "lacks the key 'schema_version'"),
        ("[1]", "must be an object"),
        ('{"schema_version": NaN}', "NaN is not a JSON number"),
        ("\ufeff{}", "begins with a byte order mark"),
    ],
)
def test_a_damaged_profile_is_as_none_and_said(content, why):
    keep(made()).write_text(content, encoding="utf-8")
    found, (notice,) = read()
    assert found is None and why in notice
    assert notice.startswith("the profile of this package is damaged and not followed: ") and notice.endswith(AGAIN)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schema_version": 2}, "has the version 2; expected 1"),
        ({"package": OTHER}, "is of another package or machine than its name says"),
        ({"machine": dataclasses.replace(HERE, cores=3)}, "is of another package or machine than its name says"),
        ({"chosen": (Best("", {"unet": "abacus"}, None, 0.1),)}, "engine is 'abacus'"),
        ({"chosen": (Best("", {}, 0, 0.1),)}, "threads is 0"),
        ({"chosen": (Best("", {"unet": "ort,vae"}, None, 0.1),)}, "has a choice that cannot be"),
        (
            {"chosen": (Best("", {"vae": "ort"}, None, 0.1),)},
            "has an engine for 'vae'; expected one of text_encoder, unet",
        ),
    ],
)
def test_a_profile_that_cannot_be_is_as_none_and_said(change, why):
    keep(made(**change), place_of(PACKAGE, HERE))
    found, (notice,) = read()
    assert found is None and why in notice and notice.endswith(AGAIN)


def test_an_immense_one_is_not_read(monkeypatch):
    keep(made())
    monkeypatch.setattr(profiles, "_MAX_BYTES", 10)
    found, (notice,) = read()
    assert found is None and "is larger than 10 bytes" in notice


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("machine", [HERE, dataclasses.replace(HERE, cores=8)])
def test_a_pipe_in_its_place_is_not_waited_for(machine):
    place = keep(made(machine=machine))
    place.unlink()
    os.mkfifo(place)
    found, notices = read()
    assert found is None
    assert [f"{place} is not a regular file" in notice for notice in notices] == ([True] if machine is HERE else [])


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no devices in /dev")
def test_of_a_device_in_its_place_nothing_is_read():
    place = keep(made())
    place.unlink()
    place.symlink_to("/dev/zero")
    found, (notice,) = read()
    assert found is None and f"{place} is not a regular file" in notice


def test_a_folder_in_its_place_is_as_none_and_said():
    place = keep(made())
    place.unlink()
    place.mkdir()
    found, (notice,) = read()
    assert found is None and notice.endswith(AGAIN)


def test_a_cache_folder_that_cannot_be_looked_into_has_no_profiles(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "cache_folder", lambda: tmp_path / ("long" * 2000))
    assert read() == (None, ())


def test_a_damaged_one_of_another_machine_is_not_said_here():
    keep(made(machine=dataclasses.replace(HERE, cores=8))).write_text("{", encoding="utf-8")
    assert read() == (None, ())


def test_a_variant_that_does_not_beat_the_default_takes_for_ever():
    assert made().seconds() == {"": 0.4, "int8": 0.2, "bf16": math.inf}


def test_of_a_variant_whose_turn_did_not_come_nothing_is_known_but_of_one_that_does_not_run_it_is():
    turns = (Measured("late", "late", (), None, None, None), Measured("large", "large", (), None, None, "no memory"))
    assert made(measured=turns).seconds() == {"": 0.4, "int8": 0.2, "large": math.inf}
    assert made().of("int8") == Best("int8", {}, None, 0.2) and made().of("bf16") is None


def test_what_was_chosen_is_a_choice_of_engines():
    exact = made().of("")
    assert exact is not None
    choice = exact.choice()
    assert dict(choice.parts) == {"unet": "openvino", "vae_decoder": "ort"} and choice.threads == 2
    assert choice.otherwise == "auto" and Best("", {}, None, 1.0).choice().text == "auto"


def test_the_name_of_a_file_tells_packages_and_machines_apart():
    places = {place_of(PACKAGE, HERE), place_of(OTHER, HERE)}
    places |= {place_of(PACKAGE, dataclasses.replace(HERE, cores=8)), place_of(PACKAGE, HERE)}
    assert len(places) == 3


def test_this_machine_is_described_alike_twice(monkeypatch):
    monkeypatch.undo()
    here = this_machine()
    assert here == this_machine() and here.cpu and here.cores >= 1
    assert "onnxruntime" in here.versions and list(here.units) == sorted(here.units)


def test_a_machine_that_hides_its_cpus_is_described_all_the_same(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(units, "CPUINFO", tmp_path)  # a folder cannot be read
    assert this_machine().cpu


def test_every_wheel_that_computes_has_its_version_in_a_profile():
    """By the extras of the runtime and by what is to be installed for each provider."""
    extras = tomllib.loads((ROOT / "runtime/pyproject.toml").read_text())["project"]["optional-dependencies"]
    wheels = {wheel.partition(">")[0] for wheels in extras.values() for wheel in wheels if "ldm-" not in wheel}
    wheels -= {"cuda-bindings"}  # calls the driver, computes nothing
    commands = [provider.install.split()[2:] for provider in PROVIDERS.values()]
    wheels |= {word for words in commands for word in words if "ldm-runtime" not in word}
    assert wheels | set(session._DISTRIBUTIONS) <= set(profiles._DISTRIBUTIONS)
    assert {"tensorrt-rtx-cu12", "onnxruntime-qnn", "tensorrt"} <= wheels
