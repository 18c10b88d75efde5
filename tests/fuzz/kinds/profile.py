"""What `ldm-export tune` keeps in the user's cache folder: whatever stands there, a sound package is drawn with."""

import dataclasses
import json
import os
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from ldm_runtime.engines import profile as profiles
from ldm_runtime.engines.profile import Best, Machine, Measured, Profile
from ldm_runtime.errors import one_line
from ldm_runtime.files import strict_json
from ldm_runtime.notice import Notice
from tests.fuzz.kind import Kind
from tests.fuzz.mutate import json_input

PACKAGE, COMPONENTS = "ab" * 32, ("text_encoder", "unet", "vae_encoder", "vae_decoder")
HERE = Machine("Xeon", ("avx2", "avx512f"), 2, ("a GPU",), {"ldm-runtime": "0.1.0", "openvino": "2026.4.1"})
_CHOSEN = (Best("", {"unet": "openvino", "vae_decoder": "ort"}, 2, 0.4), Best("int8", {}, None, 0.2))
_MEASURED = (
    Measured("exact, auto", "", (0.5, 0.51), 0.4, 10**8, None),
    Measured("bf16", "bf16", (), None, None, "it is not here"),
)
GOOD = Profile(1, PACKAGE, HERE, "2026-11-30", (512, 512), 20, 0.5, _CHOSEN, _MEASURED)


def _prepare(folder: Path) -> tuple[Path, Path, Any]:
    """The places of this machine's profile and of another one's, and what is in the first."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    own, other = (profiles.place_of(PACKAGE, each) for each in (HERE, dataclasses.replace(HERE, cores=8)))
    assert own is not None and other is not None
    own.parent.mkdir(parents=True)
    return own, other, strict_json.plain(GOOD)


def _make(random: Random, prepared: tuple[Path, Path, Any]) -> bytes:
    """In front of the file one byte: whose machine's it is."""
    return random.choice((b"0", b"1")) + json_input(random, prepared[2])


def _read(content: bytes, prepared: tuple[Path, Path, Any]) -> None:
    own, other, _ = prepared
    os.environ["XDG_CACHE_HOME"] = str(own.parents[2])
    for place in (own, other):
        place.unlink(missing_ok=True)
    (own if content[:1] == b"0" else other).write_bytes(content[1:])
    with mock.patch.object(profiles, "this_machine", lambda: HERE):
        found, said = profiles.read_profile(PACKAGE, COMPONENTS, "ldm-export tune ./sd15")
    assert all(one_line(text) == text for text in (str(Notice("profile", sentence)) for sentence in said))
    if found is not None:
        sorted(found.seconds().values())
        for each in found.chosen:
            assert each.choice().text != "" and found.of(each.variant) is not None
        json.dumps(strict_json.plain(found), allow_nan=False)


KINDS = [Kind("profile", _prepare, _make, _read)]
