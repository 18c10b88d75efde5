"""Packages opened by the C++ library: the same ones as in Python, the others refused with the same codes."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ldm_runtime.files.hash_cache import HashCache
from ldm_runtime.package.open import open_package
from tests import hub_cache
from tests.test_golden import GOLDEN, change, load

pytestmark = pytest.mark.slow


def opened(programs: Path, check: str, *folders: Path, cache: Path) -> list[str]:
    """Return the identity of each package, or the code that refuses it."""
    command = [str(programs / "open_package"), check, *map(str, folders)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()


def is_read_later(case: dict[str, Any]) -> bool:
    """Return whether only who runs a package finds what is wrong: its tokenizer, or a graph's signature."""
    if any(edit.get("file") == "tokenizer/tokenizer.json" for edit in case["edits"]):
        return case["code"] != "file.hash"
    return case["code"] == "graph.signature"


def test_golden_packages(programs: Path, tmp_path: Path) -> None:
    cases = load("packages")
    whys, folders = [f"{index}: {case['why']}" for index, case in enumerate(cases)], []
    for index, case in enumerate(cases):
        folder = tmp_path / str(index) / "package"
        shutil.copytree(GOLDEN / "package", folder)
        (folder.parent / "model.safetensors").write_bytes((folder / "unet" / "model.safetensors").read_bytes())
        change(folder, case["edits"])
        folders.append(folder)
    results = opened(programs, "full", *folders, cache=tmp_path / "cache")
    expected = [None if is_read_later(case) else case["code"] for case in cases]
    refused = [None if len(result) == 64 else result for result in results]
    assert dict(zip(whys, refused, strict=True)) == dict(zip(whys, expected, strict=True))


def test_identity_and_remembered_hashes_are_shared_with_python(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ours = Path(shutil.copytree(GOLDEN / "package", tmp_path / "package"))
    package = open_package(ours)
    package.confirm()
    written = json.loads((remembered := next((tmp_path / "cache").rglob("*.json"))).read_text())
    assert opened(programs, "cached", ours, cache=tmp_path / "cache") == [package.identity]
    assert json.loads(remembered.read_text()) == written  # nothing had to be measured
    remembered.unlink()
    assert opened(programs, "cached", ours, cache=tmp_path / "cache") == [package.identity]
    assert json.loads(remembered.read_text()) == written
    assert HashCache.of(ours).get("unet/model.onnx") is not None

    # Either believes what the other has remembered.
    written["unet/model.onnx"][-1] = "0" * 64
    remembered.write_text(json.dumps(written))
    assert opened(programs, "cached", ours, cache=tmp_path / "cache") == ["file.hash"]
    assert opened(programs, "full", ours, cache=tmp_path / "cache") == [package.identity]
    assert opened(programs, "cached", ours, cache=tmp_path / "cache") == [package.identity]


def test_snapshots_of_a_hub_are_checked_by_their_hashes(programs: Path, tmp_path: Path) -> None:
    snapshot = hub_cache.make(GOLDEN / "package", tmp_path / "hub")
    identity = open_package(GOLDEN / "package", check="size").identity
    for check in ("full", "cached", "size"):
        assert opened(programs, check, snapshot, cache=tmp_path / "cache") == [identity]
    blob = (snapshot / "unet" / "model.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    for check in ("full", "cached", "size"):
        assert opened(programs, check, snapshot, cache=tmp_path / "cache") == ["file.hash"]
