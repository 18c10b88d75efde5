"""A manifest with variants: opened, described, and each variant chosen by a budget and by its name."""

import contextlib
import json
from pathlib import Path
from random import Random
from typing import Any

from ldm_export.tune.field import field_of
from ldm_runtime.budget import read_budget
from ldm_runtime.engines.choice import choose
from ldm_runtime.engines.profile import Machine
from ldm_runtime.errors import EngineUnavailable, one_line
from ldm_runtime.notice import Notice
from ldm_runtime.package.open import open_package
from ldm_runtime.request import check_request
from ldm_runtime.variants import Abilities, choose_variant, measured_otherwise, named_variant
from tests.fuzz.kind import Kind
from tests.fuzz.mutate import RAW_JSON, UNCHANGED, as_bytes, json_input, json_text, mutate_tree

BUDGETS = ("psnr=10", "psnr=35", "ssim=0", "ssim=1", "exact")
ABLE = Abilities(("avx512_bf16", "avx512_vnni"), lambda engine: None, lambda engine, precision: None)
HERE = Machine("Xeon", ("avx512_bf16", "avx512_vnni"), 2, (), {})


def _prepare(folder: Path) -> tuple[Path, Any]:
    from tests.runtime import tiny_package
    from tests.runtime.package.varied_package import add_variants

    package = add_variants(tiny_package.make(folder / "package"))
    return package, json.loads((package / "manifest.json").read_text(encoding="utf-8"))


def _make(random: Random, prepared: tuple[Path, Any]) -> bytes:
    """Mostly the variants and their artefacts are changed: the rest of a manifest is another kind's."""
    whole = prepared[1]
    if random.random() < UNCHANGED:
        return json_input(random, whole)
    changed = {**whole, "variants": mutate_tree(random, whole["variants"], RAW_JSON)}
    if random.random() < 0.3:
        unet = whole["components"]["unet"]
        artefacts = mutate_tree(random, unet["artefacts"], RAW_JSON)
        changed["components"] = {**whole["components"], "unet": {**unet, "artefacts": artefacts}}
    return as_bytes(json_text(changed))


def _read(content: bytes, prepared: tuple[Path, Any]) -> None:
    package = prepared[0]
    (package / "manifest.json").write_bytes(content)
    opened = open_package(package, check="size")
    notices: list[Notice] = []
    for text in BUDGETS:
        notices += choose_variant(opened, read_budget(text), choose(), ABLE).notices
    for variant in opened.manifest.variants:
        with contextlib.suppress(EngineUnavailable):
            notices += named_variant(opened, variant.name, read_budget("exact"), choose(), ABLE).notices
        request = check_request(opened.manifest.contract, "red", {}, variant.run)
        notices += measured_otherwise(variant, request)
    field_of(opened, None, HERE)
    assert all(one_line(str(notice)) == str(notice) for notice in notices)


KINDS = [Kind("variants", _prepare, _make, _read)]
