"""The search for what stays in float32: what lies in the folder already is not quantised again."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ldm_export.lossy import int8
from ldm_export.lossy.int8 import FORMS


def test_what_is_decided_of_the_decoder_is_not_quantised_again_for_each_trial_of_the_denoiser(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quantised: list[tuple[str, frozenset[str]]] = []

    def quantise(self: Any, form: Any, component: str, keep: frozenset[str]) -> None:
        quantised.append((component, keep))

    def noted(folder: Path, manifest: Any, artefacts: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(artefacts)

    monkeypatch.setattr(int8._Search, "quantised", quantise)
    monkeypatch.setattr(int8._Search, "artefact", lambda *args: None)
    monkeypatch.setattr(int8, "store", lambda graphs, data: None)
    monkeypatch.setattr(int8, "with_artefacts", noted)
    order: Any = SimpleNamespace(folder=tmp_path, manifest=None)
    components: Any = {"unet": "unet", "vae_decoder": "vae_decoder"}
    trials: Any = None
    search = int8._Search(order, trials, components)
    few, more, none = frozenset("a"), frozenset("ab"), frozenset[str]()
    for keep in (none, few):
        assert search._trial(FORMS[0], {"vae_decoder": keep}) == ("vae_decoder",)
    for keep in (none, few, more):
        assert search._trial(FORMS[0], {"vae_decoder": few, "unet": keep}) == ("vae_decoder", "unet")
    assert quantised == [
        ("vae_decoder", none),
        ("vae_decoder", few),
        ("unet", none),
        ("unet", few),
        ("unet", more),
    ]
    search._trial(FORMS[1], {"vae_decoder": few})
    search._trial(FORMS[0], {"vae_decoder": none})
    assert quantised[5:] == [("vae_decoder", few), ("vae_decoder", none)]
